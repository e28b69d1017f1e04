//! Reads the sockets of all namespaces: over netlink where that changes nothing, from texts otherwise.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::diag::{self, SOCK_DIAG_BY_FAMILY};
use super::model::{Family, FamilyScan, Handle, NamespaceScan, Scan, Socket, Source};
use super::modules::Modules;
use super::namespaces::{self, Namespace, texts_of_this_thread, visit};
use super::netlink::Channel;
use super::owners::{owners, word};
use super::text;
use crate::host::{Folder, Host, HostError, SMALL};

/// Most bytes of a text that are read: one of [`MAX_SOCKETS`] lines fits.
pub(super) const MAX_TEXT: usize = 40 << 20;
/// Most sockets of a family in a namespace that are held in memory.
const MAX_SOCKETS: usize = 1 << 18;
/// After this no further namespace is looked at.
const DEADLINE: Duration = Duration::from_secs(40);

/// All sockets of the host, and the descriptors that stand for them.
pub fn scan(host: &Host) -> Scan {
    let mut scan = Scan::default();
    let mut reader = Reader::new(host);
    let (known, unseen) = match namespaces::of_processes(host) {
        Ok(found) => found,
        Err(error) => (Vec::new(), Some(word(&error))),
    };
    scan.failures
        .extend(unseen.map(|error| ("namespaces".to_owned(), error)));
    scan.namespaces = known
        .iter()
        .map(|namespace| reader.namespace(host, namespace))
        .collect();
    scan.owners = owners(host);
    let kept = namespaces::kept(host, &scan.owners, &known);
    scan.namespaces.extend(
        kept.iter()
            .map(|namespace| reader.namespace(host, namespace)),
    );
    scan
}

/// The sockets of the namespaces that processes live in, without their owners.
///
/// # Errors
/// When `/proc` can not be listed.
pub(crate) fn asked(host: &Host) -> Result<Vec<NamespaceScan>, HostError> {
    let mut reader = Reader::new(host);
    let (known, _) = namespaces::of_processes(host)?;
    let read = known.iter().map(|known| reader.namespace(host, known));
    Ok(read.collect())
}

/// As [`asked`], from the texts below `/proc/PID/net` alone, of the namespaces in which these processes live.
pub(crate) fn told(host: &Host, scans: &[NamespaceScan]) -> Vec<Answer> {
    let texts = |scan: &NamespaceScan| {
        let own = || host.own().and_then(|own| own.folder("net"));
        let folder = match (&scan.handle, scan.pid) {
            (Handle::Own, _) => own().ok(),
            (_, Some(pid)) => host.root().folder(format!("proc/{pid}/net")).ok(),
            (_, None) => None,
        };
        Families::new(folder.or_else(|| recorded(host)), scan.inode, None).read()
    };
    scans.iter().map(texts).collect()
}

struct Reader {
    modules: Arc<Modules>,
    started: Instant,
}

impl Reader {
    fn new(host: &Host) -> Self {
        Self {
            modules: Arc::new(Modules::read(host)),
            started: Instant::now(),
        }
    }

    fn namespace(&mut self, host: &Host, namespace: &Namespace) -> NamespaceScan {
        let mut scan = NamespaceScan {
            inode: namespace.inode,
            handle: namespace.handles.first().cloned().unwrap_or(Handle::Own),
            pid: None,
            processes: namespace.processes,
            not_entered: None,
            families: BTreeMap::new(),
            sockets: Vec::new(),
        };
        if self.started.elapsed() > DEADLINE {
            scan.not_entered = Some("TimedOut".to_owned());
            return scan;
        }
        let Some(open) = namespaces::open(host, namespace) else {
            scan.not_entered = Some("ESRCH".to_owned());
            return scan;
        };
        (scan.handle, scan.pid, scan.not_entered) = (open.handle, open.pid, open.refused);
        let inside = host.is_live() && scan.not_entered.is_none();
        let texts = open.texts.clone();
        let answer = if inside {
            self.ask(host, open.fd, texts, scan.inode)
        } else {
            Err("NotLive".to_owned())
        };
        (scan.families, scan.sockets) = answer.unwrap_or_else(|why| {
            scan.not_entered = scan.not_entered.take().or(Some(why));
            // What can not be entered may still be seen from outside.
            Families::new(open.texts.or_else(|| recorded(host)), scan.inode, None).read()
        });
        if scan.handle != Handle::Own
            && scan.families.values().all(|family| family.source.is_none())
        {
            // It went away, or there was no way to look at it.
            scan.families.clear();
            scan.not_entered = scan.not_entered.or_else(|| Some("ESRCH".to_owned()));
        }
        scan
    }

    fn ask(
        &self,
        host: &Host,
        fd: Option<OwnedFd>,
        texts: Option<Folder>,
        netns: u64,
    ) -> Result<Answer, String> {
        let (own, modules) = (host.own().ok(), Arc::clone(&self.modules));
        let elsewhere = fd.is_some();
        visit(fd, move || {
            // Our own thread in there will not end before it has answered.
            let texts = if elsewhere {
                own.and_then(|own| texts_of_this_thread(&own)).or(texts)
            } else {
                texts
            };
            Families::new(texts, netns, Some(&modules)).read()
        })
    }
}

/// The texts of a recorded tree may lie below `/proc/net` alone.
pub(crate) fn recorded(host: &Host) -> Option<Folder> {
    if host.is_live() {
        None
    } else {
        host.root().folder("proc/net").ok()
    }
}

pub(crate) type Answer = (BTreeMap<&'static str, FamilyScan>, Vec<Socket>);

/// The families of one namespace, read by a thread that is in it or, without `modules`, from outside.
struct Families<'a> {
    texts: Option<Folder>,
    netns: u64,
    modules: Option<&'a Modules>,
    channel: Option<Channel>,
    sockets: Vec<Socket>,
}

impl<'a> Families<'a> {
    fn new(texts: Option<Folder>, netns: u64, modules: Option<&'a Modules>) -> Self {
        Self {
            texts,
            netns,
            modules,
            channel: None,
            sockets: Vec::new(),
        }
    }

    fn read(mut self) -> Answer {
        let protocols = self.protocols();
        let mut families = BTreeMap::new();
        for family in Family::ALL.iter().copied() {
            if family.has_file() || self.modules.is_some() && protocols.contains(family.name()) {
                families.insert(family.name(), self.family(family));
            }
        }
        (families, self.sockets)
    }

    /// Protocols that the kernel speaks, in lower case, with a `6` at the end for those over IPv6.
    fn protocols(&self) -> BTreeSet<String> {
        let read = self
            .texts
            .as_ref()
            .and_then(|texts| texts.read("protocols", SMALL).ok());
        let text = read
            .map(|content| String::from_utf8_lossy(&content.bytes).into_owned())
            .unwrap_or_default();
        let names = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next());
        names
            .map(|name| name.to_lowercase().replace("v6", "6"))
            .collect()
    }

    fn family(&mut self, family: Family) -> FamilyScan {
        let mut scan = FamilyScan::default();
        let asked = match self
            .modules
            .map(|modules| (modules.objection(family), diag::request(family)))
        {
            None | Some((None, None)) => None,
            Some((Some(objection), _)) => {
                scan.note = Some(objection);
                None
            }
            Some((None, Some(request))) => Some(self.ask(family, &request, &mut scan)),
        };
        match asked {
            Some(Ok(())) => return scan,
            Some(Err(errno)) => scan.note = Some(format!("sock_diag: {errno:?}")),
            None => {}
        }
        // Then the kernel has no handler for it, and the text alone says whether it has the family.
        let unknown = [Errno::ENOENT, Errno::EPROTONOSUPPORT, Errno::EAFNOSUPPORT];
        let refused = asked
            .and_then(Result::err)
            .filter(|errno| !unknown.contains(errno));
        if family.has_file() {
            self.look(family, refused, &mut scan);
        } else {
            scan.error = refused.map(|errno| format!("{errno:?}"));
        }
        scan
    }

    fn ask(&mut self, family: Family, request: &[u8], scan: &mut FamilyScan) -> Result<(), Errno> {
        let mut channel = match self.channel.take() {
            Some(channel) => channel,
            None => Channel::open(SockProtocol::NetlinkSockDiag)?,
        };
        let (before, netns) = (self.sockets.len(), self.netns);
        let sockets = &mut self.sockets;
        let result = channel.dump(SOCK_DIAG_BY_FAMILY, request, |_, body| {
            match diag::parse(family, netns, body) {
                Ok(socket) => sockets.push(socket),
                Err(_) => scan.malformed += 1,
            }
            scan.truncated = sockets.len() - before >= MAX_SOCKETS;
            !scan.truncated
        });
        self.channel = Some(channel);
        self.drop_doubles(before);
        match result {
            Ok(dump) => {
                scan.interrupted = dump.interrupted;
                scan.malformed += u64::from(dump.damaged);
                scan.source = Some(Source::SockDiag);
                scan.sockets = (self.sockets.len() - before) as u64;
                Ok(())
            }
            Err(errno) => {
                // The text will tell of them again.
                self.sockets.truncate(before);
                (scan.malformed, scan.truncated) = (0, false);
                Err(errno)
            }
        }
    }

    /// The kernel tells of netlink sockets in multicast groups twice (`__netlink_diag_dump`, `net/netlink/diag.c`), and of
    /// any socket that moved while it answered.
    fn drop_doubles(&mut self, before: usize) {
        let mut seen = HashSet::new();
        let told = self.sockets.split_off(before);
        self.sockets.extend(
            told.into_iter()
                .filter(|socket| socket.cookie.is_none_or(|cookie| seen.insert(cookie))),
        );
    }

    fn has(&self, family: Family, inode: u64) -> bool {
        self.sockets
            .iter()
            .any(|socket| socket.family == family && socket.inode == inode)
    }

    fn look(&mut self, family: Family, refused: Option<Errno>, scan: &mut FamilyScan) {
        let Some(texts) = &self.texts else {
            scan.error =
                Some(refused.map_or_else(|| "ENOENT".to_owned(), |errno| format!("{errno:?}")));
            return;
        };
        match texts.read(family.name(), MAX_TEXT) {
            Ok(content) => {
                let parsed = text::parse(family, self.netns, &content.bytes, MAX_SOCKETS);
                scan.source = Some(Source::Proc);
                scan.malformed = parsed.malformed;
                scan.truncated = parsed.truncated || content.truncated;
                // `/proc/net/icmp6` shows those of IPv4 too, without their address (`net/ipv6/ping.c`).
                let of_v4 = |socket: &Socket| {
                    family == Family::Icmp6 && self.has(Family::Icmp, socket.inode)
                };
                let sockets: Vec<_> = parsed
                    .sockets
                    .into_iter()
                    .filter(|socket| !of_v4(socket))
                    .collect();
                scan.sockets = sockets.len() as u64;
                self.sockets.extend(sockets);
            }
            Err(error) if error.is_gone() => match refused {
                Some(errno) => scan.error = Some(format!("{errno:?}")),
                None => scan.note = Some("not in this kernel".to_owned()),
            },
            Err(error) => scan.error = Some(word(&error)),
        }
    }
}

#[cfg(test)]
mod tests;
