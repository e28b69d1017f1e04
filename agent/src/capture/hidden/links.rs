//! Directories whose link count says that they hold more directories than are listed.
//!
//! On file systems that keep the count, a directory has a link from its name, one from its own `.`, and one from the `..` of
//! each directory in it. A rootkit that takes a name out of the listing leaves the count as it is.

use serde::Serialize;

use super::Finding;
use crate::capture::{Halt, Sink};
use crate::host::{Folder, Host, HostError};
use evidence::inventory::FileType;

/// Where things are hidden.
const FOLDERS: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/dev/shm",
    "/etc",
    "/etc/cron.d",
    "/etc/init.d",
    "/etc/ssh",
    "/etc/systemd",
    "/etc/systemd/system",
    "/etc/udev",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/root/.cache",
    "/root/.config",
    "/root/.ssh",
    "/run",
    "/run/user",
    "/sbin",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/lib/modules",
    "/usr/lib/systemd",
    "/usr/lib/systemd/system",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/sbin",
    "/usr/share",
    "/usr/src",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/lib/docker",
    "/var/log",
    "/var/opt",
    "/var/spool",
    "/var/spool/cron",
    "/var/tmp",
    "/var/www",
    "/var/www/html",
];
/// How often a directory is looked at when it changes meanwhile.
const TRIES: u32 = 4;

/// A directory, as its count and its listing tell of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Counted {
    pub path: &'static str,
    /// Directories that the link count says.
    pub counted: u32,
    /// Directories that are listed.
    pub listed: u32,
}

/// Compares counts and listings.
///
/// # Errors
/// When the artifact has to end.
pub(super) fn capture(host: &Host, sink: &mut Sink<'_>) -> Result<(), Halt> {
    for path in FOLDERS {
        sink.check()?;
        let counted = match host
            .root()
            .folder(path)
            .and_then(|folder| count(path, &folder))
        {
            Ok(Some(counted)) => counted,
            Ok(None) | Err(HostError::Link | HostError::Foreign(_)) => continue,
            Err(error) if error.is_gone() => continue,
            Err(error) => {
                sink.count(&error);
                continue;
            }
        };
        sink.record("hidden/directories", &counted)?;
        if counted.counted > counted.listed {
            sink.finding(&Finding {
                rule: "hidden-directory",
                technique: "T1564.001",
                reason: format!(
                    "the link count of {path} says {} directories, {} are listed",
                    counted.counted, counted.listed
                ),
                known_benign: "a damaged file system",
                pid: None,
                path: Some(path),
            })?;
        }
    }
    Ok(())
}

/// Counts, until count and listing agree, or the directory was the same before and after a listing that does not.
/// `None` where the file system keeps no count, or the directory never stays the same.
fn count(path: &'static str, folder: &Folder) -> Result<Option<Counted>, HostError> {
    if !folder.keeps_link_counts()? {
        return Ok(None);
    }
    let mut disagreed = 0;
    for _ in 0..TRIES {
        let before = folder.stat("")?;
        let mut listed = 0_u32;
        for entry in folder.list("")? {
            let is_directory = match entry.is_directory {
                Some(is_directory) => is_directory,
                None => folder.stat(&entry.name)?.file_type() == FileType::Directory,
            };
            listed = listed.saturating_add(u32::from(is_directory));
        }
        let after = folder.stat("")?;
        // One link: too many directories for a count (ext4), or a file system that keeps none.
        if before.nlink < 2 {
            return Ok(None);
        }
        if (before.nlink, before.ctime) != (after.nlink, after.ctime) {
            continue;
        }
        let counted = Counted {
            path,
            counted: before.nlink.saturating_sub(2),
            listed,
        };
        disagreed += u32::from(counted.counted > listed);
        if counted.counted <= listed || disagreed == 2 {
            return Ok(Some(counted));
        }
    }
    Ok(None)
}
