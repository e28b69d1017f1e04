//! Threads that answer by number and that the list of their process does not show.
//!
//! As with processes, a list has every thread that lived from its start to its end (`first_tid`, `next_tid`,
//! `fs/proc/base.c`). So a thread is hidden that answers as one of its process before and after two lists, and is in
//! neither.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Finding, ViewRecord, record};
use crate::capture::processes::parse;
use crate::capture::{Halt, Sink};
use crate::host::{Host, HostError, Question, SMALL, is_thread_of};

/// What can be asked about the threads of a process.
pub(super) trait Tasks {
    /// The threads that its list shows.
    fn listed(&self, pid: i32) -> Result<BTreeSet<i32>, HostError>;
    /// Whether it has this thread.
    fn has(&self, pid: i32, tid: i32) -> bool;
}

impl Tasks for &Host {
    fn listed(&self, pid: i32) -> Result<BTreeSet<i32>, HostError> {
        let entries = self.process(pid)?.list("task")?;
        let numbers = entries.iter().filter_map(|entry| entry.name.to_str());
        Ok(numbers.filter_map(|name| name.parse().ok()).collect())
    }

    fn has(&self, pid: i32, tid: i32) -> bool {
        is_thread_of(pid, tid)
    }
}

/// A thread that hides.
#[derive(Serialize)]
struct Thread {
    pid: i32,
    tid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// Those of the threads `seen` of a process that are hidden.
///
/// # Errors
/// When the process is gone, or its list can not be read.
pub(super) fn hidden(
    tasks: &impl Tasks,
    pid: i32,
    seen: &BTreeSet<i32>,
) -> Result<BTreeSet<i32>, HostError> {
    let listed = tasks.listed(pid)?;
    let mut left: BTreeSet<i32> = seen.difference(&listed).copied().collect();
    // Most have ended since.
    left.retain(|tid| tasks.has(pid, *tid));
    for _ in 0..2 {
        if left.is_empty() {
            break;
        }
        let listed = tasks.listed(pid)?;
        left.retain(|tid| !listed.contains(tid) && tasks.has(pid, *tid));
    }
    Ok(left)
}

/// Compares the threads that were seen by number, by process, with the list of each.
///
/// # Errors
/// When the artifact has to end.
pub(super) fn capture(
    host: &Host,
    seen: &BTreeMap<i32, BTreeSet<i32>>,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let mut view = ViewRecord {
        view: "threads",
        found: Some(seen.values().map(|tids| tids.len() as u64).sum()),
        ..ViewRecord::default()
    };
    // Where the question itself is refused, the answer would be that all of them are there.
    if !Question::Leader.works() {
        sink.loss("denied:threads");
        view.error = Some("tgkill is not allowed here".to_owned());
        return record(sink, &view);
    }
    record(sink, &view)?;
    for (pid, seen) in seen {
        sink.check()?;
        match hidden(&host, *pid, seen) {
            Ok(hidden) => hidden
                .into_iter()
                .try_for_each(|tid| told(host, *pid, tid, sink))?,
            Err(error) if error.is_gone() => {}
            Err(error) => sink.count(&error),
        }
    }
    Ok(())
}

fn told(host: &Host, pid: i32, tid: i32, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let name = host.root().read(format!("proc/{tid}/comm"), SMALL).ok();
    let name = name.map(|name| parse::text(name.bytes.trim_ascii_end()));
    let reason = format!(
        "thread {tid} ({}) of process {pid} runs and is not in the list of its threads",
        name.as_deref().unwrap_or("no name")
    );
    sink.record("hidden/threads", &Thread { pid, tid, name })?;
    sink.finding(&Finding {
        rule: "hidden-thread",
        technique: "T1014",
        reason,
        known_benign: "none known",
        pid: Some(pid),
        path: None,
    })
}
