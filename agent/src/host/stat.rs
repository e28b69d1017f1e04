//! Metadata of files.

use std::collections::BTreeMap;

use evidence::inventory::{FileType, Metadata};

/// A time of the host's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Timestamp {
    /// As one number; what it can not hold, some centuries away, is cut.
    pub fn nanoseconds_since_epoch(self) -> i64 {
        let seconds = self.seconds.saturating_mul(1_000_000_000);
        seconds.saturating_add(i64::from(self.nanoseconds))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanoseconds)
    }
}

/// What `statx(2)` says of a file, and its extended attributes where they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// `st_mode`, type bits included.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Allocated, in bytes.
    pub allocated: u64,
    pub nlink: u32,
    pub inode: u64,
    pub major: u32,
    pub minor: u32,
    /// Of a device: its own number, `major:minor`.
    pub device: (u32, u32),
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub btime: Option<Timestamp>,
    /// Whether the kernel refuses to change it, and whether it only lets it grow: `chattr +i`, `+a` (statx(2)).
    pub immutable: bool,
    pub append_only: bool,
    /// Names, and values in base64.
    pub xattrs: BTreeMap<String, String>,
}

impl Stat {
    /// The type that the mode states.
    pub fn file_type(&self) -> FileType {
        match self.mode & libc::S_IFMT {
            libc::S_IFREG => FileType::File,
            libc::S_IFLNK => FileType::Symlink,
            libc::S_IFDIR => FileType::Directory,
            libc::S_IFIFO => FileType::Fifo,
            libc::S_IFSOCK => FileType::Socket,
            libc::S_IFBLK => FileType::BlockDevice,
            libc::S_IFCHR => FileType::CharDevice,
            _ => FileType::Unknown,
        }
    }

    /// The inventory's form of it.
    pub fn metadata(&self) -> Metadata {
        Metadata {
            mode: format!("{:o}", self.mode),
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            nlink: self.nlink,
            inode: self.inode,
            device: format!("{}:{}", self.major, self.minor),
            atime: self.atime.to_string(),
            mtime: self.mtime.to_string(),
            ctime: self.ctime.to_string(),
            btime: self.btime.map(|time| time.to_string()),
            xattrs: self.xattrs.clone(),
        }
    }
}
