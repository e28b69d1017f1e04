//! What people see while work goes on: a line that moves on a terminal, plain lines elsewhere, JSON on request.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{printable, tell};
use crate::case::{Act, Case, Disks, Event, Outcome, Role, Seen};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Human,
    Json,
    Quiet,
}

/// Shows what happens on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    mode: Mode,
    bar: Option<ProgressBar>,
    last: Mutex<String>,
}

impl Progress {
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        let mode = match (json, quiet) {
            (true, _) => Mode::Json,
            (_, true) => Mode::Quiet,
            _ => Mode::Human,
        };
        let moving = mode == Mode::Human && std::io::stderr().is_terminal();
        Self {
            mode,
            bar: moving.then(spinner),
            last: Mutex::default(),
        }
    }

    /// A line.
    pub(crate) fn say(&self, line: &str) {
        match (self.mode, &self.bar) {
            (Mode::Quiet, _) => {}
            (Mode::Json, _) => tell(&json!({"message": line}).to_string()),
            (_, Some(bar)) => bar.println(printable(line)),
            (_, None) => tell(&printable(line)),
        }
    }

    /// What was just written down.
    pub(crate) fn event(&self, event: &Event) {
        if self.mode == Mode::Json {
            return tell(&serde_json::to_string(event).unwrap_or_default());
        }
        if let Some(line) = sentence(event) {
            self.say(&line);
        }
    }

    /// How far the instances of a request are.
    pub(crate) fn arrived(&self, case: &Case, seen: &Seen, request: &str) {
        let Some(requested) = case.request(request) else {
            return;
        };
        let ended = requested
            .hosts
            .values()
            .filter(|host| host.ended.is_some())
            .count();
        let prefixes = requested
            .hosts
            .keys()
            .map(|instance| case.prefix(&requested.request, instance));
        let arrived = prefixes.filter_map(|prefix| seen.arrived.get(&prefix));
        let (segments, bytes) = arrived.fold((0, 0), |(segments, bytes), a| {
            (segments + a.segments, bytes + a.bytes)
        });
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        let of_request = seen.invocations.iter().filter(|((id, _), _)| id == request);
        of_request.for_each(|(_, invocation)| *states.entry(&invocation.status).or_default() += 1);
        let states: Vec<String> = states
            .iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        let of = requested.hosts.len();
        let line = format!(
            "{ended} of {of} ended; {segments} segments, {}; SSM: {}",
            HumanBytes(bytes),
            states.join(", ")
        );
        self.moving(&line, || json!({"progress": {"request": request, "ended": ended, "instances": of, "segments": segments, "bytes": bytes}}).to_string());
    }

    /// How far the disks of a request are.
    pub(crate) fn snapshots(&self, disks: &Disks, seen: &Seen) {
        let safe = disks.disks.values().filter(|disk| disk.is_safe()).count();
        let of = disks.disks.len();
        let open = disks
            .disks
            .values()
            .filter(|disk| !disk.is_safe() && disk.failure.is_none());
        let at = open.filter_map(|disk| {
            let (role, stage) = disk.stages.iter().next_back()?;
            let progress = &seen.snapshots.get(stage.snapshot.as_ref()?)?.progress;
            Some(format!("{} {} {progress}", disk.volume.id, role.word()))
        });
        let at: Vec<String> = at.collect();
        let line = format!("{safe} of {of} volumes copied; {}", at.join(", "));
        let request = &disks.request.id;
        self.moving(&line, || json!({"progress": {"request": request, "copied": safe, "volumes": of, "snapshots": at}}).to_string());
    }

    /// A line that replaces the one before on a terminal, and is said elsewhere when it is another.
    fn moving(&self, line: &str, json: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            return bar.set_message(printable(line));
        }
        let Ok(mut last) = self.last.lock() else {
            return;
        };
        if *last != line {
            line.clone_into(&mut last);
            match self.mode {
                Mode::Quiet => {}
                Mode::Json => tell(&json()),
                Mode::Human => tell(&printable(line)),
            }
        }
    }

    /// Counts up to `total`.
    pub(crate) fn meter(&self, what: &str, total: u64) -> Meter {
        Meter {
            bar: self.bar.clone(),
            what: what.to_owned(),
            total,
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A count that moves.
pub(crate) struct Meter {
    bar: Option<ProgressBar>,
    what: String,
    total: u64,
}

impl Meter {
    pub(crate) fn at(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(printable(&format!(
                "{}: {done} of {}",
                self.what, self.total
            )));
        }
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed_precise}] {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn sentence(event: &Event) -> Option<String> {
    Some(match event {
        Event::Authorised { grants, .. } => match grants.as_slice() {
            [grant] => format!("{} may put objects until {}", grant.instance, grant.expires),
            grants => format!("{} instances may put objects", grants.len()),
        },
        Event::Sent { command, .. } => format!("sent as SSM command {command}"),
        Event::NotSent { why, .. } => format!("SSM refuses the command: {why}"),
        Event::Started { instances, .. } => format!("started on {}", listed(instances)),
        Event::CancelAsked { .. } => "asked to end".to_owned(),
        Event::Ended {
            instance,
            outcome,
            why,
            receipt,
            ..
        } => {
            let how = match outcome {
                Outcome::Received => "received",
                Outcome::Interrupted => "interrupted",
                Outcome::Nothing => "nothing collected",
            };
            let result = receipt
                .as_ref()
                .map(|receipt| format!(" ({}, {})", receipt.result, HumanBytes(receipt.bytes)));
            let why = why.as_ref().map(|why| format!(": {why}"));
            format!(
                "{instance}: {how}{}{}",
                result.unwrap_or_default(),
                why.unwrap_or_default()
            )
        }
        Event::Withdrawn { instances, .. } => {
            format!("credentials taken back from {}", listed(instances))
        }
        Event::DisksRequested(request) => {
            let volumes = request.volumes.len();
            format!(
                "{}: {volumes} volumes to the account {}",
                request.instance, request.forensic_account
            )
        }
        Event::Snapshot { act, .. } => return act_sentence(act),
        Event::Opened { .. }
        | Event::Requested(_)
        | Event::Sending { .. }
        | Event::Verified { .. }
        | Event::Sealing { .. }
        | Event::Sealed { .. }
        | Event::Released { .. }
        | Event::Accessed { .. }
        | Event::Exported { .. } => return None,
    })
}

fn act_sentence(act: &Act) -> Option<String> {
    Some(match act {
        Act::Made {
            role: Role::Original,
            snapshots,
            ..
        } => {
            format!(
                "{} snapshots of one moment are begun: the instance may be contained now",
                snapshots.len()
            )
        }
        Act::Made {
            role, snapshots, ..
        } => {
            let ids = snapshots
                .iter()
                .map(|made| format!("{} ({})", made.volume, made.snapshot));
            format!(
                "{} is begun: {}",
                role.word(),
                ids.collect::<Vec<_>>().join(", ")
            )
        }
        Act::Locked {
            volume,
            role,
            mode,
            until,
            ..
        } => {
            let until = match until.as_str() {
                "" => String::new(),
                until => format!(" until {until}"),
            };
            format!("{volume}: {} is locked{until} ({mode})", role.word())
        }
        Act::Verified {
            volume,
            snapshot,
            lock,
            until,
            ..
        } => {
            format!(
                "{volume}: the copy {snapshot} is finished, of the right size, key and owner, and locked until {until} ({lock})"
            )
        }
        Act::Deleted { volume, snapshot } => {
            format!("{volume}: {snapshot} is deleted, there is a copy")
        }
        Act::Failed { volume, why, .. } => format!("{volume}: {why}"),
        Act::Retried => "what failed is tried again".to_owned(),
        Act::GivenUp => "the disks are given up; what is there stays".to_owned(),
        Act::Making { .. } | Act::Doing { .. } | Act::Shared { .. } | Act::Unlocked { .. } => {
            return None;
        }
    })
}

fn listed(instances: &[String]) -> String {
    match instances {
        few if few.len() <= 4 => few.join(", "),
        many => format!("{} instances", many.len()),
    }
}
