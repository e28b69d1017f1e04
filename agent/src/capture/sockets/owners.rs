//! Which descriptors of which processes stand for which sockets, from the links in `/proc/PID/fd`.

use std::ffi::OsString;

use super::model::{Owner, Owners};
use crate::host::{Folder, Host, HostError};

/// Links that are read in one go.
const BATCH: usize = 1024;

/// The descriptors of all processes that stand for sockets, and those that hold network namespaces open.
pub fn owners(host: &Host) -> Owners {
    let mut owners = Owners::default();
    let (Ok(pids), Ok(proc)) = (host.pids(), host.root().folder("proc")) else {
        owners.failures.insert("/proc".to_owned(), 1);
        return owners;
    };
    let mut names = Vec::new();
    for pid in pids {
        match proc.list(format!("{pid}/fd")) {
            Ok(entries) => names.extend(entries.iter().filter_map(|entry| {
                Some(OsString::from(format!("{pid}/fd/{}", entry.name.to_str()?)))
            })),
            Err(error) if error.is_gone() => {}
            Err(error) => *owners.failures.entry(word(&error)).or_default() += 1,
        }
        if names.len() >= BATCH {
            take(&proc, std::mem::take(&mut names), &mut owners);
        }
    }
    take(&proc, names, &mut owners);
    owners
}

fn take(proc: &Folder, names: Vec<OsString>, owners: &mut Owners) {
    let mut denied = None;
    for (name, target) in links(proc, names) {
        let Some(owner) = name.to_str().and_then(owner) else {
            continue;
        };
        match target {
            Ok(target) => {
                if let Some(inode) = number_in(&target, b"socket:[") {
                    owners.sockets.entry(inode).or_default().push(owner);
                } else if let Some(inode) = number_in(&target, b"net:[") {
                    owners.namespaces.entry(inode).or_insert(owner);
                }
            }
            // One refusal stands for all of its process.
            Err(error) if !error.is_gone() && denied != Some(owner.pid) => {
                denied = Some(owner.pid);
                *owners.failures.entry(word(&error)).or_default() += 1;
            }
            Err(_) => {}
        }
    }
}

/// The targets of `names`, in pieces of [`BATCH`]; what takes too long is an error of each name.
pub(super) fn links(
    folder: &Folder,
    mut names: Vec<OsString>,
) -> Vec<(OsString, Result<Vec<u8>, HostError>)> {
    let mut targets = Vec::with_capacity(names.len());
    while !names.is_empty() {
        let rest = names.split_off(names.len().min(BATCH));
        match folder.read_links(names.clone()) {
            Ok(read) => targets.extend(read),
            Err(error) => targets.extend(names.into_iter().map(|name| (name, Err(error.clone())))),
        }
        names = rest;
    }
    targets
}

/// `PID/fd/N`.
fn owner(name: &str) -> Option<Owner> {
    let (pid, fd) = name.split_once("/fd/")?;
    Some(Owner {
        pid: pid.parse().ok()?,
        fd: fd.parse().ok()?,
    })
}

/// The number in a target such as `socket:[4711]`, which starts with `prefix`.
pub(super) fn number_in(target: &[u8], prefix: &[u8]) -> Option<u64> {
    let number = target.strip_prefix(prefix)?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// What went wrong, in a word: the errno, or the kind of error.
pub(crate) fn word(error: &HostError) -> String {
    error.errno().unwrap_or_else(|| format!("{error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_of_a_tree_become_owners() {
        let folder = tempfile::tempdir().unwrap();
        for (pid, fd, target) in [
            (7, "3", "socket:[100]"),
            (7, "4", "/dev/null"),
            (9, "5", "socket:[100]"),
            (9, "6", "net:[4026532000]"),
            (9, "x", "socket:[1]"),
            (9, "7", "socket:[]"),
        ] {
            let fds = folder.path().join(format!("proc/{pid}/fd"));
            std::fs::create_dir_all(&fds).unwrap();
            symlink(target, fds.join(fd)).unwrap();
        }
        let owners = owners(&Host::open(folder.path()).unwrap());
        assert_eq!(
            owners.of(100),
            [Owner { pid: 7, fd: 3 }, Owner { pid: 9, fd: 5 }]
        );
        assert_eq!(owners.sockets.len(), 1);
        assert_eq!(owners.namespaces[&4_026_532_000], Owner { pid: 9, fd: 6 });
        assert!(owners.failures.is_empty(), "{:?}", owners.failures);
    }
}
