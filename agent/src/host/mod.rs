//! The only door to the machine.
//!
//! The host is hostile: names, contents and timing are the attacker's. So paths are walked component by component
//! without following links, only regular files are opened, nothing changes by being read, each call into the kernel has a
//! deadline, and what network and FUSE mounts hold is not touched. A directory can stand in for `/`, for tests.

mod courier;
mod error;
mod file;
mod folder;
mod module;
mod mounts;
mod open;
mod scan;
mod stat;
mod sys;
mod untouched;
mod views;

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use courier::{Asked, Courier};
pub use error::HostError;
pub use file::{HostFile, Refused};
pub use folder::{Content, DirEntry, Each, Folder};
pub use module::{Loading, Pipe};
pub(crate) use mounts::unescape;
pub use mounts::{Foreign, Mount};
pub use scan::{Found, Scan};
pub use stat::Stat;
pub use sys::{
    BpfKind, BpfObject, BpfSpace, Discipline, HeldProcess, Question, Usage, clock_discipline,
    clocks, is_thread_of, kernel_messages, lower_priority, single_heap, socket_option, trim_heap,
    usage,
};
use untouched::Untouched;
pub use views::View;

/// Most bytes of a file under `/proc` or `/sys` that are read into memory.
pub const SMALL: usize = 16 << 20;

/// The machine, or a directory that stands in for it.
pub struct Host {
    root: Folder,
    /// Our copy of the mount table, which is there as long as this descriptor.
    _mounts: Option<OwnedFd>,
    own: Option<i32>,
    courier: Arc<Courier>,
    live: bool,
    changes: Mutex<Vec<String>>,
}

impl Host {
    /// The host below `root`, which is `/` except in tests.
    ///
    /// # Errors
    /// When `root` can not be opened as a directory.
    pub fn open(root: &Path) -> Result<Self, HostError> {
        let courier = Arc::new(Courier::new());
        let live = root == Path::new("/");
        // Without the right to it, what is opened still keeps its access time.
        let (directory, mounts, touched) = match Untouched::open(root) {
            Ok(it) => (it.directory, Some(it.mounts), it.touched),
            Err(error) => (open::directory(root)?, None, Some(error.to_string())),
        };
        let touched =
            touched.map(|why| format!("may have changed access times of what was read: {why}"));
        let root = Folder::root(Arc::new(directory), Arc::clone(&courier));
        // `/proc/self` is a link, which is not followed: its target is the pid under which this `/proc` knows us.
        let own = root
            .read_link("proc/self")
            .ok()
            .and_then(|pid| std::str::from_utf8(&pid).ok()?.parse().ok());
        let mut host = Self {
            root,
            _mounts: mounts,
            own,
            courier,
            live,
            changes: Mutex::new(touched.into_iter().collect()),
        };
        let of_fuse = match host.mounted(View::Fusectl) {
            true => host.root.folder(View::Fusectl.usual_place()),
            false => host.detached(View::Fusectl),
        };
        let foreign = mounts::foreign(&host.root, own.unwrap_or(1), of_fuse.ok().as_ref());
        host.root = host.root.without(foreign);
        Ok(host)
    }

    /// Our pid as `/proc` shows it; `None` where there is no `/proc`. A recorded tree says pid 1.
    pub fn own_pid(&self) -> Option<i32> {
        self.own
    }

    /// `/proc/self`, by number.
    ///
    /// # Errors
    /// When there is no `/proc`.
    pub fn own(&self) -> Result<Folder, HostError> {
        self.process(self.own.unwrap_or(1))
    }

    /// `/proc/self` as the kernel shows it to this process, wherever the host's root is.
    ///
    /// # Errors
    /// [`HostError::NotLive`] when what is there is not the kernel's.
    pub fn itself(&self) -> Result<Folder, HostError> {
        let path = Path::new("/proc/self");
        let fd = open::directory(path)?;
        open::only_in_proc(fd.as_fd())?;
        Ok(Folder::detached(fd, path, Arc::clone(&self.courier)))
    }

    /// Whether this is the running machine, so that `/proc/PID/fd` and namespaces mean what they say.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The root directory. Paths given to it may start with `/`.
    pub fn root(&self) -> &Folder {
        &self.root
    }

    /// What is mounted where, in the order of mountinfo; empty when it can not be read.
    pub fn mounts(&self) -> Vec<Mount> {
        self.mounts_of(self.own.unwrap_or(1))
    }

    /// What is mounted where in the mount namespace of a process; empty when it can not be read.
    pub fn mounts_of(&self, pid: i32) -> Vec<Mount> {
        mounts::mounts(&self.root, pid)
    }

    /// Mount points below `/proc`: what they cover can not be seen.
    pub fn mounts_over_proc(&self) -> Vec<PathBuf> {
        mounts::over_proc(&self.root, self.own.unwrap_or(1))
    }

    /// A file below `/proc` or `/sys` that must be the kernel's own, and nobody's in its place.
    ///
    /// # Errors
    /// [`HostError::Covered`] when something is mounted over it; otherwise as [`Folder::open`].
    pub fn kernels_own(&self, path: &str) -> Result<HostFile, HostError> {
        let file = self.root.open(path)?;
        let full = Path::new("/").join(path);
        let mounted = self.mounts_over_proc();
        let covered = mounted.iter().any(|point| full.starts_with(point));
        match covered || (self.live && !file.is_made_up()?) {
            true => Err(HostError::Covered),
            false => Ok(file),
        }
    }

    /// RAM in bytes, as the kernel counts what it manages: sysinfo(2), or the recorded `/proc/meminfo`.
    pub fn managed_memory(&self) -> u64 {
        if self.live {
            return nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
        }
        let line = self.line("proc/meminfo").unwrap_or_default();
        let kib = line
            .strip_prefix("MemTotal:")
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.map_or(0, |kib| kib.saturating_mul(1 << 10))
    }

    /// The kernel's release: uname(2), or the recorded `/proc`.
    pub fn release(&self) -> Option<String> {
        match self.live {
            true => nix::sys::utsname::uname()
                .ok()
                .map(|name| name.release().to_string_lossy().into_owned()),
            false => self.line("proc/sys/kernel/osrelease"),
        }
    }

    /// Reads that never returned, each with a thread that waits for it.
    pub fn abandoned_reads(&self) -> u32 {
        self.courier.abandoned()
    }

    /// What was changed on the host so far, one line each.
    pub fn changes(&self) -> Vec<String> {
        self.changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn changed(&self, line: String) {
        self.changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    /// All numbers among the names in `/proc`, ascending: the processes that the kernel shows.
    ///
    /// # Errors
    /// When `/proc` can not be listed.
    pub fn pids(&self) -> Result<Vec<i32>, HostError> {
        let entries = self.root.list("proc")?;
        let mut pids: Vec<i32> = entries
            .iter()
            .filter_map(|entry| entry.name.to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// The directory of a process. It stays that process's: when the pid is used again, reads fail with ESRCH.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn process(&self, pid: i32) -> Result<Folder, HostError> {
        self.root.folder(PathBuf::from(format!("proc/{pid}")))
    }

    /// A small file as text, without the newline at its end; `None` when it can not be read.
    pub fn line(&self, path: impl AsRef<Path>) -> Option<String> {
        let content = self.root.read(path, SMALL).ok()?;
        Some(
            String::from_utf8_lossy(&content.bytes)
                .trim_end()
                .to_owned(),
        )
    }
}
