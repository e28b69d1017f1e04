//! Names that can be looked up and that the listing of their directory does not have: programs and libraries that run, and
//! files whose place is known.
//!
//! A listing has every name that was there from its start to its end. So a name is hidden that is the same file before and
//! after two listings, and is in neither.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use evidence::inventory::Name;
use serde::Serialize;

use super::Finding;
use crate::capture::processes::parse;
use crate::capture::{Halt, Sink};
use crate::host::{Folder, Host, HostError, SMALL};

/// Most names that are looked for.
const MOST: usize = 1 << 16;

/// Paths, each with a process that runs or maps it, if one does; by directory.
type Places = BTreeMap<PathBuf, BTreeMap<OsString, Option<i32>>>;

/// A name that hides.
#[derive(Serialize)]
struct Hidden {
    #[serde(flatten)]
    path: Name,
    /// A process that runs or maps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
}

/// The globs among `globs` that mean one place, whatever is there.
pub(super) fn literal<'g>(globs: impl Iterator<Item = &'g String>) -> BTreeSet<PathBuf> {
    let is_one = |glob: &&String| glob.starts_with('/') && !glob.contains(['*', '?', '[', '{']);
    globs.filter(is_one).map(PathBuf::from).collect()
}

/// Compares what is known to be there with what is listed.
///
/// # Errors
/// When the artifact has to end.
pub(super) fn capture(
    host: &Host,
    known: &BTreeSet<PathBuf>,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let mut places = Places::new();
    let mut room = MOST;
    let mut add = |path: &Path, pid: Option<i32>| {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        // What the kernel makes up is compared in other ways.
        if room == 0 || path.starts_with("/proc") || path.starts_with("/sys") {
            return;
        }
        let names = places.entry(folder.to_owned()).or_default();
        names.entry(name.to_owned()).or_insert_with(|| {
            room -= 1;
            pid
        });
    };
    for (path, pid) in of_processes(host, sink)? {
        add(&path, Some(pid));
    }
    known.iter().for_each(|path| add(path, None));
    if room == 0 {
        sink.loss("truncated");
    }
    for (folder, names) in places {
        sink.check()?;
        // A link on the way, or no such directory: then it is not this name that hides.
        let Ok(directory) = host.root().folder(&folder) else {
            continue;
        };
        match hidden(&directory, names.keys().cloned().collect()) {
            Ok(hidden) => hidden.iter().try_for_each(|name| {
                told(
                    host,
                    &folder.join(name),
                    names.get(name).copied().flatten(),
                    sink,
                )
            })?,
            Err(error) if error.is_gone() => {}
            Err(error) => sink.count(&error),
        }
    }
    Ok(())
}

/// Those of the names that are there and that two listings do not have.
fn hidden(folder: &Folder, names: Vec<OsString>) -> Result<Vec<OsString>, HostError> {
    let left = folder.unlisted(names)?;
    match left.is_empty() {
        true => Ok(left),
        false => folder.unlisted(left),
    }
}

/// What processes of our own mount namespace run and map, each once.
fn of_processes(host: &Host, sink: &Sink<'_>) -> Result<BTreeMap<PathBuf, i32>, Halt> {
    let mut found = BTreeMap::new();
    let namespace = |folder: &Folder| folder.read_link("ns/mnt").ok();
    let own = host.own().ok().and_then(|own| namespace(&own));
    for pid in host.pids().unwrap_or_default() {
        sink.check()?;
        let Ok(folder) = host.process(pid) else {
            continue;
        };
        if own.is_none() || namespace(&folder) != own {
            continue;
        }
        let mut add = |path: &[u8]| {
            if path.starts_with(b"/") && !path.ends_with(b" (deleted)") {
                let path = PathBuf::from(OsStr::from_bytes(path));
                found.entry(path).or_insert(pid);
            }
        };
        if let Ok(path) = folder.read_link("exe") {
            add(&path);
        }
        let maps = folder.read("maps", SMALL).map(|maps| maps.bytes);
        for mapping in parse::mappings(&maps.unwrap_or_default()) {
            if mapping.executable && mapping.inode != 0 {
                add(mapping.path.as_bytes());
            }
        }
    }
    Ok(found)
}

fn told(host: &Host, path: &Path, pid: Option<i32>, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let name = Name::of(path.as_os_str().as_bytes());
    sink.record("hidden/names", &Hidden { path: name, pid })?;
    let text = path.to_string_lossy();
    let by = pid.map_or_else(String::new, |pid| format!(", and process {pid} runs it"));
    sink.finding(&Finding {
        rule: "hidden-name",
        technique: "T1564.001",
        reason: format!("{text} is there and its directory does not list it{by}"),
        known_benign: "a damaged file system",
        pid,
        path: Some(&text),
    })?;
    // The families never see it; of what runs, the content is the evidence.
    match host.root().open(path) {
        Ok(file) if pid.is_some() && !sink.has(path) => sink.file(path, file),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_is_one_place() {
        let globs = [
            "/etc/passwd",
            "/etc/*",
            "~/.ssh",
            "/a/[b]",
            "/a/{b,c}",
            "/x",
        ];
        let globs = globs.map(str::to_owned);
        let found: Vec<_> = literal(globs.iter()).into_iter().collect();
        assert_eq!(found, [PathBuf::from("/etc/passwd"), PathBuf::from("/x")]);
    }

    #[test]
    fn what_is_listed_or_not_there_is_not_hidden() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("there"), "").unwrap();
        let host = Host::open(root.path()).unwrap();
        let names = ["there", "gone"].map(OsString::from).to_vec();
        assert!(hidden(host.root(), names).unwrap().is_empty());
    }
}
