//! The processes that cgroups list: they come from the tasks themselves, not from the table of pids.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::capture::kernel::mount;
use crate::capture::{Halt, Sink};
use crate::host::{Host, SMALL};

/// Most cgroups that are looked at, and how deep they nest.
const MOST: usize = 20_000;
const DEPTH: usize = 32;
/// Most bytes of one list of processes.
const MAX_LIST: usize = 4 << 20;

/// Processes by number, each with a cgroup that lists it; and whether some were left out.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub pids: BTreeMap<i32, String>,
    pub cgroups: usize,
    pub truncated: bool,
}

/// Where cgroups are mounted.
pub(super) fn places(host: &Host) -> Vec<PathBuf> {
    let table = host.own().and_then(|own| own.read("mountinfo", SMALL));
    let bytes = table.map(|content| content.bytes).unwrap_or_default();
    let mounts = bytes.split(|byte| *byte == b'\n').filter_map(mount);
    let of_cgroups = mounts.filter(|mount| matches!(mount.kind(), "cgroup" | "cgroup2"));
    let points: BTreeSet<PathBuf> = of_cgroups
        .map(|mount| PathBuf::from(mount.point()))
        .collect();
    points.into_iter().collect()
}

/// What all cgroups below `places` list.
///
/// # Errors
/// When the artifact has to end.
pub(super) fn listed(host: &Host, places: &[PathBuf], sink: &Sink<'_>) -> Result<Listed, Halt> {
    let mut listed = Listed::default();
    let mut folders: Vec<(PathBuf, usize)> =
        places.iter().map(|place| (place.clone(), 0)).collect();
    while let Some((path, depth)) = folders.pop() {
        sink.check()?;
        if listed.cgroups >= MOST {
            listed.truncated = true;
            break;
        }
        listed.cgroups += 1;
        // A threaded cgroup answers EOPNOTSUPP: its processes stand in the one above.
        if let Ok(content) = host.root().read(path.join("cgroup.procs"), MAX_LIST) {
            listed.truncated |= content.truncated;
            for pid in numbers(&content.bytes) {
                listed
                    .pids
                    .entry(pid)
                    .or_insert_with(|| path.display().to_string());
            }
        }
        let Ok(entries) = host.root().list(&path) else {
            continue;
        };
        let folders_below = entries
            .iter()
            .filter(|entry| entry.is_directory == Some(true));
        let below: Vec<_> = folders_below
            .map(|entry| (path.join(&entry.name), depth + 1))
            .collect();
        match depth < DEPTH {
            true => folders.extend(below),
            false => listed.truncated |= !below.is_empty(),
        }
    }
    Ok(listed)
}

/// Whether the cgroup at `path` lists `pid`.
pub(super) fn lists(host: &Host, path: &str, pid: i32) -> bool {
    let content = host
        .root()
        .read(Path::new(path).join("cgroup.procs"), MAX_LIST);
    content.is_ok_and(|content| numbers(&content.bytes).any(|listed| listed == pid))
}

/// Process numbers, apart by white space; 0 stands for a process of another pid namespace, and is left out.
pub fn numbers(bytes: &[u8]) -> impl Iterator<Item = i32> {
    let words = bytes.split(u8::is_ascii_whitespace);
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<i32>().ok();
    words.filter_map(number).filter(|number| *number > 0)
}
