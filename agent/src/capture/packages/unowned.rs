//! Files in the system's folders that no package owns.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use evidence::inventory::{FileType, Name};
use serde::Serialize;

use super::integrity::{Found, MOST_FINDINGS};
use crate::capture::{Halt, Sink};
use crate::host::{Host, HostError, Stat};

/// Folders that belong to packages. Where one is a link to another, its files are told of there.
const FOLDERS: [&str; 9] = [
    "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr", "/boot", "/etc",
];
/// Depth at which no folder is entered any more.
const MOST_DEPTH: usize = 64;

#[derive(Serialize)]
struct Record {
    file: File,
}

#[derive(Serialize)]
struct File {
    #[serde(flatten)]
    path: Name,
    #[serde(rename = "type")]
    kind: FileType,
    #[serde(flatten)]
    found: Found,
}

#[derive(Serialize)]
struct Finding {
    rule: &'static str,
    technique: &'static str,
    reason: String,
    known_benign: &'static str,
    #[serde(flatten)]
    path: Name,
}

/// The walk under way.
struct Walk<'a> {
    host: &'a Host,
    owns: &'a dyn Fn(&[u8]) -> bool,
    total: &'a mut u64,
    findings: u64,
    /// Folders that are still to be listed, and their depth.
    folders: Vec<(PathBuf, usize)>,
}

/// Records all files that `owns` does not know, and counts them in `total`.
///
/// # Errors
/// When the artifact has to end.
pub(super) fn walk(
    host: &Host,
    owns: &dyn Fn(&[u8]) -> bool,
    total: &mut u64,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let is_real = |folder: &str| {
        let stat = host.root().stat(folder);
        stat.is_ok_and(|stat| stat.file_type() == FileType::Directory)
    };
    let starts = FOLDERS.iter().rev().filter(|folder| is_real(folder));
    let mut walk = Walk {
        host,
        owns,
        total,
        findings: 0,
        folders: starts.map(|folder| (PathBuf::from(folder), 0)).collect(),
    };
    while let Some((folder, depth)) = walk.folders.pop() {
        sink.check()?;
        match host.root().list(&folder) {
            Ok(entries) => {
                for entry in entries {
                    walk.entry(&folder.join(&entry.name), entry.is_directory, depth, sink)?;
                }
            }
            Err(error) => sink.lost(&folder, &error)?,
        }
    }
    Ok(())
}

impl Walk<'_> {
    fn entry(
        &mut self,
        path: &Path,
        is_directory: Option<bool>,
        depth: usize,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        if is_directory == Some(true) {
            return self.below(path, depth, sink);
        }
        if is_directory.is_some() && (self.owns)(path.as_os_str().as_bytes()) {
            return Ok(());
        }
        let stat = match self.host.root().stat(path) {
            Ok(stat) => stat,
            Err(error) => return sink.lost(path, &error),
        };
        // A file system that does not say what an entry is.
        if stat.file_type() == FileType::Directory {
            return self.below(path, depth, sink);
        }
        if (self.owns)(path.as_os_str().as_bytes()) {
            return Ok(());
        }
        self.unowned(path, &stat, sink)
    }

    fn below(&mut self, path: &Path, depth: usize, sink: &mut Sink<'_>) -> Result<(), Halt> {
        if depth < MOST_DEPTH {
            self.folders.push((path.to_owned(), depth + 1));
            return Ok(());
        }
        sink.lost(path, &HostError::TooDeep)
    }

    fn unowned(&mut self, path: &Path, stat: &Stat, sink: &mut Sink<'_>) -> Result<(), Halt> {
        *self.total += 1;
        let name = Name::of(path.as_os_str().as_bytes());
        if let Some((rule, technique, why)) = suspicion(path, stat)
            && self.findings < MOST_FINDINGS
        {
            self.findings += 1;
            sink.finding(&Finding {
                rule,
                technique,
                reason: format!("{}: {why}", path.display()),
                known_benign: "software that was installed without a package manager",
                path: name.clone(),
            })?;
        }
        let record = Record {
            file: File {
                path: name,
                kind: stat.file_type(),
                found: Found::of(stat),
            },
        };
        sink.record("packages/unowned", &record)
    }
}

/// What makes an unowned file more than one of many.
fn suspicion(path: &Path, stat: &Stat) -> Option<(&'static str, &'static str, &'static str)> {
    let regular = stat.file_type() == FileType::File;
    let name = path.as_os_str().as_bytes();
    let parent = path.parent().and_then(Path::file_name);
    if regular && stat.mode & 0o6000 != 0 && stat.mode & 0o111 != 0 {
        let why = "runs with the rights of its owner, and no package owns it";
        Some(("unowned-setuid", "T1548.001", why))
    } else if regular && parent == Some("security".as_ref()) && name.ends_with(b".so") {
        let why = "a PAM module that no package owns";
        Some(("unowned-pam-module", "T1556.003", why))
    } else if name == b"/etc/ld.so.preload" {
        let why = "makes all programs load what it names, and no package owns it";
        Some(("unowned-preload", "T1574.006", why))
    } else {
        None
    }
}
