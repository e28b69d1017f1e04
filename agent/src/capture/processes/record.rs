//! The parsed view of a process, with ECS names where they exist and our own under `exhibit`.

use std::collections::BTreeMap;

use evidence::digest::Digest;
use serde::Serialize;

use super::parse::{self, Limit, Mapping};
use super::read::{ByName, Process};
use crate::capture::users::Users;
use crate::host::{Content, HostError};
use crate::text::rfc3339;

/// A line of `live_response/process/processes.jsonl`.
#[derive(Debug, Serialize)]
pub struct Record {
    pub process: Ecs,
    pub user: User,
    pub exhibit: Own,
}

/// ECS field set `process`.
#[derive(Debug, Serialize)]
pub struct Ecs {
    pub pid: i32,
    pub entity_id: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    pub args: Vec<String>,
    pub command_line: String,
    pub start: String,
    pub parent: Parent,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_vars: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Parent {
    pub pid: i32,
}

#[derive(Debug, Serialize)]
pub struct Hash {
    pub sha256: Digest,
}

/// ECS field set `user`: the effective user, with names from the host's passwd file.
#[derive(Debug, Serialize)]
pub struct User {
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What ECS has no name for.
#[derive(Debug, Serialize)]
pub struct Own {
    /// SHA-256 of the environment, where only that was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_sha256: Option<Digest>,
    pub state: char,
    pub kernel_thread: bool,
    pub start_ticks: u64,
    pub session: i32,
    pub process_group: i32,
    pub tty: i64,
    pub user_ticks: u64,
    pub system_ticks: u64,
    /// `uid` and `gid`: real, effective, saved, file system.
    pub uids: Vec<u32>,
    pub gids: Vec<u32>,
    pub groups: Vec<u32>,
    pub tracer_pid: Option<i32>,
    pub seccomp: Option<u32>,
    pub no_new_privileges: Option<bool>,
    pub login_uid: Option<u32>,
    pub capabilities: BTreeMap<&'static str, Vec<String>>,
    pub root: Option<String>,
    pub namespaces: BTreeMap<String, String>,
    pub cgroups: Vec<String>,
    pub security_label: Option<String>,
    pub wait_channel: Option<String>,
    pub kernel_stack: Vec<String>,
    pub io: BTreeMap<String, u64>,
    pub limits: BTreeMap<String, Limit>,
    pub threads: Vec<Thread>,
    pub fds: Vec<Fd>,
    pub mapped_files: Vec<MappedFile>,
    /// Executable memory that no file stands behind, in mappings.
    pub anonymous_executable_mappings: usize,
    /// What could not be read, by name, with the kernel's error.
    pub errors: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
pub struct Thread {
    pub tid: i32,
    pub name: String,
    pub state: Option<char>,
}

#[derive(Debug, Serialize)]
pub struct Fd {
    pub fd: u32,
    pub target: String,
    /// `fdinfo`, as it is: position, flags in octal, mount id, and what the kind of file adds.
    pub info: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
pub struct MappedFile {
    pub path: String,
    pub inode: u64,
    pub device: String,
    pub executable: bool,
}

/// Facts of the host that all records need.
pub struct Context {
    pub boot_id: String,
    /// Boot time in seconds since the epoch, from `btime` of `/proc/stat`.
    pub boot_time: i64,
    pub ticks_per_second: i64,
    pub users: Users,
}

impl Context {
    /// When a process with these start ticks began, in nanoseconds since the epoch.
    pub fn start_ns(&self, start_ticks: u64) -> i64 {
        let ticks = i64::try_from(start_ticks).unwrap_or(0);
        let nanoseconds = ticks.saturating_mul(1_000_000_000) / self.ticks_per_second.max(1);
        self.boot_time
            .saturating_mul(1_000_000_000)
            .saturating_add(nanoseconds)
    }

    /// A name for the process that no other ever has (`docs/format.md`).
    pub fn entity_id(&self, pid: i32, start_ticks: u64) -> String {
        Digest::of(format!("{} {pid} {start_ticks}", self.boot_id).as_bytes()).to_string()
    }
}

/// The record of `process`, whose executable has the hash `exe`.
pub fn record(process: &Process, context: &Context, exe: Option<Digest>) -> Record {
    let stat = &process.stat;
    let status = process
        .text("status")
        .map(parse::keys_and_values)
        .unwrap_or_default();
    let args = process
        .text("cmdline")
        .map(parse::strings)
        .unwrap_or_default();
    let uids = numbers(&status, "Uid");
    let link = |name: &str| {
        process
            .links
            .get(name)
            .and_then(|link| link.as_ref().ok())
            .map(|link| parse::text(link))
    };
    Record {
        process: Ecs {
            pid: stat.pid,
            entity_id: context.entity_id(stat.pid, stat.start_ticks),
            name: stat.comm.clone(),
            executable: link("exe"),
            command_line: args.join(" "),
            args,
            start: rfc3339(context.start_ns(stat.start_ticks)),
            parent: Parent { pid: stat.ppid },
            hash: exe.map(|sha256| Hash { sha256 }),
            working_directory: link("cwd"),
            env_vars: process
                .text("environ")
                .map(parse::strings)
                .unwrap_or_default(),
        },
        user: User {
            id: uids.get(1).map(ToString::to_string),
            name: uids.get(1).and_then(|uid| context.users.name(*uid)),
        },
        exhibit: own(process, &status, uids, link("root")),
    }
}

fn own(
    process: &Process,
    status: &BTreeMap<String, String>,
    uids: Vec<u32>,
    root: Option<String>,
) -> Own {
    let stat = &process.stat;
    let lines = |name: &str| -> Vec<String> {
        process
            .text(name)
            .map(parse::text)
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    };
    let line = |name: &str| {
        lines(name)
            .into_iter()
            .next()
            .map(|line| line.trim_end_matches('\0').to_owned())
    };
    let mappings = process
        .text("maps")
        .map(parse::mappings)
        .unwrap_or_default();
    Own {
        environment_sha256: None,
        state: stat.state,
        kernel_thread: stat.is_kernel_thread(),
        start_ticks: stat.start_ticks,
        session: stat.session,
        process_group: stat.pgrp,
        tty: stat.tty,
        user_ticks: stat.user_ticks,
        system_ticks: stat.system_ticks,
        gids: numbers(status, "Gid"),
        groups: numbers(status, "Groups"),
        uids,
        tracer_pid: status.get("TracerPid").and_then(|pid| pid.parse().ok()),
        seccomp: status.get("Seccomp").and_then(|mode| mode.parse().ok()),
        no_new_privileges: status.get("NoNewPrivs").map(|value| value == "1"),
        // (uid_t) -1 stands for "no login".
        login_uid: line("loginuid")
            .and_then(|uid| uid.parse().ok())
            .filter(|uid| *uid != u32::MAX),
        capabilities: capability_sets(status),
        root,
        namespaces: namespaces(process),
        cgroups: lines("cgroup"),
        security_label: line("attr/current").filter(|label| !label.is_empty()),
        wait_channel: line("wchan").filter(|channel| channel != "0"),
        kernel_stack: lines("stack"),
        io: process
            .text("io")
            .map(parse::keys_and_values)
            .unwrap_or_default()
            .into_iter()
            .filter_map(number)
            .collect(),
        limits: process
            .text("limits")
            .map(parse::limits)
            .unwrap_or_default(),
        threads: threads(process),
        fds: fds(process),
        anonymous_executable_mappings: mappings
            .iter()
            .filter(|m| m.executable && m.inode == 0 && !m.path.starts_with("[v"))
            .count(),
        mapped_files: mapped_files(&mappings),
        errors: errors(process),
    }
}

impl Process {
    /// The bytes of a text that could be read.
    pub fn text(&self, name: &str) -> Option<&[u8]> {
        self.texts
            .get(name)?
            .as_ref()
            .ok()
            .map(|content| content.bytes.as_slice())
    }
}

fn number((key, value): (String, String)) -> Option<(String, u64)> {
    Some((key, value.parse().ok()?))
}

fn numbers(status: &BTreeMap<String, String>, key: &str) -> Vec<u32> {
    let fields = status
        .get(key)
        .map_or("", String::as_str)
        .split_ascii_whitespace();
    fields.filter_map(|field| field.parse().ok()).collect()
}

fn capability_sets(status: &BTreeMap<String, String>) -> BTreeMap<&'static str, Vec<String>> {
    let sets = [
        ("inheritable", "CapInh"),
        ("permitted", "CapPrm"),
        ("effective", "CapEff"),
        ("bounding", "CapBnd"),
        ("ambient", "CapAmb"),
    ];
    sets.into_iter()
        .filter_map(|(name, key)| Some((name, parse::capabilities(status.get(key)?)?)))
        .collect()
}

fn namespaces(process: &Process) -> BTreeMap<String, String> {
    let links = process
        .links
        .iter()
        .filter_map(|(name, link)| Some((name.strip_prefix("ns/")?, link.as_ref().ok()?)));
    links
        .map(|(name, link)| (name.to_owned(), parse::text(link)))
        .collect()
}

fn threads(process: &Process) -> Vec<Thread> {
    let mut threads: Vec<Thread> = process
        .threads
        .iter()
        .filter_map(|(name, content)| {
            let tid = name.strip_prefix("task/")?.strip_suffix("/comm")?;
            let state = process
                .threads
                .get(&format!("task/{tid}/stat"))
                .and_then(|c| parse::stat(&c.as_ref().ok()?.bytes));
            Some(Thread {
                tid: tid.parse().ok()?,
                name: parse::text(content.as_ref().ok()?.bytes.trim_ascii_end()),
                state: state.map(|stat| stat.state),
            })
        })
        .collect();
    threads.sort_by_key(|thread| thread.tid);
    threads
}

fn fds(process: &Process) -> Vec<Fd> {
    let info = |fd: u32| match process.fdinfo.get(&format!("fdinfo/{fd}")) {
        Some(Ok(content)) => parse::keys_and_values(&content.bytes),
        _ => BTreeMap::new(),
    };
    let open = process.fds.iter().filter_map(|(name, target)| {
        let fd = name.strip_prefix("fd/")?.parse().ok()?;
        Some(Fd {
            fd,
            target: parse::text(target.as_ref().ok()?),
            info: info(fd),
        })
    });
    let mut fds: Vec<Fd> = open.collect();
    fds.sort_by_key(|fd| fd.fd);
    fds
}

fn mapped_files(mappings: &[Mapping]) -> Vec<MappedFile> {
    let mut files: BTreeMap<(&str, u64, &str), bool> = BTreeMap::new();
    for mapping in mappings.iter().filter(|mapping| mapping.inode != 0) {
        *files
            .entry((&mapping.path, mapping.inode, &mapping.device))
            .or_default() |= mapping.executable;
    }
    let file = |((path, inode, device), executable): ((&str, u64, &str), bool)| MappedFile {
        path: path.to_owned(),
        inode,
        device: device.to_owned(),
        executable,
    };
    files.into_iter().map(file).collect()
}

fn errors(process: &Process) -> BTreeMap<String, String> {
    fn of<T>(items: &ByName<T>) -> impl Iterator<Item = (String, &HostError)> {
        items
            .iter()
            .filter_map(|(name, item)| Some((name.clone(), item.as_ref().err()?)))
    }
    let exe = process
        .exe
        .iter()
        .filter_map(|exe| Some(("exe (content)".to_owned(), exe.as_ref().err()?)));
    let listings = process
        .listings
        .iter()
        .map(|(name, error)| ((*name).to_owned(), error));
    let texts = of::<Content>(&process.texts)
        .chain(of(&process.threads))
        .chain(of(&process.fdinfo));
    let links = of::<Vec<u8>>(&process.links).chain(of(&process.fds));
    let all = texts.chain(links).chain(exe).chain(listings);
    all.map(|(name, error)| (name, error.errno().unwrap_or_else(|| error.to_string())))
        .collect()
}
