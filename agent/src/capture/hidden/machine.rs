//! The views of the processes of this machine.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cgroups;
use super::pids::{Held, Identity, Machine};
use super::threads::Tasks as _;
use super::{ViewRecord, covered, record};
use crate::capture::processes::parse;
use crate::capture::sockets::word;
use crate::capture::{Halt, Sink};
use crate::host::{Folder, HeldProcess, Host, HostError, Question};

/// The kernel's own bound of process numbers (`PID_MAX_LIMIT`, `include/linux/threads.h`): a process keeps a number above
/// `pid_max` when that was set lower since.
const PID_LIMIT: i32 = 4 << 20;
/// Numbers that are asked for in one go.
const CHUNK: i32 = 8192;
/// How long all numbers may be asked for, by one view.
const PATIENCE: Duration = Duration::from_secs(15);
/// Processes whose texts are read in one go.
const BATCH: usize = 256;
const SMALL_TEXT: usize = 64 << 10;

/// This machine.
pub(super) struct Live<'h> {
    host: &'h Host,
    fresh: Option<&'h Folder>,
    cgroups: Vec<PathBuf>,
    /// The cgroup in which a process was seen.
    seen_in: RefCell<BTreeMap<i32, String>>,
}

/// Numbers, each with the views that show it.
#[derive(Default)]
pub(super) struct Gathered {
    pub seen: BTreeMap<i32, Vec<&'static str>>,
    /// Threads that answer by number, by their process.
    pub threads: BTreeMap<i32, BTreeSet<i32>>,
}

impl Gathered {
    fn add(&mut self, view: &'static str, pids: impl IntoIterator<Item = i32>) {
        for pid in pids {
            self.seen.entry(pid).or_default().push(view);
        }
    }
}

/// A process that hides.
#[derive(Serialize)]
pub(super) struct HiddenRecord {
    pub pid: i32,
    pub seen_by: Vec<&'static str>,
    /// System calls that answer for it.
    answers: Vec<&'static str>,
    /// By what it was known to be the same at each look: `pidfd`, `start_time`, `number`, `cgroup`.
    identity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_line: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ticks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uids: Option<String>,
    /// Whether `/proc/PID` can be looked up all the same.
    readable_by_number: bool,
    /// What explains that it is not listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    explained_by: Option<String>,
}

impl<'h> Live<'h> {
    pub(super) fn new(host: &'h Host, fresh: Option<&'h Folder>) -> Self {
        let cgroups = cgroups::places(host);
        Self {
            host,
            fresh,
            cgroups,
            seen_in: RefCell::default(),
        }
    }

    /// All views, each with its record.
    pub(super) fn gather(
        &self,
        before: &BTreeSet<i32>,
        sink: &mut Sink<'_>,
    ) -> Result<Gathered, Halt> {
        let mut gathered = Gathered::default();
        let options = covered::proc_options(self.host);
        let (found, note) = (
            Some(before.len() as u64),
            options.map(|told| format!("mounted with {told}")),
        );
        record(
            sink,
            &ViewRecord {
                view: "proc",
                found,
                note,
                ..ViewRecord::default()
            },
        )?;
        self.fresh(&mut gathered, sink)?;
        self.cgroups(&mut gathered, sink)?;
        self.relatives(before, &mut gathered, sink)?;
        let most = self
            .host
            .line("proc/sys/kernel/pid_max")
            .and_then(|text| text.parse().ok());
        let most = i32::clamp(most.unwrap_or(PID_LIMIT), 1, PID_LIMIT);
        self.ask(Question::Leader, PID_LIMIT, &mut gathered, sink)?;
        self.ask(Question::Group, most, &mut gathered, sink)?;
        self.look_up(most, &mut gathered, sink)?;
        self.set_threads_apart(before, &mut gathered);
        Ok(gathered)
    }

    fn fresh(&self, gathered: &mut Gathered, sink: &mut Sink<'_>) -> Result<(), Halt> {
        let Some(fresh) = self.fresh else {
            return Ok(());
        };
        let started = Instant::now();
        let mut view = ViewRecord {
            view: "fresh_proc",
            ..ViewRecord::default()
        };
        match fresh.list("") {
            Ok(entries) => {
                let names = entries.iter().filter_map(|entry| entry.name.to_str());
                let pids: Vec<i32> = names.filter_map(|name| name.parse().ok()).collect();
                view.found = Some(pids.len() as u64);
                gathered.add(view.view, pids);
            }
            Err(error) => {
                sink.count(&error);
                view.error = Some(word(&error));
            }
        }
        view.took_ms = Some(elapsed(started));
        record(sink, &view)
    }

    fn cgroups(&self, gathered: &mut Gathered, sink: &mut Sink<'_>) -> Result<(), Halt> {
        let started = Instant::now();
        let listed = cgroups::listed(self.host, &self.cgroups, sink)?;
        if listed.truncated {
            sink.loss("truncated");
        }
        let view = ViewRecord {
            view: "cgroups",
            found: Some(listed.pids.len() as u64),
            took_ms: Some(elapsed(started)),
            note: Some(format!("{} cgroups", listed.cgroups)),
            error: self
                .cgroups
                .is_empty()
                .then(|| "none is mounted".to_owned()),
            ..ViewRecord::default()
        };
        gathered.add(view.view, listed.pids.keys().copied());
        self.seen_in.replace(listed.pids);
        record(sink, &view)
    }

    /// Parents that listed processes name, and children that their threads name.
    fn relatives(
        &self,
        before: &BTreeSet<i32>,
        gathered: &mut Gathered,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        let started = Instant::now();
        let (mut parents, mut found) = (BTreeSet::new(), BTreeSet::new());
        let Ok(proc) = self.host.root().folder("proc") else {
            return Ok(());
        };
        let mut names = Vec::new();
        for pid in before {
            sink.check()?;
            let threads = (&self.host).listed(*pid).unwrap_or_default();
            let threads = threads.into_iter().chain([*pid]).collect::<BTreeSet<_>>();
            let children = threads
                .iter()
                .map(|tid| format!("{pid}/task/{tid}/children"));
            names.extend(children.chain([format!("{pid}/stat")]).map(OsString::from));
            if names.len() < BATCH && before.last() != Some(pid) {
                continue;
            }
            for names in std::mem::take(&mut names).chunks(BATCH) {
                let texts = match proc.read_all(names.to_vec(), SMALL_TEXT) {
                    Ok(texts) => texts,
                    Err(error) => {
                        sink.count(&error);
                        continue;
                    }
                };
                for (name, content) in texts {
                    let Ok(content) = content else { continue };
                    match name.to_string_lossy().ends_with("/stat") {
                        true => parents.extend(parse::stat(&content.bytes).map(|stat| stat.ppid)),
                        false => found.extend(cgroups::numbers(&content.bytes)),
                    }
                }
            }
        }
        parents.remove(&0);
        for (view, pids) in [("parents", parents), ("children", found)] {
            let (found, took_ms) = (Some(pids.len() as u64), Some(elapsed(started)));
            gathered.add(view, pids);
            record(
                sink,
                &ViewRecord {
                    view,
                    found,
                    took_ms,
                    ..ViewRecord::default()
                },
            )?;
        }
        Ok(())
    }

    fn ask(
        &self,
        question: Question,
        most: i32,
        gathered: &mut Gathered,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        let view = question.name();
        if !question.works() {
            sink.loss(&format!("denied:{view}"));
            let error = Some("this system call is not allowed here".to_owned());
            return record(
                sink,
                &ViewRecord {
                    view,
                    error,
                    ..ViewRecord::default()
                },
            );
        }
        let ask = |range: Range<i32>| {
            let there = range.filter(|pid| question.answers(*pid) == Ok(true));
            Ok(there.collect())
        };
        numbers(view, most, ask, gathered, sink)
    }

    /// Looks `/proc/N` up, listed or not.
    fn look_up(&self, most: i32, gathered: &mut Gathered, sink: &mut Sink<'_>) -> Result<(), Halt> {
        match self.host.root().folder("proc") {
            Ok(proc) => numbers(
                "proc_by_number",
                most,
                |range| proc.numbers(range),
                gathered,
                sink,
            ),
            Err(error) => {
                sink.count(&error);
                Ok(())
            }
        }
    }

    /// Numbers of threads answer as those of processes do: what says of itself that it belongs to another group is one.
    fn set_threads_apart(&self, before: &BTreeSet<i32>, gathered: &mut Gathered) {
        let Ok(proc) = self.host.root().folder("proc") else {
            return;
        };
        let doubtful = |views: &[&str]| {
            views
                .iter()
                .all(|view| matches!(*view, "getpgid" | "proc_by_number"))
        };
        let unlisted = gathered
            .seen
            .iter()
            .filter(|(pid, views)| !before.contains(pid) && doubtful(views));
        let unlisted: Vec<i32> = unlisted.map(|(pid, _)| *pid).collect();
        for pids in unlisted.chunks(BATCH) {
            let names = pids
                .iter()
                .map(|pid| OsString::from(format!("{pid}/status")));
            let texts = proc
                .read_all(names.collect(), SMALL_TEXT)
                .unwrap_or_default();
            for (pid, (_, status)) in pids.iter().zip(texts) {
                let group = status.ok().and_then(|status| group(&status.bytes));
                if let Some(group) = group.filter(|group| group != pid) {
                    gathered.seen.remove(pid);
                    gathered.threads.entry(group).or_default().insert(*pid);
                }
            }
        }
    }

    pub(super) fn describe(
        &self,
        pid: i32,
        identity: &'static str,
        seen_by: Vec<&'static str>,
        explained: Option<&str>,
    ) -> HiddenRecord {
        let text = |name: &str| self.read(pid, name);
        let status = text("status")
            .map(|bytes| parse::keys_and_values(&bytes))
            .unwrap_or_default();
        let stat = text("stat").and_then(|bytes| parse::stat(&bytes));
        let answers = Question::ALL
            .iter()
            .filter(|question| question.answers(pid) == Ok(true));
        HiddenRecord {
            pid,
            seen_by,
            answers: answers.map(|question| question.name()).collect(),
            identity,
            name: stat.as_ref().map(|stat| stat.comm.clone()),
            command_line: text("cmdline").map(|bytes| parse::strings(&bytes).join(" ")),
            executable: self.link(pid, "exe"),
            parent: stat.as_ref().map(|stat| stat.ppid),
            start_ticks: stat.as_ref().map(|stat| stat.start_ticks),
            uids: status.get("Uid").cloned(),
            readable_by_number: self.host.process(pid).is_ok(),
            explained_by: explained.map(|options| {
                format!(
                    "{options}: a reader without CAP_SYS_PTRACE does not see processes of others"
                )
            }),
        }
    }

    /// Folders of the process: by number, and in the fresh view.
    fn folders(&self, pid: i32) -> impl Iterator<Item = Folder> {
        let by_number = self.host.process(pid).ok();
        let fresh = self
            .fresh
            .and_then(|fresh| fresh.folder(pid.to_string()).ok());
        by_number.into_iter().chain(fresh)
    }

    fn read(&self, pid: i32, name: &str) -> Option<Vec<u8>> {
        self.folders(pid)
            .find_map(|folder| Some(folder.read(name, SMALL_TEXT).ok()?.bytes))
    }

    fn link(&self, pid: i32, name: &str) -> Option<String> {
        self.folders(pid)
            .find_map(|folder| Some(parse::text(&folder.read_link(name).ok()?)))
    }

    /// Its start, when it is a process and no thread.
    fn start(&self, pid: i32) -> Option<u64> {
        let status = self.read(pid, "status")?;
        let stat = parse::stat(&self.read(pid, "stat")?)?;
        (group(&status) == Some(pid)).then_some(stat.start_ticks)
    }

    /// The cgroup that listed it, if it still does.
    fn cgroup(&self, pid: i32) -> Option<String> {
        let seen = self.seen_in.borrow().get(&pid).cloned()?;
        cgroups::lists(self.host, &seen, pid).then_some(seen)
    }

    /// What is known of a number that can not be held by a descriptor.
    fn known(&self, pid: i32) -> Identity {
        if let Some(start) = self.start(pid) {
            return Identity::Same(Held::Start(start));
        }
        match Question::Leader.answers(pid) {
            Ok(true) => Identity::Same(Held::Number),
            _ if Question::Group.answers(pid) == Ok(true) => Identity::Thread,
            _ => match self.cgroup(pid) {
                Some(cgroup) => Identity::Same(Held::Cgroup(cgroup)),
                None => Identity::Gone,
            },
        }
    }
}

impl Machine for Live<'_> {
    fn listed(&self) -> Result<BTreeSet<i32>, HostError> {
        Ok(self.host.pids()?.into_iter().collect())
    }

    fn hold(&self, pid: i32) -> Identity {
        match HeldProcess::open(pid) {
            Ok(held) => Identity::Same(Held::Descriptor(held)),
            // A thread, or a number that nothing has, unless somebody lies.
            Err(_) => self.known(pid),
        }
    }

    fn still(&self, pid: i32, held: &Held) -> bool {
        match held {
            Held::Descriptor(held) => held.is_alive(),
            Held::Start(start) => self.start(pid) == Some(*start),
            Held::Number => Question::Leader.answers(pid) == Ok(true),
            Held::Cgroup(cgroup) => cgroups::lists(self.host, cgroup, pid),
        }
    }
}

/// `Tgid` of a `status`: the process that a task belongs to.
fn group(status: &[u8]) -> Option<i32> {
    parse::keys_and_values(status).get("Tgid")?.parse().ok()
}

/// Asks for the numbers 1 to `most`, as far as [`PATIENCE`] goes.
fn numbers(
    view: &'static str,
    most: i32,
    ask: impl Fn(Range<i32>) -> Result<Vec<i32>, HostError>,
    gathered: &mut Gathered,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let started = Instant::now();
    let (mut next, mut found, mut error) = (1, 0, None);
    while next <= most && started.elapsed() < PATIENCE {
        sink.check()?;
        let end = next.saturating_add(CHUNK).min(most + 1);
        match ask(next..end) {
            Ok(pids) => {
                found += pids.len() as u64;
                gathered.add(view, pids);
            }
            Err(failed) => {
                sink.count(&failed);
                error = Some(word(&failed));
                break;
            }
        }
        next = end;
    }
    let note = (next <= most).then(|| format!("ended before {most}: it took too long"));
    let (range, took_ms) = (Some((1, next)), Some(elapsed(started)));
    record(
        sink,
        &ViewRecord {
            view,
            found: Some(found),
            range,
            took_ms,
            note,
            error,
        },
    )
}

fn elapsed(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
