//! *process_memory*: the memory of chosen processes, each as an ELF core that public debuggers open.
//!
//! No process is stopped, traced or written to, so a core is a smear over the time that reading took, and most registers
//! are zeros. Nothing is read whose reading could do something or wait without end: memory of devices, ranges that a
//! program answers for, pages that would have to come from a file system elsewhere. What is not in a core stands in
//! `live_response/process_memory/regions.jsonl`, with the reason.

mod backing;
mod choose;
mod core;
mod layout;
mod maps;
mod notes;
mod pages;
mod record;
mod region;
mod shared;
mod stream;
mod suspicion;
mod target;

use std::borrow::Cow;
use std::collections::BTreeSet;

pub use choose::{Choice, Word};
use layout::{Layout, Pages};
use record::{Core, ProcessRecord};
use shared::Shared;
use stream::Stream;
use suspicion::Suspicion;
use target::{Refusal, Target};

use super::processes::parse::Stat;
use super::processes::record::Context;
use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility, hidden, processes};
use crate::host::{Folder, Host, clocks};

/// The memory of processes.
pub struct ProcessMemory {
    pub choice: Choice,
    /// What *hidden* found, when it ran before.
    pub hidden: hidden::Found,
}

static SPEC: Spec = Spec {
    name: "process_memory",
    volatility: Volatility::Processes,
    what: "memory of chosen processes as ELF cores, without what is the same on disk, and a table of their regions",
    why: "keys, commands, injected code and unpacked programs are in the memory of a process and nowhere else",
    deadline_s: 7200,
    max_bytes: 1 << 42,
};

impl Artifact for ProcessMemory {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn left_out(&self) -> Option<Cow<'static, str>> {
        let why = "it holds secrets and is taken on request alone: --process-memory PID, all or suspicious";
        self.choice.is_empty().then_some(why.into())
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        if !host.is_live() {
            return Err(CaptureError::Absent(
                "a recorded tree has no memory of processes".to_owned(),
            ));
        }
        let hidden = self.hidden.borrow();
        if self.choice.suspicious && hidden.is_none() {
            sink.note(
                "hidden processes were not looked for: *hidden* did not run before".to_owned(),
            );
        }
        let hidden = hidden.clone().unwrap_or_default();
        let mut pids = self.choice.pids.clone();
        if self.choice.all || self.choice.suspicious {
            pids.extend(host.pids().map_err(CaptureError::host("/proc"))?);
            pids.extend(&hidden);
        }
        let mut pass = Pass {
            host,
            choice: &self.choice,
            hidden,
            own: own(host),
            context: processes::context(host),
            shared: Shared::default(),
            page: page(),
        };
        for (number, pid) in pids.iter().enumerate() {
            if let Err(halt) = pass.process(*pid, sink) {
                let rest = pids.len() - number;
                sink.note(format!("{rest} processes were not done, from {pid} on"));
                return Err(halt.into());
            }
        }
        Ok(())
    }
}

/// Our numbers: as `/proc` shows us, and as we know ourselves.
fn own(host: &Host) -> BTreeSet<i32> {
    let known = i32::try_from(std::process::id()).ok();
    host.own_pid().into_iter().chain(known).collect()
}

fn page() -> u64 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    page.ok()
        .flatten()
        .and_then(|page| u64::try_from(page).ok())
        .filter(|page| page.is_power_of_two())
        .unwrap_or(4096)
}

struct Pass<'p> {
    host: &'p Host,
    choice: &'p Choice,
    hidden: BTreeSet<i32>,
    own: BTreeSet<i32>,
    context: Context,
    shared: Shared,
    page: u64,
}

impl Pass<'_> {
    fn process(&mut self, pid: i32, sink: &mut Sink<'_>) -> Result<(), Halt> {
        let mut record = ProcessRecord {
            pid,
            chosen_by: self.chosen_by(pid),
            ..ProcessRecord::default()
        };
        if self.own.contains(&pid) {
            return ourselves(record, sink);
        }
        let (folder, stat) = match target::find(self.host, pid) {
            Ok(found) => found,
            Err(Refusal::Thread(group)) if self.own.contains(&group) => {
                return ourselves(record, sink);
            }
            Err(refusal) => return refused(record, refusal, sink),
        };
        if self.choice.suspicious {
            record.suspicions = self.suspicions(pid, &folder, &stat, sink)?;
            if !record.suspicions.is_empty() {
                record.chosen_by.push("suspicious");
            }
        }
        if record.chosen_by.is_empty() {
            return Ok(());
        }
        record.start_ticks = Some(stat.start_ticks);
        record.entity_id = Some(self.context.entity_id(pid, stat.start_ticks));
        record.name = Some(stat.comm.clone());
        match Target::open(folder, stat, &|| sink.check())? {
            Ok(target) => self.core(target, record, sink),
            Err(refusal) => refused(record, refusal, sink),
        }
    }

    fn chosen_by(&self, pid: i32) -> Vec<&'static str> {
        let named = self.choice.pids.contains(&pid).then_some("pid");
        named
            .into_iter()
            .chain(self.choice.all.then_some("all"))
            .collect()
    }

    fn suspicions(
        &self,
        pid: i32,
        folder: &Folder,
        stat: &Stat,
        sink: &mut Sink<'_>,
    ) -> Result<Vec<Suspicion>, Halt> {
        let maps = match folder.open("maps") {
            Ok(file) => target::parsed(file, 1 << 20, &|| sink.check())?,
            Err(error) => Err(error),
        };
        // Who may not look must not find nothing.
        if let Some(error) = maps.as_ref().err().filter(|error| !error.is_gone()) {
            sink.count(error);
        }
        let facts = suspicion::facts(
            self.host,
            folder,
            stat.clone(),
            maps.unwrap_or_default(),
            self.hidden.contains(&pid),
        );
        Ok(suspicion::suspicions(&facts))
    }

    /// Writes the core of a process, and its lines.
    fn core(
        &mut self,
        target: Target,
        mut record: ProcessRecord,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        let identity = (record.pid, target.stat.start_ticks);
        let before = target.look();
        let started_utc_ns = clocks().utc_ns;
        let mut backings = backing::Backings::new(self.host, record.pid, &target.folder);
        let pages = Pages {
            pagemap: &target.pagemap,
            page: self.page,
            check: &|| sink.check(),
        };
        let layout = pages.layout(&target.maps, &mut backings, &mut self.shared, identity)?;
        let mut layout = match layout {
            Ok(layout) => layout,
            Err(error) => return refused(record, error.into(), sink),
        };
        let unseen = backings.error.take();

        let person = target.person(self.context.ticks_per_second);
        let notes = notes::notes(&person, &target.maps, self.page);
        let loads = region::loads(&layout.regions, &layout.runs);
        let (head, size) = core::head(&notes, loads, self.page);
        drop(notes);
        let member = format!("live_response/process_memory/{}.core", record.pid);
        let reason = format!("memory of process {}", record.pid);
        let mut stream = Stream::new(head, &mut layout, &target.memory, self.page);
        let made = sink.made(&member, &reason, size, &mut |left, buffer| {
            stream.next(left, buffer)
        });
        stream.end();
        let after = target.look();

        let mut lost = record::losses(&layout.regions);
        lost.extend((target.maps.left_out > 0).then_some("truncated:mappings"));
        lost.iter().for_each(|kind| sink.loss(kind));
        unseen.iter().for_each(|error| sink.count(error));
        let whole = made.as_ref().is_ok_and(|made| !made.status.is_loss());
        record.outcome = match whole && lost.is_empty() && unseen.is_none() {
            true => "captured",
            false => "partial",
        };
        if record.outcome == "partial" {
            self.shared.forget(record.pid);
        }
        let waiting = person.threads.iter().filter(|thread| thread.wait.is_some());
        let swapped: u64 = layout.regions.iter().map(|region| region.swapped).sum();
        record.core = Some(Core {
            member,
            bytes: made.as_ref().map_or(0, |made| made.came),
            regions: layout.regions.len(),
            stored_bytes: layout.regions.iter().map(|region| region.stored).sum(),
            swapped_bytes: swapped * self.page,
            not_stored_bytes: record::not_stored(&layout.regions, &layout.runs),
            threads: person.threads.len(),
            threads_with_program_counter: waiting.count(),
            mappings_left_out: target.maps.left_out,
            names_left_out: target.maps.nameless,
            mappings_changed: after.is_there && before.maps != after.maps,
            ended_meanwhile: !after.is_there,
            started_utc_ns,
            ended_utc_ns: clocks().utc_ns,
        });
        self.tell(&target, &layout, &record, sink)?;
        match made?.halt {
            Some(halt) => Err(halt),
            None => Ok(()),
        }
    }

    /// The lines of a process, also when the artifact has to end: what its core holds must be told.
    fn tell(
        &self,
        target: &Target,
        layout: &Layout,
        record: &ProcessRecord,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        let identity = (record.pid, target.stat.start_ticks);
        for region in &layout.regions {
            let name = target.maps.names.of(&region.mapping);
            let line = record::region(identity, region, &layout.runs, name, self.page);
            sink.record_late("process_memory/regions", &line)?;
        }
        sink.record_late("process_memory/processes", record)
    }
}

fn ourselves(mut record: ProcessRecord, sink: &mut Sink<'_>) -> Result<(), Halt> {
    record.outcome = "left_out";
    record.reason = Some("it is this agent".to_owned());
    sink.record("process_memory/processes", &record)
}

/// Tells why there is no core. What was asked for by its number and is not there is a loss; what went meanwhile is not.
fn refused(mut record: ProcessRecord, refusal: Refusal, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let named = record.chosen_by.contains(&"pid");
    let (outcome, reason) = match refusal {
        Refusal::KernelThread if !named => return Ok(()),
        Refusal::Zombie if record.chosen_by.is_empty() => return Ok(()),
        Refusal::KernelThread => ("no_memory", "a thread of the kernel".to_owned()),
        Refusal::Zombie => {
            let why = "a zombie: it has ended, and its parent did not ask";
            ("no_memory", why.to_owned())
        }
        Refusal::Gone | Refusal::Thread(_) if !named => {
            sink.gone();
            return Ok(());
        }
        Refusal::Gone => {
            sink.loss("failed:no_such_process");
            ("vanished", "no process has this number".to_owned())
        }
        Refusal::Thread(process) => {
            sink.loss("failed:no_such_process");
            let why = format!("it is a thread: its memory is that of process {process}");
            ("vanished", why)
        }
        Refusal::NoFlags => {
            sink.loss("failed:no_flags");
            let why = "the kernel does not say which of its pages can be read without effects";
            ("failed", why.to_owned())
        }
        Refusal::Host(error) => {
            sink.count(&error);
            let denied = error.status() == evidence::inventory::Status::Denied;
            let outcome = if denied { "denied" } else { "failed" };
            (outcome, error.to_string())
        }
    };
    record.outcome = outcome;
    record.reason = Some(reason);
    sink.record("process_memory/processes", &record)
}

#[cfg(test)]
mod tests;
