//! Questions about a process by its number, past `/proc`. None of them changes anything: the signal is 0.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::detached::own;

/// A system call that answers for a number when a task has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `tgkill(N, N, 0)`: only for the main thread of a process, so never for another thread.
    Leader,
    /// `getpgid(N)`, which answers for threads too, as all that follow.
    Group,
    /// `kill(N, 0)`.
    Signal,
    /// `getsid(N)`.
    Session,
    /// `getpriority(PRIO_PROCESS, N)`.
    Priority,
    /// `sched_getscheduler(N)`.
    Scheduler,
    /// `sched_getaffinity(N)`.
    Affinity,
}

impl Question {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Leader,
        Self::Group,
        Self::Signal,
        Self::Session,
        Self::Priority,
        Self::Scheduler,
        Self::Affinity,
    ];

    /// The system call, for records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "tgkill",
            Self::Group => "getpgid",
            Self::Signal => "kill",
            Self::Session => "getsid",
            Self::Priority => "getpriority",
            Self::Scheduler => "sched_getscheduler",
            Self::Affinity => "sched_getaffinity",
        }
    }

    /// Whether a task of this number is there. A refusal is an answer too: there is something to refuse.
    ///
    /// # Errors
    /// When the kernel does not say: EPERM where a filter of system calls forbids the question altogether is told from a
    /// refusal by asking for our own number first; see [`Question::works`].
    pub fn answers(self, pid: i32) -> Result<bool, Errno> {
        let number = libc::c_long::from(pid);
        let mut cpus = [0_u64; 128];
        // SAFETY: all but the last take numbers only; that one is given a buffer and its length in bytes.
        let answer = unsafe {
            match self {
                Self::Leader => libc::syscall(libc::SYS_tgkill, number, number, 0_i64),
                Self::Group => libc::syscall(libc::SYS_getpgid, number),
                Self::Signal => libc::syscall(libc::SYS_kill, number, 0_i64),
                Self::Session => libc::syscall(libc::SYS_getsid, number),
                Self::Priority => libc::syscall(libc::SYS_getpriority, 0_i64, number),
                Self::Scheduler => libc::syscall(libc::SYS_sched_getscheduler, number),
                Self::Affinity => libc::syscall(
                    libc::SYS_sched_getaffinity,
                    number,
                    size_of_val(&cpus),
                    cpus.as_mut_ptr(),
                ),
            }
        };
        match Errno::result(answer) {
            Ok(_) | Err(Errno::EPERM | Errno::EACCES) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Whether the question can be asked here: we are there, and the number 2^30 - 1 never is (`PID_MAX_LIMIT` is 2^22).
    pub fn works(self) -> bool {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        own > 0
            && self.answers(own) == Ok(true)
            && self.answers((1 << 30) - 1).is_ok_and(|there| !there)
    }
}

/// Whether the process `pid` has the thread `tid`: `tgkill(PID, TID, 0)`, which sends nothing.
pub fn is_thread_of(pid: i32, tid: i32) -> bool {
    // SAFETY: the call takes numbers only.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_tgkill,
            libc::c_long::from(pid),
            libc::c_long::from(tid),
            0_i64,
        )
    };
    matches!(Errno::result(answer), Ok(_) | Err(Errno::EPERM))
}

/// A process that is held by a descriptor, so that no other one can take its place: pidfd_open(2), Linux 5.3.
#[derive(Debug)]
pub struct HeldProcess(OwnedFd);

impl HeldProcess {
    /// Holds the process `pid`.
    ///
    /// # Errors
    /// ESRCH when there is none; EINVAL or ENOENT when it is a thread; ENOSYS on older kernels.
    pub fn open(pid: i32) -> Result<Self, Errno> {
        // SAFETY: the call takes numbers only.
        own(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0_i64) })
            .map(Self)
    }

    /// Whether it runs: it did not end since it is held.
    pub fn is_alive(&self) -> bool {
        let mut ended = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut ended, PollTimeout::ZERO) == Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a child of the test's, to be held and to end"
    )]
    fn a_child_is_there_until_it_ends_and_a_thread_is_no_process() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let held = HeldProcess::open(pid);
        for question in Question::ALL {
            assert!(question.works(), "{question:?}");
            assert_eq!(question.answers(pid), Ok(true), "{question:?}");
        }
        assert!(held.as_ref().is_ok_and(HeldProcess::is_alive), "{held:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(held.is_ok_and(|held| !held.is_alive()));
        for question in Question::ALL {
            assert_eq!(question.answers(pid), Ok(false), "{question:?}");
        }
        std::thread::spawn(|| {
            let tid = nix::unistd::gettid().as_raw();
            assert_eq!(Question::Group.answers(tid), Ok(true));
            assert_eq!(Question::Leader.answers(tid), Ok(false));
            assert!(HeldProcess::open(tid).is_err());
            let own = nix::unistd::getpid().as_raw();
            assert!(is_thread_of(own, tid) && is_thread_of(own, own));
            assert!(!is_thread_of(1, tid) && !is_thread_of(own, 1));
        })
        .join()
        .unwrap();
    }
}
