//! *first_sweep* and *last_sweep*: all processes and sockets at a glance, before everything and again at the end.
//!
//! The first takes a second at most and leaves the host at once. What differs between the two is churn, or hiding, or
//! an intruder who noticed: it stands in `live_response/process/changes.jsonl` and `network/changes.jsonl`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::rc::Rc;

use serde::Serialize;

use super::processes::parse::{self, Stat};
use super::processes::{context, record::Context};
use super::sockets::{self, Socket};
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::{Content, Host, HostError, clocks};
use crate::text::rfc3339;
use evidence::inventory::Name;

/// The look before everything else.
pub struct FirstSweep(Rc<RefCell<Option<Sweep>>>);

/// The look at the end, and what changed.
pub struct LastSweep(Rc<RefCell<Option<Sweep>>>);

/// Both, sharing what the first one saw.
pub fn pair() -> (FirstSweep, LastSweep) {
    let seen = Rc::default();
    (FirstSweep(Rc::clone(&seen)), LastSweep(seen))
}

static FIRST: Spec = Spec {
    name: "first_sweep",
    volatility: Volatility::FirstSweep,
    what: "all processes and sockets, a line each",
    why: "within a second the most volatile facts have left the host, whatever happens after",
    deadline_s: 60,
    max_bytes: 256 << 20,
};

static LAST: Spec = Spec {
    name: "last_sweep",
    volatility: Volatility::LastSweep,
    what: "all processes and sockets again, and what appeared, went or changed since the first sweep",
    why: "what moves while it is watched is a lead",
    deadline_s: 60,
    max_bytes: 256 << 20,
};

/// A process at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Glance {
    pid: i32,
    ppid: i32,
    entity_id: String,
    name: String,
    command_line: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    command_line_cut: bool,
    uid: Option<u32>,
    state: char,
    kernel_thread: bool,
    start: String,
    start_ticks: u64,
}

impl Glance {
    /// What seldom changes in the life of a process. Workers of the kernel are named after what they do just now.
    fn essence(&self) -> (i32, &str, &str, Option<u32>) {
        let name = if self.kernel_thread { "" } else { &self.name };
        (self.ppid, name, &self.command_line, self.uid)
    }
}

/// A socket at a glance. Queues and timers move all the time and are left to the artifact *sockets*.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct SocketGlance {
    family: &'static str,
    netns: u64,
    inode: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unix: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<u16>,
    /// Processes that hold it.
    pids: Vec<i32>,
}

impl SocketGlance {
    fn new(socket: &Socket, owners: &sockets::Owners) -> Self {
        let mut pids: Vec<i32> = owners
            .of(socket.inode)
            .iter()
            .map(|owner| owner.pid)
            .collect();
        pids.dedup();
        Self {
            family: socket.family.name(),
            netns: socket.netns,
            inode: socket.inode,
            state: socket.state,
            uid: socket.uid,
            local: socket.local().map(|end| end.to_string()),
            remote: socket.remote().map(|end| end.to_string()),
            unix: socket.path().map(Name::of),
            protocol: socket.protocol(),
            pids,
        }
    }

    /// What names it for the length of a run. Sockets that no process holds any more have no inode.
    fn key(&self) -> String {
        let ends = [&self.local, &self.remote].map(|end| end.as_deref().unwrap_or_default());
        format!(
            "{} {} {} {}",
            self.netns,
            self.family,
            self.inode,
            ends.join(" ")
        )
    }
}

/// What one sweep saw.
#[derive(Default)]
struct Sweep {
    processes: BTreeMap<(i32, u64), Glance>,
    sockets: BTreeMap<String, SocketGlance>,
}

impl Artifact for FirstSweep {
    fn spec(&self) -> &'static Spec {
        &FIRST
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let sweep = sweep(host, "first", sink)?;
        self.0.replace(Some(sweep));
        Ok(sink.flush()?)
    }
}

impl Artifact for LastSweep {
    fn spec(&self) -> &'static Spec {
        &LAST
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let now = sweep(host, "last", sink)?;
        match self.0.borrow().as_ref() {
            Some(before) => changes(before, &now, sink)?,
            None => sink.loss("failed:no_first_sweep"),
        }
        Ok(sink.flush()?)
    }
}

fn sweep(host: &Host, which: &str, sink: &mut Sink<'_>) -> Result<Sweep, CaptureError> {
    let context = context(host);
    let mut sweep = Sweep::default();
    covered(host, which, sink)?;
    for pid in host.pids().map_err(CaptureError::host("/proc"))? {
        match glance(host, pid, &context) {
            // Written at once: a sweep that is ended early still has what it saw.
            Ok(glance) => {
                sink.record(&format!("process/{which}_sweep"), &glance)?;
                sweep.processes.insert((pid, glance.start_ticks), glance);
            }
            Err(error) => sink.count(&error),
        }
    }
    let scan = sockets::scan(host);
    sockets::losses(&scan, sink);
    for socket in scan
        .sockets()
        .map(|socket| SocketGlance::new(socket, &scan.owners))
    {
        sink.record(&format!("network/{which}_sweep"), &socket)?;
        sweep.sockets.insert(socket.key(), socket);
    }
    Ok(sweep)
}

#[derive(Serialize)]
struct Covered {
    rule: &'static str,
    technique: &'static str,
    reason: String,
    known_benign: &'static str,
    sweep: String,
}

/// What is mounted below `/proc` hides what the kernel shows there: processes, or parts of them.
fn covered(host: &Host, which: &str, sink: &mut Sink<'_>) -> Result<(), Halt> {
    for point in host.mounts_over_proc() {
        sink.loss("failed:covered_by_a_mount");
        sink.finding(&Covered {
            rule: "mount-over-proc",
            technique: "T1564.013",
            reason: format!("{} is covered by a mount", point.display()),
            known_benign: "containers cover parts of /proc that are not processes",
            sweep: which.to_owned(),
        })?;
    }
    Ok(())
}

/// Longest command line of a glance, in bytes; the process pass has all of it.
const COMMAND_LINE: usize = 4096;

fn glance(host: &Host, pid: i32, context: &Context) -> Result<Glance, HostError> {
    let folder = host.process(pid)?;
    let names = ["stat", "status"].map(OsString::from);
    let mut texts = folder
        .read_all(names.into(), 64 << 10)?
        .into_iter()
        .map(|(_, content)| content);
    let mut next =
        || -> Result<Content, HostError> { texts.next().unwrap_or(Err(HostError::Stuck)) };
    let stat: Stat =
        parse::stat(&next()?.bytes).ok_or(HostError::Os(nix::errno::Errno::EBADMSG))?;
    let status = next()
        .map(|content| parse::keys_and_values(&content.bytes))
        .unwrap_or_default();
    let arguments = folder.read("cmdline", COMMAND_LINE).unwrap_or_default();
    let uid = status
        .get("Uid")
        .and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse().ok());
    Ok(Glance {
        pid,
        ppid: stat.ppid,
        entity_id: context.entity_id(pid, stat.start_ticks),
        kernel_thread: stat.is_kernel_thread(),
        start: rfc3339(context.start_ns(stat.start_ticks)),
        start_ticks: stat.start_ticks,
        state: stat.state,
        name: stat.comm,
        command_line: parse::strings(&arguments.bytes).join(" "),
        command_line_cut: arguments.truncated,
        uid,
    })
}

#[derive(Debug, Serialize)]
struct Change<'a, T> {
    change: &'static str,
    /// When the last sweep saw it, by the host's clock.
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a T>,
}

fn changes(before: &Sweep, now: &Sweep, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let same_process = |a: &Glance, b: &Glance| a.essence() == b.essence();
    for change in differences(&before.processes, &now.processes, same_process) {
        sink.record("process/changes", &change)?;
    }
    for change in differences(&before.sockets, &now.sockets, |a, b| a == b) {
        sink.record("network/changes", &change)?;
    }
    Ok(())
}

fn differences<'a, K: Ord, T>(
    before: &'a BTreeMap<K, T>,
    now: &'a BTreeMap<K, T>,
    same: impl Fn(&T, &T) -> bool,
) -> Vec<Change<'a, T>> {
    let at = rfc3339(clocks().utc_ns);
    let change = |change, before, after| Change {
        change,
        at: at.clone(),
        before,
        after,
    };
    let gone = before
        .iter()
        .filter(|(key, _)| !now.contains_key(key))
        .map(|(_, old)| change("gone", Some(old), None));
    let rest = now.iter().filter_map(|(key, new)| match before.get(key) {
        None => Some(change("appeared", None, Some(new))),
        Some(old) if !same(old, new) => Some(change("changed", Some(old), Some(new))),
        Some(_) => None,
    });
    gone.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_what_came_went_and_changed() {
        let map = |pairs: &[(i32, &'static str)]| pairs.iter().copied().collect::<BTreeMap<_, _>>();
        let (before, now) = (
            map(&[(1, "init"), (2, "sh"), (3, "a")]),
            map(&[(1, "init"), (3, "b"), (4, "new")]),
        );
        let found = differences(&before, &now, |a, b| a == b);
        let words: Vec<&str> = found.iter().map(|change| change.change).collect();
        assert_eq!(words, ["gone", "changed", "appeared"]);
        assert_eq!((found[1].before, found[1].after), (Some(&"a"), Some(&"b")));
    }
}
