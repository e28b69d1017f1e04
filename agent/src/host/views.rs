//! The kernel's own file systems, seen past what is mounted over them.

use std::ffi::CStr;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;

use super::{Folder, Host, HostError, sys};

/// A file system of the kernel that can be looked at without a place in the mount table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Processes of our pid namespace. An instance of its own since Linux 5.8: not covered by mounts, without `hidepid`.
    Proc,
    /// Tracing. One instance for the machine.
    Tracefs,
    /// Debugging. One instance for the machine.
    Debugfs,
    /// Security modules. One instance for the machine.
    Securityfs,
    /// What programs answer for as file systems. One instance for the machine.
    Fusectl,
}

impl View {
    fn kind(self) -> &'static CStr {
        match self {
            Self::Proc => c"proc",
            Self::Tracefs => c"tracefs",
            Self::Debugfs => c"debugfs",
            Self::Securityfs => c"securityfs",
            Self::Fusectl => c"fusectl",
        }
    }

    /// Where hosts mount it.
    pub fn usual_place(self) -> &'static Path {
        Path::new(match self {
            Self::Proc => "/proc",
            Self::Tracefs => "/sys/kernel/tracing",
            Self::Debugfs => "/sys/kernel/debug",
            Self::Securityfs => "/sys/kernel/security",
            Self::Fusectl => "/sys/fs/fuse/connections",
        })
    }
}

impl Host {
    /// A detached mount of `view`: attached nowhere, seen by nobody else, gone when the folder is dropped.
    ///
    /// Of a file system with one instance this is only for hosts that have it mounted nowhere: up to Linux 6.6 a second
    /// mount resets the options of the first (`debugfs_remount`, `tracefs_remount`).
    ///
    /// # Errors
    /// [`HostError::NotLive`]; ENODEV when the kernel does not have it (asking would make it load a module); ENOSYS before
    /// Linux 5.2; EPERM without CAP_SYS_ADMIN.
    pub fn detached(&self, view: View) -> Result<Folder, HostError> {
        if !self.live {
            return Err(HostError::NotLive);
        }
        let known = self.line("proc/filesystems").unwrap_or_default();
        let kind = view.kind().to_bytes();
        let has = |line: &str| line.split_whitespace().next_back().map(str::as_bytes) == Some(kind);
        if !known.lines().any(has) {
            return Err(HostError::Os(Errno::ENODEV));
        }
        let fd = self.courier.call(move || Ok(sys::detached(view.kind())?))?;
        let courier = Arc::clone(&self.courier);
        Ok(Folder::detached(fd, view.usual_place(), courier))
    }

    /// Whether `view` is mounted somewhere in our mount namespace.
    pub fn mounted(&self, view: View) -> bool {
        let kind = view.kind().to_bytes();
        let mounts = self.mounts();
        mounts.iter().any(|mount| mount.kind.as_bytes() == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_tree_has_no_views() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("proc/1")).unwrap();
        let mountinfo = "25 1 0:7 / /sys/kernel/tracing rw shared:2 - tracefs tracefs rw\n";
        std::fs::write(folder.path().join("proc/1/mountinfo"), mountinfo).unwrap();
        let host = Host::open(folder.path()).unwrap();
        assert_eq!(host.detached(View::Proc).err(), Some(HostError::NotLive));
        assert!(host.mounted(View::Tracefs) && !host.mounted(View::Debugfs));
    }
}
