//! Processes that a view shows and the listing of `/proc` does not.
//!
//! A candidate is a number that some view shows and that a listing from before does not. It is a hidden process when it
//! is held (by a descriptor where the kernel has those), two more listings are taken, neither has it, and it still runs:
//! a listing has every process that lived from its start to its end (`next_tgid`, `fs/proc/base.c`). So no process that
//! merely came or went is taken for a hidden one, however many come and go. Threads are not listed either; they are told
//! from processes by their group.

use std::collections::{BTreeMap, BTreeSet};

use crate::capture::{CaptureError, Halt, Sink};
use crate::host::{Folder, Host, HostError};

use super::machine::{Gathered, Live};
use super::{Finding, covered, threads};

/// Candidates that are held at one time: each may take a descriptor.
const BATCH: usize = 128;
/// Most candidates that are looked at again.
const MOST: usize = 1 << 16;

/// By what a process is known to be the same one.
#[derive(Debug)]
pub(super) enum Identity {
    /// It ended.
    Gone,
    /// A thread of a process, which nothing lists below `/proc` itself.
    Thread,
    /// What holds it, or its start time: as the machine says.
    Same(Held),
}

/// What a candidate is held by.
#[derive(Debug)]
pub(super) enum Held {
    Descriptor(crate::host::HeldProcess),
    /// Clock ticks from boot to its start.
    Start(u64),
    /// A system call answers for the number. Weaker: only the number is the same.
    Number,
    /// A cgroup lists it, and no system call answers for it. Weaker too.
    Cgroup(String),
}

impl Held {
    fn name(&self) -> &'static str {
        match self {
            Self::Descriptor(_) => "pidfd",
            Self::Start(_) => "start_time",
            Self::Number => "number",
            Self::Cgroup(_) => "cgroup",
        }
    }
}

/// What can be asked again about candidates.
pub(super) trait Machine {
    /// Numbers in the listing of `/proc`.
    fn listed(&self) -> Result<BTreeSet<i32>, HostError>;
    /// Takes hold of what has this number now.
    fn hold(&self, pid: i32) -> Identity;
    /// Whether it still runs, and is the same.
    fn still(&self, pid: i32, held: &Held) -> bool;
}

/// The candidates that are hidden, each with what its identity rests on.
///
/// # Errors
/// When `/proc` can not be listed, or as `check` says.
pub(super) fn judge(
    machine: &impl Machine,
    candidates: &[i32],
    mut check: impl FnMut() -> Result<(), Halt>,
) -> Result<BTreeMap<i32, &'static str>, CaptureError> {
    let mut hidden = BTreeMap::new();
    for batch in candidates.chunks(BATCH) {
        check()?;
        let identity = |pid: &i32| match machine.hold(*pid) {
            Identity::Same(held) => Some((*pid, held)),
            Identity::Gone | Identity::Thread => None,
        };
        let mut left: Vec<(i32, Held)> = batch.iter().filter_map(identity).collect();
        for _ in 0..2 {
            if left.is_empty() {
                break;
            }
            let listed = machine.listed().map_err(CaptureError::host("/proc"))?;
            left.retain(|(pid, held)| !listed.contains(pid) && machine.still(*pid, held));
        }
        hidden.extend(left.iter().map(|(pid, held)| (*pid, held.name())));
    }
    Ok(hidden)
}

/// Compares all views of this machine; the answer is what hides without a reason, `None` when it could not be looked for.
///
/// # Errors
/// When `/proc` can not be listed, or the artifact has to end.
pub(super) fn capture(
    host: &Host,
    fresh: Option<&Folder>,
    sink: &mut Sink<'_>,
) -> Result<Option<BTreeSet<i32>>, CaptureError> {
    let own = i32::try_from(std::process::id()).ok();
    if !host.is_live() || host.own_pid() != own {
        // Numbers of another pid namespace mean other processes.
        let why =
            "this /proc shows another pid namespace than ours: its numbers can not be asked for";
        if host.is_live() {
            sink.loss("failed:other_pid_namespace");
            sink.note(why.to_owned());
        }
        return Ok(None);
    }
    let live = Live::new(host, fresh);
    let before = live.listed().map_err(CaptureError::host("/proc"))?;
    let gathered = live.gather(&before, sink)?;
    threads::capture(host, &gathered.threads, sink)?;
    let mut candidates: Vec<i32> = gathered
        .seen
        .keys()
        .copied()
        .filter(|pid| !before.contains(pid))
        .collect();
    if candidates.len() > MOST {
        candidates.truncate(MOST);
        sink.loss("truncated");
    }
    let hidden = judge(&live, &candidates, || sink.check())?;
    let options = covered::proc_options(host);
    let explained = options.filter(|options| covered::hides_from_us(host, options));
    let found = match explained {
        Some(_) => BTreeSet::new(),
        None => hidden.keys().copied().collect(),
    };
    for (pid, identity) in hidden {
        told(
            &live,
            &gathered,
            (pid, identity),
            explained.as_deref(),
            sink,
        )?;
    }
    Ok(Some(found))
}

fn told(
    live: &Live<'_>,
    gathered: &Gathered,
    (pid, identity): (i32, &'static str),
    explained: Option<&str>,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let views = gathered.seen.get(&pid).cloned().unwrap_or_default();
    let record = live.describe(pid, identity, views, explained);
    sink.record("hidden/processes", &record)?;
    if explained.is_some() {
        return Ok(());
    }
    let reason = format!(
        "process {pid} ({}) runs and is not in the listing of /proc; seen by {}",
        record.name.as_deref().unwrap_or("no name"),
        record.seen_by.join(", ")
    );
    sink.finding(&Finding {
        rule: "hidden-process",
        technique: "T1014",
        reason,
        known_benign: "none known",
        pid: Some(pid),
        path: None,
    })
}
