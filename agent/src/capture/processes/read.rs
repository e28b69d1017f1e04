//! One pass over a process: all its fields, from one open directory, with its identity checked before and after.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::parse::{self, Stat};
use crate::host::{Content, Each, Folder, Host, HostError, HostFile, SMALL};

/// Texts that every task has.
const TEXTS: &[&str] = &[
    "stat",
    "status",
    "cmdline",
    "comm",
    "cgroup",
    "limits",
    "loginuid",
    "sessionid",
    "oom_score_adj",
    "wchan",
    "stack",
    "attr/current",
];
/// Texts that only tasks with memory of their own have.
const USER_TEXTS: &[&str] = &[
    "environ",
    "maps",
    "statm",
    "io",
    "mountinfo",
    "personality",
    "timers",
    "timerslack_ns",
];
const LINKS: &[&str] = &["exe", "cwd", "root"];
const NAMESPACES: &[&str] = &[
    "ns/cgroup",
    "ns/ipc",
    "ns/mnt",
    "ns/net",
    "ns/pid",
    "ns/pid_for_children",
    "ns/time",
    "ns/time_for_children",
    "ns/user",
    "ns/uts",
];

/// Longest text of the usual ones, and of `fdinfo` and a thread, in bytes.
const TEXT: usize = 2 << 20;
const SMALL_TEXT: usize = 64 << 10;
/// Descriptors and threads of one process that are read, and bytes of their texts together: more would be the attacker's
/// way to fill our memory.
const MAX_LISTED: usize = 32_768;
const MAX_TEXTS: usize = 8 << 20;
/// Texts that are read in one go.
const BATCH: usize = 64;

/// Files, links or their errors by their name below `/proc/PID`.
pub type ByName<T> = BTreeMap<String, Result<T, HostError>>;

/// What was read of one process.
pub struct Process {
    pub folder: Folder,
    pub stat: Stat,
    pub texts: ByName<Content>,
    pub links: ByName<Vec<u8>>,
    /// `fd/N` and what it stands for.
    pub fds: ByName<Vec<u8>>,
    pub fdinfo: ByName<Content>,
    /// `task/TID/comm` and `task/TID/stat`.
    pub threads: ByName<Content>,
    /// Errors of the listings of `fd` and `task`.
    pub listings: BTreeMap<&'static str, HostError>,
    /// The executable, held open: it is hashed when the record is complete.
    pub exe: Option<Result<HostFile, HostError>>,
}

/// Reads a process. `None` when it is gone; one that became another in between is read again, once.
///
/// # Errors
/// When the process is there, but its identity can not be read.
pub fn process(host: &Host, pid: i32) -> Result<Option<Process>, HostError> {
    for _ in 0..2 {
        let folder = match host.process(pid) {
            Ok(folder) => folder,
            Err(error) if error.is_gone() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(before) = identity(&folder)? else {
            return Ok(None);
        };
        let process = all(host, folder, before);
        match identity(&process.folder)? {
            Some(after) if after.start_ticks == process.stat.start_ticks => {
                return Ok(Some(process));
            }
            // It ended while it was read: a record with holes would look like one that hides something.
            None => return Ok(None),
            Some(_) => {}
        }
    }
    Ok(None)
}

fn identity(folder: &Folder) -> Result<Option<Stat>, HostError> {
    match folder.read("stat", SMALL) {
        Ok(content) => Ok(parse::stat(&content.bytes)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

fn all(host: &Host, folder: Folder, before: Stat) -> Process {
    let mut texts = read_texts(&folder, TEXTS.iter().copied(), TEXT);
    let mut links = ByName::new();
    let user = !before.is_kernel_thread();
    if user {
        texts.extend(read_texts(&folder, USER_TEXTS.iter().copied(), SMALL));
        links.extend(read_links(&folder, LINKS.iter().copied()));
    }
    links.extend(read_links(&folder, NAMESPACES.iter().copied()));
    let mut listings = BTreeMap::new();
    let mut listed = |what: &'static str| -> Vec<String> {
        let names = folder
            .list(what)
            .map_err(|error| listings.insert(what, error))
            .unwrap_or_default();
        if names.len() > MAX_LISTED {
            listings.insert(what, HostError::TooMuch);
        }
        names
            .into_iter()
            .take(MAX_LISTED)
            .filter_map(|entry| entry.name.into_string().ok())
            .collect()
    };
    let numbers = listed("fd");
    let tasks = listed("task");
    let fds = read_links(&folder, numbers.iter().map(|n| format!("fd/{n}")));
    let fdinfo = read_many(
        &folder,
        numbers.iter().map(|n| format!("fdinfo/{n}")),
        "fdinfo",
        &mut listings,
    );
    let threads = tasks
        .iter()
        .flat_map(|tid| [format!("task/{tid}/comm"), format!("task/{tid}/stat")]);
    let threads = read_many(&folder, threads, "task", &mut listings);
    let exe = (user && host.is_live()).then(|| folder.open_magic("exe"));
    // The stat that is kept is the one that was read with the other texts.
    let stat = texts
        .get("stat")
        .and_then(|c| parse::stat(&c.as_ref().ok()?.bytes))
        .unwrap_or(before);
    Process {
        folder,
        stat,
        texts,
        links,
        fds,
        fdinfo,
        threads,
        listings,
        exe,
    }
}

fn read_texts(
    folder: &Folder,
    names: impl Iterator<Item = impl Into<String>>,
    cap: usize,
) -> ByName<Content> {
    let names: Vec<String> = names.map(Into::into).collect();
    by_name(
        &names,
        folder.read_all(names.iter().map(OsString::from).collect(), cap),
    )
}

/// Reads small texts in batches, until they are more than one process may fill our memory with.
fn read_many(
    folder: &Folder,
    names: impl Iterator<Item = String>,
    what: &'static str,
    listings: &mut BTreeMap<&'static str, HostError>,
) -> ByName<Content> {
    let names: Vec<String> = names.collect();
    let (mut texts, mut bytes) = (ByName::new(), 0);
    for batch in names.chunks(BATCH) {
        if bytes > MAX_TEXTS {
            listings.insert(what, HostError::TooMuch);
            break;
        }
        let batch = read_texts(folder, batch.iter().cloned(), SMALL_TEXT);
        bytes += batch
            .values()
            .filter_map(|text| Some(text.as_ref().ok()?.bytes.len()))
            .sum::<usize>();
        texts.extend(batch);
    }
    texts
}

fn read_links(folder: &Folder, names: impl Iterator<Item = impl Into<String>>) -> ByName<Vec<u8>> {
    let names: Vec<String> = names.map(Into::into).collect();
    by_name(
        &names,
        folder.read_links(names.iter().map(OsString::from).collect()),
    )
}

fn by_name<T>(names: &[String], answers: Result<Each<T>, HostError>) -> ByName<T> {
    match answers {
        Ok(answers) => answers
            .into_iter()
            .map(|(name, answer)| (name.to_string_lossy().into_owned(), answer))
            .collect(),
        // All of them took too long together: each says so.
        Err(error) => names
            .iter()
            .map(|name| (name.clone(), Err(error.clone())))
            .collect(),
    }
}
