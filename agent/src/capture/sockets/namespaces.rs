//! Network namespaces: finding them all, and asking the kernel from inside of one.
//!
//! A namespace lives as long as a process or a thread is in it, or a descriptor or a mount holds it. All four are looked
//! for. One that only a socket holds can not be found by its inode; its sockets show as unlisted.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::model::{Handle, Owners};
use super::owners::{links, number_in, word};
use crate::host::{Folder, Host, HostError, SMALL, unescape};

/// How long the answers from inside of one namespace may take together.
const DEADLINE: Duration = Duration::from_secs(30);
const STACK: usize = 512 << 10;
/// Ways into a namespace that are remembered of each kind.
const MAX_HANDLES: usize = 4;

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// 0 in a recorded tree that does not say.
    pub inode: u64,
    /// Ways into it, the best first: a process or thread may end before it is asked.
    pub handles: Vec<Handle>,
    /// Processes that live in it.
    pub processes: u32,
}

/// The namespaces that processes live in, our own first; and why some could not be seen, if so.
///
/// # Errors
/// When `/proc` can not be listed.
pub fn of_processes(host: &Host) -> Result<(Vec<Namespace>, Option<String>), HostError> {
    let own = host.own_pid().unwrap_or(1);
    let mut groups: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
    let (mut own_inode, mut unseen) = (None, None);
    let paths = host
        .pids()?
        .into_iter()
        .map(|pid| (pid, format!("{pid}/ns/net")));
    for (pid, inode) in inodes(host, paths)? {
        match inode {
            Ok(inode) => {
                groups.entry(inode).or_default().push(pid);
                own_inode = own_inode.or((pid == own).then_some(inode));
            }
            Err(error) if error.is_gone() => {}
            Err(error) => unseen = Some(word(&error)),
        }
    }
    let inode = own_inode.unwrap_or(0);
    let pids = groups.remove(&inode).unwrap_or_default();
    let namespace = |inode: u64, handles: Vec<Handle>, pids: &[i32]| Namespace {
        inode,
        handles,
        processes: u32::try_from(pids.len()).unwrap_or(u32::MAX),
    };
    let mut namespaces = vec![namespace(inode, vec![Handle::Own], &pids)];
    namespaces.extend(groups.into_iter().map(|(inode, pids)| {
        let handles = pids
            .iter()
            .take(MAX_HANDLES)
            .map(|pid| Handle::Process(*pid));
        namespace(inode, handles.collect(), &pids)
    }));
    Ok((namespaces, unseen))
}

/// All of them, our own first; and why some could not be seen, if so.
///
/// # Errors
/// When `/proc` can not be listed.
pub fn all(host: &Host) -> Result<(Vec<Namespace>, Option<String>), HostError> {
    let (mut all, unseen) = of_processes(host)?;
    all.extend(kept(host, &super::owners(host), &all));
    Ok((all, unseen))
}

/// The namespaces that no process lives in but that something else keeps: a thread, a descriptor, a mount.
pub fn kept(host: &Host, owners: &Owners, known: &[Namespace]) -> Vec<Namespace> {
    let threads = of_threads(host);
    let descriptors = owners
        .namespaces
        .iter()
        .map(|(inode, owner)| (*inode, Handle::Descriptor(*owner)));
    let mounts = mounts(host)
        .into_iter()
        .map(|(inode, path)| (inode, Handle::Mount(path)));
    let mut found: BTreeMap<u64, Vec<Handle>> = BTreeMap::new();
    for (inode, handle) in threads.into_iter().chain(descriptors).chain(mounts) {
        let handles = found.entry(inode).or_default();
        if handles.len() < MAX_HANDLES || !matches!(handle, Handle::Thread(..)) {
            handles.push(handle);
        }
    }
    found.retain(|inode, _| known.iter().all(|namespace| namespace.inode != *inode));
    found
        .into_iter()
        .map(|(inode, handles)| Namespace {
            inode,
            handles,
            processes: 0,
        })
        .collect()
}

type Answers<K> = Vec<(K, Result<u64, HostError>)>;

/// Inodes of the namespaces behind links below `/proc`, each with its key.
fn inodes<K>(
    host: &Host,
    paths: impl Iterator<Item = (K, String)>,
) -> Result<Answers<K>, HostError> {
    let (keys, names): (Vec<K>, Vec<OsString>) =
        paths.map(|(key, path)| (key, OsString::from(path))).unzip();
    let targets = links(&host.root().folder("proc")?, names);
    let inode = |target: Result<Vec<u8>, HostError>| {
        number_in(&target?, b"net:[").ok_or(HostError::Os(Errno::EINVAL))
    };
    let answers = targets.into_iter().map(|(_, target)| inode(target));
    Ok(keys.into_iter().zip(answers).collect())
}

fn of_threads(host: &Host) -> Vec<(u64, Handle)> {
    let mut paths = Vec::new();
    for pid in host.pids().unwrap_or_default() {
        let entries = host
            .root()
            .list(format!("proc/{pid}/task"))
            .unwrap_or_default();
        let tids = entries
            .iter()
            .filter_map(|entry| entry.name.to_str()?.parse::<i32>().ok());
        let others = tids.filter(|tid| *tid != pid);
        paths.extend(others.map(|tid| ((pid, tid), format!("{pid}/task/{tid}/ns/net"))));
    }
    let inodes = inodes(host, paths.into_iter()).unwrap_or_default();
    inodes
        .into_iter()
        .filter_map(|((pid, tid), inode)| Some((inode.ok()?, Handle::Thread(pid, tid))))
        .collect()
}

fn mounts(host: &Host) -> Vec<(u64, PathBuf)> {
    let read = host.own().and_then(|own| own.read("mountinfo", SMALL));
    let bytes = read.map(|content| content.bytes).unwrap_or_default();
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(mounted)
        .collect()
}

/// Inode and mount point of a line of mountinfo that mounts a network namespace (proc_pid_mountinfo(5)).
fn mounted(line: &[u8]) -> Option<(u64, PathBuf)> {
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    let inode = number_in(fields.next()?, b"net:[")?;
    let point = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (kind == b"nsfs").then_some((inode, point))
}

/// A namespace that can be asked: what enters it, and the texts that show it.
pub struct Open {
    pub handle: Handle,
    /// `None` for our own namespace, or when it can not be entered.
    pub fd: Option<OwnedFd>,
    /// Why it can not be entered.
    pub refused: Option<String>,
    /// `/proc/PID/net` of a process or thread in it.
    pub texts: Option<Folder>,
    /// The process of that folder.
    pub pid: Option<i32>,
}

/// Opens `namespace` by the first of its handles that works; `None` when none is left.
pub fn open(host: &Host, namespace: &Namespace) -> Option<Open> {
    let mut refused = None;
    for handle in &namespace.handles {
        match by_handle(host, handle) {
            Some(open) if open.refused.is_none() => return Some(open),
            open => refused = refused.or(open),
        }
    }
    refused
}

fn by_handle(host: &Host, handle: &Handle) -> Option<Open> {
    let (folder, link, pid) = match handle {
        Handle::Own => {
            let texts = host.own().and_then(|own| own.folder("net")).ok();
            let pid = host.own_pid().or(Some(1));
            return Some(Open {
                handle: Handle::Own,
                fd: None,
                refused: None,
                texts,
                pid,
            });
        }
        Handle::Process(pid) => (
            host.process(*pid).ok()?,
            PathBuf::from("ns/net"),
            Some(*pid),
        ),
        Handle::Thread(pid, tid) => (
            host.root().folder(format!("proc/{pid}/task/{tid}")).ok()?,
            PathBuf::from("ns/net"),
            Some(*pid),
        ),
        Handle::Descriptor(owner) => (
            host.process(owner.pid).ok()?,
            PathBuf::from(format!("fd/{}", owner.fd)),
            None,
        ),
        Handle::Mount(path) => (host.root().clone(), path.clone(), None),
    };
    let opened = if host.is_live() {
        folder.open_namespace(link)
    } else {
        Err(HostError::NotLive)
    };
    let (fd, refused) = match opened {
        Ok(fd) => (Some(fd), None),
        Err(error) if error.is_gone() => return None,
        Err(error) => (None, Some(word(&error))),
    };
    let texts = pid.and_then(|_| folder.folder("net").ok());
    Some(Open {
        handle: handle.clone(),
        fd,
        refused,
        texts,
        pid,
    })
}

/// Runs `job` on a thread of its own, inside of the namespace behind `fd` when there is one. The thread ends with it: it
/// never does anything else in that namespace.
///
/// # Errors
/// Why there is no answer: the errno of setns(2), or `TimedOut`.
pub fn visit<T: Send + 'static>(
    fd: Option<OwnedFd>,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (reply, answer) = mpsc::sync_channel(1);
    let run = move || {
        let entered = fd.map_or(Ok(()), |fd| setns(fd, CloneFlags::CLONE_NEWNET));
        let _ = reply.send(match entered {
            Ok(()) => Ok(job()),
            Err(errno) => Err(format!("{errno:?}")),
        });
    };
    let started = thread::Builder::new()
        .name("netns".to_owned())
        .stack_size(STACK)
        .spawn(run);
    if started.is_err() {
        return Err("Stuck".to_owned());
    }
    answer
        .recv_timeout(DEADLINE)
        .unwrap_or_else(|_| Err("TimedOut".to_owned()))
}

/// `/proc/PID/net` of the calling thread, for a namespace that no process lives in.
pub fn texts_of_this_thread(own: &Folder) -> Option<Folder> {
    // Where `/proc` is another pid namespace's, our number for the thread is not its.
    let named = own.path().file_name() == Some(OsStr::new(&std::process::id().to_string()));
    let tid = nix::unistd::gettid();
    named
        .then(|| own.folder(format!("task/{tid}/net")).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::super::Owner;
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_network_namespaces_among_mounts_count() {
        let line = b"600 25 0:4 net:[4026532289] /run/netns/a\\040b rw shared:9 - nsfs nsfs rw";
        assert_eq!(
            mounted(line),
            Some((4_026_532_289, PathBuf::from("/run/netns/a b")))
        );
        assert_eq!(
            mounted(b"600 25 0:4 mnt:[4026532289] /x rw - nsfs nsfs rw"),
            None
        );
        assert_eq!(
            mounted(b"600 25 0:4 net:[1] /x rw - ext4 /dev/a rw"),
            None,
            "a folder with such a name"
        );
        for cut in 0..line.len() - 8 {
            assert_eq!(mounted(&line[..cut]), None);
        }
    }

    #[test]
    fn processes_threads_descriptors_and_mounts_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let link = |target: &str, path: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        };
        for (pid, inode) in [(1, 10), (2, 10), (3, 30), (4, 10)] {
            link(&format!("net:[{inode}]"), &format!("proc/{pid}/ns/net"));
        }
        link("net:[40]", "proc/4/task/5/ns/net");
        link("net:[50]", "proc/4/fd/3");
        link("net:[40]", "proc/4/fd/6");
        let mountinfo = "6 2 0:4 net:[60] /run/netns/x rw - nsfs nsfs rw\n7 2 0:4 net:[30] /y rw - nsfs nsfs rw\n";
        std::fs::write(folder.path().join("proc/1/mountinfo"), mountinfo).unwrap();
        let host = Host::open(folder.path()).unwrap();
        let (mut all, unseen) = of_processes(&host).unwrap();
        assert_eq!(unseen, None);
        all.extend(kept(&host, &super::super::owners(&host), &all));
        let found: Vec<_> = all
            .iter()
            .map(|n| (n.inode, n.handles.clone(), n.processes))
            .collect();
        let owner = Owner { pid: 4, fd: 6 };
        assert_eq!(
            found,
            [
                (10, vec![Handle::Own], 3),
                (30, vec![Handle::Process(3)], 1),
                (40, vec![Handle::Thread(4, 5), Handle::Descriptor(owner)], 0),
                (50, vec![Handle::Descriptor(Owner { pid: 4, fd: 3 })], 0),
                (60, vec![Handle::Mount(PathBuf::from("/run/netns/x"))], 0),
            ]
        );
    }

    #[test]
    fn a_thread_reads_its_own_texts() {
        let host = Host::open(std::path::Path::new("/")).unwrap();
        let own = host.own().unwrap();
        let found = visit(None, move || {
            texts_of_this_thread(&own).map(|folder| folder.path().to_owned())
        })
        .unwrap();
        assert!(found.is_some_and(|path| path.ends_with("net")));
    }
}
