//! Which process is in which container: by its cgroup, which the kernel keeps; by a state file that names it as the first
//! process; or by namespaces that it has in common with one, though it is in no container's cgroup.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use serde::Serialize;

use super::cgroup::{self, Claim};
use super::states::Known;
use crate::capture::processes::parse::{self, text};
use crate::capture::{Halt, Sink};
use crate::host::{Host, HostError};

/// Kinds of namespaces that are compared, those that say most of membership first.
pub const KINDS: [&str; 5] = ["mnt", "pid", "net", "ipc", "uts"];
/// Of these, those that make a process a member: the others are more often in common by intent.
const OF_MEMBERS: usize = 3;
/// Longest text of `/proc/PID/cgroup` and `stat`.
const LONGEST: usize = 64 << 10;

pub type Namespaces = BTreeMap<&'static str, u64>;

/// What of a process tells where it is.
#[derive(Clone, Debug, Default)]
pub struct Process {
    pub pid: i32,
    pub start_ticks: u64,
    pub name: String,
    /// Text of `/proc/PID/cgroup`.
    pub cgroup: String,
    pub namespaces: Namespaces,
}

/// How a process was attributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Its cgroup names the container.
    Cgroup,
    /// Its cgroup is below that of the container's first process.
    CgroupOfInit,
    /// A state file names it as the first process.
    State,
    MountNamespace,
    PidNamespace,
    NetworkNamespace,
}

impl How {
    /// Whether only namespaces tell.
    pub fn is_by_namespace(self) -> bool {
        self >= Self::MountNamespace
    }
}

/// A process in a container.
#[derive(Clone, Debug)]
pub struct Member {
    pub process: Process,
    pub id: String,
    pub how: How,
    pub claim: Option<Claim>,
    /// Kinds of namespaces that it has in common with the host's first process.
    pub with_host: Vec<&'static str>,
}

/// All processes that are no kernel threads.
///
/// # Errors
/// When the artifact has to end.
pub fn processes(host: &Host, sink: &mut Sink<'_>) -> Result<Vec<Process>, Halt> {
    let pids = host.pids().inspect_err(|error| sink.count(error));
    let mut processes = Vec::new();
    for pid in pids.unwrap_or_default() {
        sink.check()?;
        match process(host, pid) {
            Ok(process) => processes.extend(process),
            Err(error) => sink.count(&error),
        }
    }
    Ok(processes)
}

fn process(host: &Host, pid: i32) -> Result<Option<Process>, HostError> {
    let folder = host.process(pid)?;
    let Some(stat) = parse::stat(&folder.read("stat", LONGEST)?.bytes) else {
        return Ok(None);
    };
    if stat.is_kernel_thread() {
        return Ok(None);
    }
    let cgroup = match folder.read("cgroup", LONGEST) {
        Ok(content) => text(&content.bytes),
        // A kernel without cgroups.
        Err(error) if error.is_gone() => String::new(),
        Err(error) => return Err(error),
    };
    let names = KINDS
        .iter()
        .map(|kind| OsString::from(format!("ns/{kind}")));
    let links = folder.read_links(names.collect())?;
    let namespaces = KINDS
        .iter()
        .zip(links)
        .filter_map(|(kind, (_, link))| Some((*kind, inode(&link.ok()?)?)));
    Ok(Some(Process {
        pid,
        start_ticks: stat.start_ticks,
        name: stat.comm,
        cgroup,
        namespaces: namespaces.collect(),
    }))
}

/// The number in `mnt:[4026531841]`.
fn inode(link: &[u8]) -> Option<u64> {
    let (_, number) = std::str::from_utf8(link).ok()?.split_once(":[")?;
    number.strip_suffix(']')?.parse().ok()
}

/// The processes that are in containers.
pub fn members(processes: Vec<Process>, known: &Known) -> Vec<Member> {
    let host = hosts_namespaces(&processes);
    let member = |process: Process, id: &str, how, claim| Member {
        with_host: in_common(&process.namespaces, &host),
        process,
        id: id.to_owned(),
        how,
        claim,
    };
    let inits = inits(&processes, known);
    let homes = homes(&processes, &inits);
    let (mut members, mut others) = (Vec::new(), Vec::new());
    for process in processes {
        if let Some(claim) = claim(&process, known) {
            members.push(member(process, &claim.id.clone(), How::Cgroup, Some(claim)));
        } else if let Some(id) = inits.get(&process.pid) {
            members.push(member(process, id, How::State, None));
        } else if let Some(id) = at_home(&process, &homes) {
            members.push(member(process, id, How::CgroupOfInit, None));
        } else {
            others.push(process);
        }
    }
    let spaces = spaces(&members, &host);
    for process in others {
        if let Some((id, how)) = by_namespace(&process, &spaces) {
            members.push(member(process, &id, how, None));
        }
    }
    members.sort_by_key(|member| member.process.pid);
    members
}

/// The host's namespaces: those of the process that it started with.
pub fn hosts_namespaces(processes: &[Process]) -> Namespaces {
    let first = processes.iter().find(|process| process.pid == 1);
    first
        .map(|process| process.namespaces.clone())
        .unwrap_or_default()
}

fn in_common(mine: &Namespaces, host: &Namespaces) -> Vec<&'static str> {
    let common = mine
        .iter()
        .filter(|(kind, inode)| host.get(*kind) == Some(*inode));
    common.map(|(kind, _)| *kind).collect()
}

/// The innermost container that its cgroup names and a state file knows, else the innermost.
fn claim(process: &Process, known: &Known) -> Option<Claim> {
    let mut claims = cgroup::claims(&process.cgroup);
    let best = claims
        .iter()
        .rposition(|claim| known.contains_key(&claim.id));
    match best {
        Some(best) => Some(claims.swap_remove(best)),
        None => claims.pop(),
    }
}

/// First processes that are what state files say, with their containers.
fn inits<'a>(processes: &[Process], known: &'a Known) -> BTreeMap<i32, &'a str> {
    let starts: BTreeMap<i32, u64> = processes
        .iter()
        .map(|process| (process.pid, process.start_ticks))
        .collect();
    let mut inits = BTreeMap::new();
    for (id, container) in known {
        let Some(init) = container.init else {
            continue;
        };
        // The number of a process that ended is used again; the host's first process is in no container.
        let is_it = starts
            .get(&init.pid)
            .is_some_and(|start| init.start_ticks.is_none_or(|recorded| recorded == *start));
        if is_it && init.pid != 1 {
            inits.entry(init.pid).or_insert(id.as_str());
        }
    }
    inits
}

/// Cgroups of first processes, as far as a part of the path names the container.
fn homes<'a>(processes: &[Process], inits: &BTreeMap<i32, &'a str>) -> Vec<(String, &'a str)> {
    let mut homes = Vec::new();
    for process in processes {
        let Some(id) = inits.get(&process.pid) else {
            continue;
        };
        for path in cgroup::paths(&process.cgroup) {
            let scope = format!("-{id}.scope");
            let named = |part: &str| part == *id || part.ends_with(&scope);
            let parts: Vec<&str> = path.split('/').collect();
            let Some(at) = parts.iter().rposition(|part| named(part)) else {
                continue;
            };
            let home = parts.get(..=at).unwrap_or_default().join("/");
            homes.push((home, *id));
        }
    }
    homes
}

fn at_home<'a>(process: &Process, homes: &[(String, &'a str)]) -> Option<&'a str> {
    let below = |path: &str, home: &str| {
        path.strip_prefix(home)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let at =
        |(home, _): &&(String, &str)| cgroup::paths(&process.cgroup).any(|path| below(path, home));
    homes.iter().find(at).map(|(_, id)| *id)
}

type Spaces = BTreeMap<(&'static str, u64), BTreeSet<String>>;

/// Namespaces of containers that are not the host's, with the containers.
fn spaces(members: &[Member], host: &Namespaces) -> Spaces {
    let mut spaces = Spaces::new();
    for member in members {
        for (kind, inode) in &member.process.namespaces {
            // Where the host's are not known, each might be one of them.
            if host.get(kind).is_some_and(|hosts| hosts != inode) {
                spaces
                    .entry((*kind, *inode))
                    .or_default()
                    .insert(member.id.clone());
            }
        }
    }
    spaces
}

fn by_namespace(process: &Process, spaces: &Spaces) -> Option<(String, How)> {
    let ways = [
        How::MountNamespace,
        How::PidNamespace,
        How::NetworkNamespace,
    ];
    let mut ways = KINDS.iter().take(OF_MEMBERS).zip(ways);
    ways.find_map(|(kind, how)| {
        let inode = process.namespaces.get(kind)?;
        Some((spaces.get(&(*kind, *inode))?.first()?.clone(), how))
    })
}
