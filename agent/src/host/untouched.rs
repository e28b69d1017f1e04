//! The root through which the host is read: read-only and without access times, for this program alone.
//!
//! `O_NOATIME` keeps the access times of files and directories, but not those of symbolic links, which are read without
//! being opened: each readlink(2) would change an inode on the suspect's disk. Access times can also be switched off for a
//! mount. So a thread takes a copy of the mount table for itself (unshare(2), `CLONE_NEWNS`), switches them off there, and
//! opens the root in it. What is opened from that root stays in the copy, whoever does it: no mount of the host changes,
//! and `/proc/self` still shows the host's own mount table. The copy is gone with the last descriptor.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

use super::open::{directory, read};
use super::{Courier, Foreign, HostError, SMALL, mounts};

/// A directory below which nothing changes by being read.
pub(super) struct Untouched {
    pub(super) directory: OwnedFd,
    /// The mount namespace: without it, what is mounted below the directory would come apart.
    pub(super) mounts: OwnedFd,
    /// What it does not hold for, in words.
    pub(super) touched: Option<String>,
}

impl Untouched {
    /// The directory `path`, in a mount namespace of its own.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN; otherwise as the kernel says.
    pub(super) fn open(path: &Path) -> Result<Self, HostError> {
        let path = path.to_owned();
        // A courier of its own: its thread, the only one in the namespace, ends with it.
        Arc::new(Courier::new()).call(move || {
            let thread = directory(Path::new("/proc/thread-self"))?;
            let table = read(&thread, c"mountinfo", SMALL, &Foreign::default())?.bytes;
            unshare(CloneFlags::CLONE_NEWNS)?;
            let mounts = mounts::parse(&table);
            // The way to such a mount, too, is one that may have no end, and its access times are not this host's.
            let foreign = mounts.iter().filter(|mount| mount.is_foreign());
            let foreign: Vec<&Path> = foreign
                .map(|mount| mount.point.as_path())
                .filter(|point| *point != Path::new("/"))
                .collect();
            let own = mounts.iter().filter(|mount| {
                let point = &mount.point;
                !mount.is_foreign() && !foreign.iter().any(|other| point.starts_with(other))
            });
            let left = own.filter_map(|mount| leave_untouched(&mount.point).err());
            // What is covered by another mount, or unmounted by now, can not be reached for reading either.
            let left = left.filter(|errno| !matches!(errno, Errno::ENOENT | Errno::EINVAL));
            let left: Vec<Errno> = left.collect();
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            Ok(Self {
                directory: directory(&path)?,
                mounts: openat(&thread, "ns/mnt", flags, Mode::empty())?,
                touched: left
                    .first()
                    .map(|errno| format!("{} mounts ({errno:?})", left.len())),
            })
        })
    }
}

/// Changes how this mount namespace sees what is mounted at `point`, and nothing else: "bind" and "remount" of mount(2).
fn leave_untouched(point: &Path) -> Result<(), Errno> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOATIME;
    mount(None::<&Path>, point, None::<&Path>, flags, None::<&Path>)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::Host;

    #[test]
    fn a_link_that_is_read_keeps_its_access_time() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("link");
        symlink("elsewhere", &link).unwrap();
        let long_ago = nix::sys::time::TimeSpec::from(Duration::from_secs(1000));
        let at = nix::fcntl::AT_FDCWD;
        let nofollow = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
        nix::sys::stat::utimensat(at, &link, &long_ago, &long_ago, nofollow).unwrap();
        let host = Host::open(root.path()).unwrap();
        assert_eq!(host.root().read_link("link").unwrap(), b"elsewhere");
        assert!(host.root().scan("").more().unwrap()[0].target.is_some());
        let accessed = std::fs::symlink_metadata(&link).unwrap().atime();
        if nix::unistd::geteuid().is_root() {
            assert_eq!(accessed, 1000);
            // The same link read by anybody else does change: the file system keeps access times at all.
            assert!(std::fs::read_link(&link).is_ok());
            let accessed = std::fs::symlink_metadata(&link).unwrap().accessed();
            assert!(accessed.unwrap() > UNIX_EPOCH + Duration::from_secs(1000));
        }
    }
}
