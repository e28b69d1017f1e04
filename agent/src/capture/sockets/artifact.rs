//! The artifact: the texts of each namespace as they are, and a record for each socket.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::model::{Handle, Owner, Scan};
use super::namespaces::{self, Namespace};
use super::record::{Holder, NamespaceRecord, SocketRecord};
use super::scan::{MAX_TEXT, scan};
use crate::capture::users::Users;
use crate::capture::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Folder, Host};

/// The sockets of all network namespaces.
pub struct Sockets;

static SPEC: Spec = Spec {
    name: "sockets",
    volatility: Volatility::Network,
    what: "sockets of every network namespace (tcp, udp, raw, icmp, unix, packet, netlink and others) in all states, with \
           the processes, users and cgroups that hold them",
    why: "connections to a command server, listeners and sniffers are gone once their process ends",
    deadline_s: 60,
    max_bytes: 256 << 20,
};

/// Texts below `/proc/PID/net` that tell of sockets.
const TEXTS: &[&str] = &[
    "tcp",
    "tcp6",
    "udp",
    "udp6",
    "udplite",
    "udplite6",
    "raw",
    "raw6",
    "icmp",
    "icmp6",
    "unix",
    "packet",
    "netlink",
    "protocols",
    "ptype",
    "sockstat",
    "sockstat6",
    "sctp/eps",
    "sctp/assocs",
    "sctp/remaddr",
    "vsock",
];
/// Bytes of a small text: a name, a list of cgroups.
const SMALL_TEXT: usize = 16 << 10;
/// Processes whose texts are read in one go.
const BATCH: usize = 256;

impl Artifact for Sockets {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        // First the snapshot, then the texts: what is asked for first is nearest to one moment.
        let scan = scan(host);
        for namespace in &scan.namespaces {
            texts(host, &namespace.handle, namespace.pid, TEXTS, sink)?;
        }
        records(host, &scan, sink)?;
        losses(&scan, sink);
        Ok(())
    }
}

/// Puts the texts `names` of a namespace into the tar: those of our own below `/proc/net`, where all tools look for them;
/// those of another below the process that lives in it.
pub(crate) fn texts(
    host: &Host,
    handle: &Handle,
    pid: Option<i32>,
    names: &[&str],
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let Some((folder, path)) = folder_of(host, handle, pid) else {
        return Ok(());
    };
    for name in names {
        match folder.read(name, MAX_TEXT) {
            Err(error) if error.is_gone() => {}
            content => sink.raw(&path.join(name), &content)?,
        }
    }
    Ok(())
}

/// `/proc/PID/net` of a namespace, and the path at which its texts are kept.
fn folder_of(host: &Host, handle: &Handle, pid: Option<i32>) -> Option<(Folder, PathBuf)> {
    let path = match (handle, pid) {
        (Handle::Own, _) => {
            let net = Path::new("/proc/net");
            let own = host.own().and_then(|own| own.folder("net"));
            // A recorded tree has no other.
            return own
                .or_else(|_| host.root().folder(net))
                .ok()
                .map(|folder| (folder, net.to_owned()));
        }
        (Handle::Thread(pid, tid), _) => format!("/proc/{pid}/task/{tid}/net"),
        (_, Some(pid)) => format!("/proc/{pid}/net"),
        (_, None) => return None,
    };
    Some((host.root().folder(&path).ok()?, PathBuf::from(path)))
}

fn records(host: &Host, scan: &Scan, sink: &mut Sink<'_>) -> Result<(), Halt> {
    for namespace in &scan.namespaces {
        sink.record("network/namespaces", &NamespaceRecord::new(namespace))?;
    }
    let users = Users::read(host);
    let processes = Processes::read(host, scan);
    for socket in scan.sockets() {
        let holders = processes.holders(scan.owners.of(socket.inode));
        let name = socket.uid.and_then(|uid| users.name(uid));
        sink.record("network/sockets", &SocketRecord::new(socket, holders, name))?;
    }
    for (inode, owners) in scan.unlisted() {
        sink.record(
            "network/sockets",
            &SocketRecord::unlisted(inode, processes.holders(owners)),
        )?;
    }
    Ok(())
}

/// What could not be read, for the outcome. Families that the kernel does not have are no loss; the namespaces' records
/// name them.
pub(crate) fn losses(scan: &Scan, sink: &mut Sink<'_>) {
    for (what, error) in &scan.failures {
        sink.loss(&format!("{}:{what}", loss(error)));
    }
    for (error, count) in &scan.owners.failures {
        (0..*count).for_each(|_| sink.loss(&loss(error)));
    }
    for namespace in &scan.namespaces {
        if let (Some(why), true) = (&namespace.not_entered, namespace.families.is_empty()) {
            lost_namespace(why, sink);
        }
        for family in namespace.families.values() {
            if let Some(error) = &family.error {
                sink.loss(&loss(error));
            }
            for (happened, kind) in [
                (family.truncated, "truncated"),
                (family.interrupted, "interrupted"),
                (family.malformed > 0, "failed:malformed"),
            ] {
                if happened {
                    sink.loss(kind);
                }
            }
        }
    }
}

/// Counts a namespace that nothing was read of.
pub(crate) fn lost_namespace(why: &str, sink: &mut Sink<'_>) {
    match why {
        "ESRCH" | "ENOENT" => sink.gone(),
        why => sink.loss(&format!("{}:namespace", loss(why))),
    }
}

/// Asks inside of each namespace, with the texts of a process in it, and records the answer.
///
/// # Errors
/// When the artifact has to end.
pub(crate) fn each_namespace<T: Send + 'static, A: FnOnce() -> T + Send + 'static>(
    host: &Host,
    all: &[Namespace],
    sink: &mut Sink<'_>,
    ask: impl Fn(Option<Folder>) -> A,
    record: impl Fn(u64, T, &mut Sink<'_>) -> Result<(), Halt>,
) -> Result<(), Halt> {
    for namespace in all {
        sink.check()?;
        let Some(open) = namespaces::open(host, namespace) else {
            sink.gone();
            continue;
        };
        if let Some(why) = open.refused {
            lost_namespace(&why, sink);
            continue;
        }
        match namespaces::visit(open.fd, ask(open.texts)) {
            Ok(answer) => record(namespace.inode, answer, sink)?,
            Err(why) => lost_namespace(&why, sink),
        }
    }
    Ok(())
}

/// Counts what could not be asked for in a namespace, each with its reason.
pub(crate) fn lost_answers(failures: &[(&'static str, String)], sink: &mut Sink<'_>) {
    for (what, why) in failures {
        sink.loss(&format!("{}:{what}", loss(why)));
    }
}

/// A loss in the runner's words.
pub(crate) fn loss(error: &str) -> String {
    match error {
        "EACCES" | "EPERM" => format!("denied:{error}"),
        "TimedOut" | "EAGAIN" | "ETIMEDOUT" => "timed_out".to_owned(),
        "truncated" | "interrupted" => error.to_owned(),
        error => format!("failed:{error}"),
    }
}

/// Names and cgroups of the processes that hold sockets.
struct Processes(BTreeMap<i32, (Option<String>, Option<String>)>);

impl Processes {
    fn read(host: &Host, scan: &Scan) -> Self {
        let pids: BTreeSet<i32> = scan
            .owners
            .sockets
            .values()
            .flatten()
            .map(|owner| owner.pid)
            .collect();
        let mut processes = BTreeMap::new();
        let Ok(proc) = host.root().folder("proc") else {
            return Self(processes);
        };
        for pids in pids.into_iter().collect::<Vec<_>>().chunks(BATCH) {
            let names = pids
                .iter()
                .flat_map(|pid| [format!("{pid}/comm"), format!("{pid}/cgroup")]);
            let read = proc
                .read_all(names.map(OsString::from).collect(), SMALL_TEXT)
                .unwrap_or_default();
            for (pid, pair) in pids.iter().zip(read.chunks(2)) {
                let text = |at: usize| {
                    let (_, content) = pair.get(at)?;
                    Some(
                        String::from_utf8_lossy(&content.as_ref().ok()?.bytes)
                            .trim_end()
                            .to_owned(),
                    )
                };
                processes.insert(*pid, (text(0), text(1).and_then(|text| cgroup(&text))));
            }
        }
        Self(processes)
    }

    fn holders(&self, owners: &[Owner]) -> Vec<Holder> {
        let holder = |owner: &Owner| {
            let (name, cgroup) = self.0.get(&owner.pid).cloned().unwrap_or_default();
            Holder {
                pid: owner.pid,
                fd: owner.fd,
                name,
                cgroup,
            }
        };
        owners.iter().map(holder).collect()
    }
}

/// The path that says most, of a process's cgroups: version 2's, else systemd's, else any that is not the root.
fn cgroup(text: &str) -> Option<String> {
    let path = |line: &str| line.splitn(3, ':').nth(2).map(str::to_owned);
    let order = |line: &&str| {
        (
            line.ends_with(":/"),
            !line.starts_with("0::"),
            !line.contains(":name=systemd:"),
        )
    };
    text.lines().min_by_key(order).and_then(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_that_says_most_is_told() {
        for (text, want) in [
            (
                "0::/system.slice/ssh.service",
                Some("/system.slice/ssh.service"),
            ),
            ("4:memory:/a\n1:name=systemd:/b\n0::/", Some("/b")),
            ("4:memory:/a:b\n1:name=systemd:/\n0::/", Some("/a:b")),
            ("1:name=systemd:/\n0::/", Some("/")),
            ("junk", None),
            ("", None),
        ] {
            assert_eq!(cgroup(text).as_deref(), want, "{text}");
        }
    }
}
