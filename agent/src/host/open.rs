//! How something is opened: below a directory, never through a link, never a device or a FIFO by mistake, and so that
//! nothing changes by it.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use evidence::inventory::FileType;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};

use super::{Content, DirEntry, Foreign, HostError, Stat, sys};

/// Magic number of sysfs (`include/uapi/linux/magic.h`), which nix 0.32 has no name for.
pub(super) const SYSFS_MAGIC: FsType = FsType(0x6265_6572);
/// Magic number of the file system of namespaces (`include/uapi/linux/magic.h`).
pub(super) const NSFS_MAGIC: FsType = FsType(0x6E73_6673);
/// Most entries of one directory that are read.
const MAX_ENTRIES: usize = 1_000_000;

/// A bare descriptor of a directory.
pub(super) fn directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty())
}

pub(super) fn open_folder(folder: BorrowedFd<'_>, name: &CString) -> Result<OwnedFd, HostError> {
    let name = if name.is_empty() {
        c"."
    } else {
        name.as_c_str()
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(folder, name, flags, Mode::empty()).map_err(|errno| link_or(errno, folder, name))
}

/// ENOTDIR is also what a link in place of a directory gives: that has its own name.
fn link_or(errno: Errno, folder: BorrowedFd<'_>, name: &CStr) -> HostError {
    let is_link =
        || sys::stat(folder, name, false).is_ok_and(|s| s.file_type() == FileType::Symlink);
    match errno {
        Errno::ELOOP => HostError::Link,
        Errno::ENOTDIR if is_link() => HostError::Link,
        errno => HostError::Os(errno),
    }
}

/// Opens a directory to be listed. An empty name means `folder`.
pub(super) fn open_listing(folder: BorrowedFd<'_>, name: &CString) -> Result<OwnedFd, HostError> {
    let name = if name.is_empty() {
        c"."
    } else {
        name.as_c_str()
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open = |noatime| openat(folder, name, flags | noatime, Mode::empty());
    without_atime(open).map_err(|errno| link_or(errno, folder, name))
}

pub(super) fn list(folder: BorrowedFd<'_>, name: &CString) -> Result<Vec<DirEntry>, HostError> {
    let fd = open_listing(folder, name)?;
    let mut entries = Vec::new();
    for entry in Dir::from_fd(fd)?.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            entries.push(DirEntry {
                name,
                is_directory: entry.file_type().map(|kind| kind == Type::Directory),
            });
        }
        if entries.len() > MAX_ENTRIES {
            return Err(HostError::Os(Errno::EOVERFLOW));
        }
    }
    Ok(entries)
}

/// Those of `names` that are the same file before and after a listing of `folder` that does not have them.
pub(super) fn unlisted(
    folder: BorrowedFd<'_>,
    names: Vec<OsString>,
) -> Result<Vec<OsString>, HostError> {
    let identity = |name: &OsString| {
        let name = CString::new(name.as_bytes()).ok()?;
        let stat = sys::stat(folder, &name, false).ok()?;
        Some((stat.major, stat.minor, stat.inode))
    };
    let there = names.into_iter();
    let there = there.filter_map(|name| Some((identity(&name)?, name)));
    let mut left: BTreeMap<OsString, _> = there.map(|(identity, name)| (name, identity)).collect();
    if left.is_empty() {
        return Ok(Vec::new());
    }
    for entry in Dir::from_fd(open_listing(folder, &CString::default())?)?.iter() {
        left.remove(OsStr::from_bytes(entry?.file_name().to_bytes()));
    }
    left.retain(|name, before| identity(name) == Some(*before));
    Ok(left.into_keys().collect())
}

/// Opens so that the access time stays, where the system allows it: only owners and CAP_FOWNER may ask for it.
fn without_atime(open: impl Fn(OFlag) -> nix::Result<OwnedFd>) -> nix::Result<OwnedFd> {
    open(OFlag::O_NOATIME).or_else(|errno| {
        if errno == Errno::EPERM {
            open(OFlag::empty())
        } else {
            Err(errno)
        }
    })
}

pub(super) fn file_system(fd: impl AsFd) -> Result<FsType, HostError> {
    Ok(fstatfs(fd)?.filesystem_type())
}

pub(super) fn only_in_proc(folder: BorrowedFd<'_>) -> Result<(), HostError> {
    if file_system(folder)? == PROC_SUPER_MAGIC {
        Ok(())
    } else {
        Err(HostError::NotLive)
    }
}

/// Opens a file of this kind in two steps, so that a device or a FIFO is never opened by mistake: first the path alone,
/// then what stands there.
pub(super) fn open_kind(
    folder: BorrowedFd<'_>,
    name: &CStr,
    kind: FileType,
    foreign: &Foreign,
    fits: impl Fn(&Stat) -> bool,
) -> Result<(OwnedFd, Stat), HostError> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let path = openat(folder, name, flags, Mode::empty())?;
    let stat = sys::stat(path.as_fd(), c"", false)?;
    if stat.file_type() != kind || !fits(&stat) {
        return Err(HostError::NotAFile(stat.file_type()));
    }
    // By its device first: the file system itself may take its time to say what it is.
    not_on(foreign, &stat)?;
    if let Some(kind) = Foreign::kind_of(file_system(&path)?) {
        return Err(HostError::Foreign(kind.to_owned()));
    }
    reopen(path, stat)
}

fn not_on(foreign: &Foreign, stat: &Stat) -> Result<(), HostError> {
    match foreign.kind_on((stat.major, stat.minor)) {
        Some(kind) => Err(HostError::Foreign(kind.to_owned())),
        None => Ok(()),
    }
}

pub(super) fn open_magic(
    folder: BorrowedFd<'_>,
    name: &CStr,
    foreign: &Foreign,
) -> Result<(OwnedFd, Stat), HostError> {
    only_in_proc(folder)?;
    let path = openat(
        folder,
        name,
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let stat = sys::stat(path.as_fd(), c"", false)?;
    if stat.file_type() != FileType::File {
        return Err(HostError::NotAFile(stat.file_type()));
    }
    not_on(foreign, &stat)?;
    reopen(path, stat)
}

fn reopen(path: OwnedFd, mut stat: Stat) -> Result<(OwnedFd, Stat), HostError> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let fd = without_atime(|noatime| own_descriptor(&path, flags | noatime));
    let fd = fd.map_err(|errno| match errno {
        // What is held open is there: a descriptor without its link means that `/proc` is not what it should be.
        Errno::ENOENT | Errno::ENXIO => HostError::NoProc,
        errno => HostError::Os(errno),
    })?;
    let opened = sys::stat(fd.as_fd(), c"", false)?;
    if (opened.inode, opened.major, opened.minor) != (stat.inode, stat.major, stat.minor) {
        return Err(HostError::Changed);
    }
    stat.xattrs = sys::xattrs(fd.as_fd());
    Ok((fd, stat))
}

/// Opens what one of our own path descriptors stands for, through the kernel's `/proc/self/fd` and nobody else's.
pub(super) fn own_descriptor(path: &OwnedFd, flags: OFlag) -> nix::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    static OWN: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let open = || {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = nix::fcntl::open("/proc/self/fd", flags, Mode::empty()).ok()?;
        only_in_proc(folder.as_fd()).is_ok().then_some(folder)
    };
    let own = OWN.get_or_init(open).as_ref().ok_or(Errno::ENXIO)?;
    openat(
        own,
        path.as_raw_fd().to_string().as_str(),
        flags | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

pub(super) fn read(
    folder: &OwnedFd,
    name: &CStr,
    cap: usize,
    foreign: &Foreign,
) -> Result<Content, HostError> {
    let made_up = matches!(file_system(folder)?, PROC_SUPER_MAGIC | SYSFS_MAGIC);
    let (fd, stat) = if made_up {
        let flags = OFlag::O_RDONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        (openat(folder, name, flags, Mode::empty())?, None)
    } else {
        let (fd, stat) = open_kind(folder.as_fd(), name, FileType::File, foreign, |_| true)?;
        (fd, Some(stat))
    };
    // One byte more than the cap tells whether there is more.
    let mut bytes = super::file::read_up_to(&fd, cap.saturating_add(1))?;
    let truncated = bytes.len() > cap;
    bytes.truncate(cap);
    Ok(Content {
        bytes,
        truncated,
        stat,
    })
}
