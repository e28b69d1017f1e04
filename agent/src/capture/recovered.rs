//! *recovered*: files that only processes still hold: deleted or memfd executables, deleted files that are open,
//! deleted libraries that are mapped. Whole, whatever their size, each content once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::processes::parse;
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Folder, Host, HostError, HostFile, SMALL};

/// Files without a name on any disk.
pub struct Recovered;

static SPEC: Spec = Spec {
    name: "recovered",
    volatility: Volatility::Processes,
    what: "the content of deleted and memfd executables, of deleted files still open, of deleted files still mapped",
    why: "malware deletes itself after the start; the bytes are gone for good when the process ends",
    deadline_s: 3600,
    max_bytes: 1 << 40,
};

/// How a process holds a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Held {
    Executable,
    Open,
    Mapped,
}

#[derive(Serialize)]
struct Record<'a> {
    pid: i32,
    held: Held,
    /// Name below `/proc/PID`.
    link: &'a str,
    /// What the link said, such as `/tmp/x (deleted)`.
    target: String,
    device: String,
    inode: u64,
    size: u64,
    /// Member of the tar with the content; one content is stored once.
    member: &'a str,
}

impl Artifact for Recovered {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        if !host.is_live() {
            return Err(CaptureError::Absent(
                "a recorded tree holds no open files".to_owned(),
            ));
        }
        let mut stored = Stored::default();
        for pid in host.pids().map_err(CaptureError::host("/proc"))? {
            match host.process(pid) {
                Ok(folder) => of_process(pid, &folder, &mut stored, sink)?,
                Err(error) => sink.lost(&PathBuf::from(format!("/proc/{pid}")), &error)?,
            }
        }
        Ok(())
    }
}

/// Members by device and inode of their content.
type Stored = BTreeMap<(u32, u32, u64), String>;

fn of_process(
    pid: i32,
    folder: &Folder,
    stored: &mut Stored,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let names = folder
        .list("fd")
        .map_err(|error| sink.count(&error))
        .unwrap_or_default();
    let fds = names
        .iter()
        .filter_map(|entry| Some(format!("fd/{}", entry.name.to_str()?)));
    let links: Vec<String> = std::iter::once("exe".to_owned()).chain(fds).collect();
    let targets = folder.read_links(links.iter().map(Into::into).collect());
    let targets = targets
        .map_err(|error| sink.count(&error))
        .unwrap_or_default();
    for (link, (_, target)) in links.iter().zip(targets) {
        let target = match target {
            Ok(target) => target,
            Err(error) => {
                sink.count(&error);
                continue;
            }
        };
        let held = if link == "exe" {
            Held::Executable
        } else {
            Held::Open
        };
        if may_be_unlinked(&target) {
            recover(pid, folder, held, link, &target, stored, sink)?;
        }
    }
    let maps = match folder.read("maps", SMALL) {
        Ok(maps) => maps,
        Err(error) => {
            sink.count(&error);
            return Ok(());
        }
    };
    for mapping in parse::mappings(&maps.bytes) {
        let target = mapping.path.as_bytes();
        if mapping.inode != 0 && may_be_unlinked(target) && !is_shared_memory(target) {
            let link = format!("map_files/{}", mapping.range);
            recover(pid, folder, Held::Mapped, &link, target, stored, sink)?;
        }
    }
    Ok(())
}

/// The kernel marks the path of an unlinked file so. A file may be named like that too: its link count tells later.
fn may_be_unlinked(target: &[u8]) -> bool {
    target.ends_with(b" (deleted)") || target.starts_with(b"/memfd:")
}

/// System V segments and shared anonymous memory are files to the kernel, but no one's deleted file.
fn is_shared_memory(target: &[u8]) -> bool {
    target.starts_with(b"/SYSV")
        || target.starts_with(b"/dev/zero")
        || target.starts_with(b"/[aio]")
}

fn recover(
    pid: i32,
    folder: &Folder,
    held: Held,
    link: &str,
    target: &[u8],
    stored: &mut Stored,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    sink.check()?;
    let file = match folder.open_magic(link) {
        Ok(file) => file,
        // A deleted socket, pipe or directory has no content; a closed descriptor is churn.
        Err(HostError::NotAFile(_)) => return Ok(()),
        Err(error) => return sink.lost(&folder.path().join(link), &error),
    };
    let stat = file.stat().clone();
    let id = (stat.major, stat.minor, stat.inode);
    let member = match stored.get(&id) {
        Some(member) => member.clone(),
        None => {
            let member = format!(
                "live_response/process/proc/{pid}/{}",
                file_name(held, link, target)
            );
            store(&member, pid, link, file, sink)?;
            stored.insert(id, member.clone());
            member
        }
    };
    let record = Record {
        pid,
        held,
        link,
        target: parse::text(target),
        device: format!("{}:{}", stat.major, stat.minor),
        inode: stat.inode,
        size: stat.size,
        member: &member,
    };
    sink.record("process/recovered", &record)
}

fn store(
    member: &str,
    pid: i32,
    link: &str,
    file: HostFile,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    sink.recovered(member, &format!("content of /proc/{pid}/{link}"), file)
}

/// UAC's names: `recovered_exe`, `memfd_3`, and our own for what UAC does not recover.
fn file_name(held: Held, link: &str, target: &[u8]) -> String {
    let last = link.rsplit('/').next().unwrap_or(link);
    match held {
        Held::Executable => "recovered_exe".to_owned(),
        Held::Open if target.starts_with(b"/memfd:") => format!("memfd_{last}"),
        Held::Open => format!("deleted_fd_{last}"),
        Held::Mapped => format!("deleted_map_{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_what_the_process_holds() {
        assert_eq!(
            file_name(Held::Executable, "exe", b"/memfd:x (deleted)"),
            "recovered_exe"
        );
        assert_eq!(
            file_name(Held::Open, "fd/3", b"/memfd:x (deleted)"),
            "memfd_3"
        );
        assert_eq!(
            file_name(Held::Open, "fd/7", b"/tmp/x (deleted)"),
            "deleted_fd_7"
        );
        assert_eq!(
            file_name(Held::Mapped, "map_files/7f-80", b"/tmp/x.so (deleted)"),
            "deleted_map_7f-80"
        );
    }

    #[test]
    fn anonymous_shared_memory_is_not_a_deleted_file() {
        assert!(
            may_be_unlinked(b"/SYSV00000000 (deleted)")
                && is_shared_memory(b"/SYSV00000000 (deleted)")
        );
        assert!(!is_shared_memory(b"/memfd:evil (deleted)") && !may_be_unlinked(b"/usr/bin/sh"));
    }
}
