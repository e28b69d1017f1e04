//! Views of the kernel's own file systems that are attached nowhere: no mount table changes, nobody else sees them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// `include/uapi/linux/mount.h`.
const FSOPEN_CLOEXEC: libc::c_long = 1;
const FSCONFIG_CMD_CREATE: libc::c_long = 6;
const FSMOUNT_CLOEXEC: libc::c_long = 1;
/// `MOUNT_ATTR_RDONLY | _NOSUID | _NODEV | _NOEXEC`.
const ATTRIBUTES: libc::c_long = 0x1 | 0x2 | 0x4 | 0x8;

/// The root of a detached mount of the file system `kind`, read-only: fsopen(2), fsconfig(2), fsmount(2), Linux 5.2.
///
/// The kernel loads a module for a `kind` that it does not know: the caller makes sure that it does.
pub(in crate::host) fn detached(kind: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: the name ends with NUL.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
    let context = own(context)?;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            null,
            null,
            0_i64,
        )
    };
    Errno::result(created)?;
    // SAFETY: the call takes numbers only.
    own(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            ATTRIBUTES,
        )
    })
}

/// The descriptor that a system call gave.
pub(super) fn own(answer: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(Errno::result(answer)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: a call that succeeded gave a new descriptor, which is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
