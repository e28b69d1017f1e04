//! All the `unsafe` there is, here and in the files below: system calls that `nix` has no safe form of.

#![expect(
    unsafe_code,
    reason = "the one place where system calls without a safe wrapper are made"
)]

mod bpf;
mod detached;
mod options;
mod processes;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use evidence::manifest::Instant;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::time::{ClockId, clock_gettime};

pub use bpf::{BpfKind, BpfObject, BpfSpace};
pub(super) use detached::detached;
pub use options::socket_option;
pub use processes::{HeldProcess, Question, is_thread_of};

use super::HostError;
use super::stat::{Stat, Timestamp};

/// Longest list of names, and longest value, of extended attributes that is read (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;

/// `statx(2)` of `name` below `folder`; the link itself when it is one, unless `follow`. An empty name means `folder`.
pub(super) fn stat(folder: BorrowedFd<'_>, name: &CStr, follow: bool) -> Result<Stat, Errno> {
    let mut buffer = MaybeUninit::<libc::statx>::zeroed();
    let nofollow = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    let flags = libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC | nofollow;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    // SAFETY: the descriptor is borrowed, the name ends with NUL, and the buffer is a whole `statx`.
    let result = unsafe {
        libc::statx(
            folder.as_raw_fd(),
            name.as_ptr(),
            flags,
            mask,
            buffer.as_mut_ptr(),
        )
    };
    Errno::result(result)?;
    // SAFETY: it was zeroed, and the kernel filled it.
    let raw = unsafe { buffer.assume_init() };
    let time = |t: libc::statx_timestamp| Timestamp {
        seconds: t.tv_sec,
        nanoseconds: t.tv_nsec,
    };
    Ok(Stat {
        mode: raw.stx_mode.into(),
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        size: raw.stx_size,
        allocated: raw.stx_blocks.saturating_mul(512),
        nlink: raw.stx_nlink,
        inode: raw.stx_ino,
        major: raw.stx_dev_major,
        minor: raw.stx_dev_minor,
        device: (raw.stx_rdev_major, raw.stx_rdev_minor),
        atime: time(raw.stx_atime),
        mtime: time(raw.stx_mtime),
        ctime: time(raw.stx_ctime),
        btime: (raw.stx_mask & libc::STATX_BTIME != 0).then(|| time(raw.stx_btime)),
        immutable: raw.stx_attributes & libc::STATX_ATTR_IMMUTABLE as u64 != 0,
        append_only: raw.stx_attributes & libc::STATX_ATTR_APPEND as u64 != 0,
        xattrs: BTreeMap::new(),
    })
}

/// Extended attributes of an open file, values in base64. What can not be read is left out.
pub(super) fn xattrs(file: BorrowedFd<'_>) -> BTreeMap<String, String> {
    let file = file.as_raw_fd();
    attributes(
        // SAFETY: the buffer is valid for its length.
        |names| unsafe { libc::flistxattr(file, names.as_mut_ptr().cast(), names.len()) },
        |name, value| {
            let room = value.as_mut_ptr().cast();
            // SAFETY: the name ends with NUL and the buffer is valid for its length.
            unsafe { libc::fgetxattr(file, name.as_ptr(), room, value.len()) }
        },
    )
}

/// As [`xattrs`], of `name` in the thread's working directory, which is not opened for it.
pub(super) fn xattrs_here(path: &CStr) -> BTreeMap<String, String> {
    let path = path.as_ptr();
    attributes(
        // SAFETY: the path ends with NUL and the buffer is valid for its length.
        |names| unsafe { libc::llistxattr(path, names.as_mut_ptr().cast(), names.len()) },
        |name, value| {
            let room = value.as_mut_ptr().cast();
            // SAFETY: path and name end with NUL and the buffer is valid for its length.
            unsafe { libc::lgetxattr(path, name.as_ptr(), room, value.len()) }
        },
    )
}

fn attributes(
    list: impl Fn(&mut [u8]) -> isize,
    get: impl Fn(&CStr, &mut [u8]) -> isize,
) -> BTreeMap<String, String> {
    // Most files have none: asking for the length costs no buffer.
    if list(&mut []) <= 0 {
        return BTreeMap::new();
    }
    let mut names = vec![0_u8; XATTR_MAX];
    let length = list(&mut names);
    names.truncate(usize::try_from(length).unwrap_or(0));
    let value = |name: &[u8]| {
        let mut value = vec![0_u8; XATTR_MAX];
        let length = get(&CString::new(name).ok()?, &mut value);
        value.truncate(usize::try_from(length).ok()?);
        Some((name.escape_ascii().to_string(), BASE64.encode(value)))
    };
    let names = names.split(|byte| *byte == 0);
    names
        .filter(|name| !name.is_empty())
        .filter_map(value)
        .collect()
}

/// Lowest CPU priority (nice 19) and the idle I/O class (`ioprio_set(2)`), for this process and its later threads.
///
/// # Errors
/// The first refusal; the run goes on without.
pub fn lower_priority() -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    const IOPRIO_CLASS_IDLE: libc::c_long = 3 << 13;
    // SAFETY: both calls take numbers only.
    unsafe {
        Errno::result(libc::setpriority(libc::PRIO_PROCESS, 0, 19))?;
        Errno::result(libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            0_i64,
            IOPRIO_CLASS_IDLE,
        ))?;
    }
    Ok(())
}

/// Makes glibc's malloc serve all threads from one heap and keep what is freed: segments are used again instead of being
/// mapped, zeroed and unmapped each time, and RSS stays at the few that are in use at once.
pub fn single_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` takes numbers only; it is called before any other thread starts.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

/// Gives what [`single_heap`] keeps and nobody uses back to the host.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` takes a number only, and locks the heap itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets `signal` end a system call with EINTR, and do nothing else: a handler that restarts calls would let it go on.
pub(super) fn let_interrupt(signal: Signal) -> Result<(), Errno> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing, which is safe in a signal.
    unsafe { sigaction(signal, &action) }.map(drop)
}

/// The kernel's message buffer, not cleared by it (syslog(2), SYSLOG_ACTION_READ_ALL).
///
/// # Errors
/// EPERM without CAP_SYSLOG where `dmesg_restrict` is set.
pub fn kernel_messages() -> Result<Vec<u8>, HostError> {
    const READ_ALL: libc::c_int = 3;
    const SIZE_BUFFER: libc::c_int = 10;
    // SAFETY: this action takes no buffer.
    let size = Errno::result(unsafe { libc::klogctl(SIZE_BUFFER, std::ptr::null_mut(), 0) })?;
    let mut buffer = vec![0_u8; usize::try_from(size).unwrap_or(0)];
    // SAFETY: the buffer is valid for the length given.
    let got = Errno::result(unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), size) })?;
    buffer.truncate(usize::try_from(got).unwrap_or(0));
    Ok(buffer)
}

/// How the kernel steers its clock (adjtimex(2)); read, never set.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Discipline {
    /// Whether something keeps the clock synchronised: STA_UNSYNC is not set.
    pub synchronised: bool,
    /// `TIME_OK` is 0, `TIME_ERROR` 5.
    pub state: i32,
    pub status: i32,
    pub offset: i64,
    pub frequency: i64,
    pub max_error_us: i64,
    pub estimated_error_us: i64,
    pub tai_offset_s: i32,
}

/// The state of the clock's discipline, where the kernel tells it.
pub fn clock_discipline() -> Option<Discipline> {
    // SAFETY: all zeros is a valid `timex`, and `modes` 0 asks to change nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex`.
    let state = Errno::result(unsafe { libc::adjtimex(&raw mut timex) }).ok()?;
    Some(Discipline {
        synchronised: timex.status & libc::STA_UNSYNC == 0,
        state,
        status: timex.status,
        offset: timex.offset,
        frequency: timex.freq,
        max_error_us: timex.maxerror,
        estimated_error_us: timex.esterror,
        tai_offset_s: timex.tai,
    })
}

/// Reads the clocks; a clock that is not there reads as 0.
pub fn clocks() -> Instant {
    let read = |clock| {
        clock_gettime(clock).map_or(0, |t| {
            t.tv_sec().saturating_mul(1_000_000_000) + t.tv_nsec()
        })
    };
    Instant {
        utc_ns: read(ClockId::CLOCK_REALTIME),
        monotonic_ns: read(ClockId::CLOCK_MONOTONIC),
        boottime_ns: read(ClockId::CLOCK_BOOTTIME),
    }
}

/// What this process used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_user_us: u64,
    pub cpu_system_us: u64,
    pub peak_rss_bytes: u64,
}

/// `getrusage(2)` of this process.
pub fn usage() -> Usage {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Usage::default();
    };
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    Usage {
        cpu_user_us: unsigned(usage.user_time().num_microseconds()),
        cpu_system_us: unsigned(usage.system_time().num_microseconds()),
        peak_rss_bytes: unsigned(usage.max_rss()) * 1024,
    }
}

/// Sets an extended attribute; false where the file system has none.
#[cfg(test)]
pub(super) fn set_attribute_for_tests(path: &std::path::Path, name: &CStr, value: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    // SAFETY: path and name end with NUL and the value is valid for its length.
    let result = unsafe {
        libc::lsetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    result == 0
}
