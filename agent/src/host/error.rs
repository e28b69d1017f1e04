//! Why the host did not answer.

use evidence::inventory::{FileType, Status};
use nix::errno::Errno;

/// Why an item of the host could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("{}", described(*.0))]
    Os(Errno),
    #[error("no answer in time; the read was given up")]
    TimedOut,
    #[error("too many reads never returned; nothing more is tried")]
    Stuck,
    #[error("a symbolic link in the path, which is not followed")]
    Link,
    #[error("not a regular file")]
    NotAFile(FileType),
    #[error("on a {0} file system, which is not touched")]
    Foreign(String),
    #[error("nested too deep; nothing below it was looked at")]
    TooDeep,
    #[error("it became something else while it was looked at")]
    Changed,
    #[error("more of it than is held in memory; the rest was left out")]
    TooMuch,
    #[error("/proc is not the kernel's: nothing can be opened safely")]
    NoProc,
    #[error("something is mounted over it: what it shows is not the kernel's")]
    Covered,
    #[error("only a live system has this")]
    NotLive,
}

fn described(errno: Errno) -> String {
    format!("{} ({errno:?})", errno.desc())
}

impl From<Errno> for HostError {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}

impl HostError {
    /// The inventory's word for it.
    pub fn status(&self) -> Status {
        match self {
            Self::Os(Errno::ENOENT | Errno::ESRCH) => Status::Vanished,
            Self::Os(Errno::EACCES | Errno::EPERM) => Status::Denied,
            Self::Os(_)
            | Self::Stuck
            | Self::TooDeep
            | Self::Changed
            | Self::NoProc
            | Self::Covered => Status::Failed,
            Self::TooMuch => Status::Truncated,
            Self::TimedOut => Status::TimedOut,
            Self::Link | Self::Foreign(_) | Self::NotLive => Status::Skipped,
            Self::NotAFile(_) => Status::Metadata,
        }
    }

    /// Name of the kernel's error, such as `EACCES`.
    pub fn errno(&self) -> Option<String> {
        match self {
            Self::Os(errno) => Some(format!("{errno:?}")),
            _ => None,
        }
    }

    /// Whether the thing is not there (any more).
    pub fn is_gone(&self) -> bool {
        self.status() == Status::Vanished
    }
}
