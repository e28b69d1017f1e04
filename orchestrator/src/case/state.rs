//! What to do next, from the journal, what was seen, and the time. No I/O: the same three always give the same steps.

use std::collections::{BTreeMap, BTreeSet};

use evidence::Receipt;
use time::{Duration, OffsetDateTime};

use super::disks::{self, DiskStep, Made, SnapshotSeen};
use super::status::{Class, class, nothing, plain};
use super::{Batch, Case, Credentials, Event, Host, Outcome, Requested};

/// Time in which what AWS has taken, a command or a snapshot, shows up in its lists; AWS states no bound.
pub(super) const CONSISTENCY: Duration = Duration::seconds(30);
/// Time beyond the start that SSM was given, after which an instance that it never listed is given up.
const NEVER_LISTED: Duration = Duration::seconds(60);

/// What this process saw of the world. A new process starts with nothing, and that is enough.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Commands that were looked for by their comment: request and batch.
    pub lookups: BTreeMap<(String, usize), Option<String>>,
    /// What SSM says, by request and instance.
    pub invocations: BTreeMap<(String, String), Invocation>,
    /// What the bucket has, by prefix.
    pub arrived: BTreeMap<String, Arrival>,
    /// Requests whose instances were looked at.
    pub looked: BTreeSet<String>,
    /// Requests that SSM was asked to cancel.
    pub cancelled: BTreeSet<String>,
    /// Instances whose output was asked for in full.
    pub outputs: BTreeSet<(String, String)>,
    /// Snapshots that were looked for by their tag: request and number.
    pub made: BTreeMap<(String, u32), Vec<Made>>,
    /// When a call for them ended without an answer: request and number.
    pub unanswered: BTreeMap<(String, u32), OffsetDateTime>,
    /// Snapshots that EC2 did not know when something was to be done with them, and since when.
    pub unknown: BTreeMap<String, OffsetDateTime>,
    /// Snapshots that certainly were not made, because EC2 was busy: request and number.
    pub not_made: BTreeSet<(String, u32)>,
    /// Until when EC2 is not asked for more.
    pub busy_until: Option<OffsetDateTime>,
    /// What EC2 says, by snapshot.
    pub snapshots: BTreeMap<String, SnapshotSeen>,
}

/// What SSM says of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invocation {
    pub status: String,
    pub code: Option<i32>,
    /// Standard output of the agent, or what SSM left of it.
    pub output: String,
}

/// What the bucket has of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub segments: u64,
    pub bytes: u64,
    pub manifest: bool,
    /// When this process saw it grow last.
    pub changed: OffsetDateTime,
}

/// Times that the configuration sets.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Without a new segment for so long, a run that SSM gave up counts as cut.
    pub silence: Duration,
    /// What is left of a session when it is renewed.
    pub renew_before: Duration,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Give instances credentials, or new ones.
    Authorise {
        request: String,
        instances: Vec<String>,
    },
    /// Look whether a command that may have been sent was.
    Find { request: String, batch: usize },
    /// Send a command that certainly was not.
    Send { request: String, batch: usize },
    /// Ask SSM to end a command.
    Cancel {
        request: String,
        commands: Vec<String>,
    },
    /// Ask for the whole output of an instance.
    ReadOutput {
        request: String,
        instance: String,
        command: String,
    },
    /// Write down what is certain now.
    Record(Event),
    /// Take the credentials back.
    Withdraw {
        request: String,
        instances: Vec<String>,
    },
    /// Look at SSM and the bucket, after a pause when that was done before.
    Look { request: String },
    /// Something about the disks of a request.
    Disks { request: String, step: DiskStep },
}

impl Step {
    /// The request that it is about; none for an entry of the journal.
    pub fn request(&self) -> Option<&str> {
        match self {
            Self::Authorise { request, .. }
            | Self::Find { request, .. }
            | Self::Send { request, .. }
            | Self::Cancel { request, .. }
            | Self::ReadOutput { request, .. }
            | Self::Withdraw { request, .. }
            | Self::Look { request }
            | Self::Disks { request, .. } => Some(request),
            Self::Record(_) => None,
        }
    }

    /// Whether there is nothing to do but to wait.
    pub fn is_wait(&self) -> bool {
        let disks = matches!(
            self,
            Self::Disks {
                step: DiskStep::Look,
                ..
            }
        );
        disks || matches!(self, Self::Look { .. })
    }
}

/// The steps that are due. None: the case is at rest.
pub fn next(case: &Case, seen: &Seen, timing: &Timing, now: OffsetDateTime) -> Vec<Step> {
    let open = case
        .requests
        .iter()
        .filter(|requested| !requested.is_done());
    let of_collections = open.flat_map(|requested| {
        Decision {
            case,
            requested,
            seen,
            timing,
            now,
        }
        .steps()
    });
    let of_disks = case
        .disks
        .iter()
        .flat_map(|disks| disks::steps(disks, seen, now));
    of_collections.chain(of_disks).collect()
}

struct Decision<'a> {
    case: &'a Case,
    requested: &'a Requested,
    seen: &'a Seen,
    timing: &'a Timing,
    now: OffsetDateTime,
}

impl Decision<'_> {
    fn steps(&self) -> Vec<Step> {
        let request = self.id();
        let mut certain: Vec<Step> = self
            .open_hosts()
            .filter_map(|(id, _)| self.progress_of(id))
            .collect();
        let instances = self.just_started();
        if !instances.is_empty() {
            certain.push(Step::Record(Event::Started {
                request: self.id(),
                instances,
            }));
        }
        if !certain.is_empty() {
            return certain;
        }
        let mut steps = Vec::new();
        let instances = self.to_withdraw();
        if !instances.is_empty() {
            steps.push(Step::Withdraw {
                request: request.clone(),
                instances,
            });
        }
        let instances = self.to_authorise();
        let first = self.requested.batches.contains(&Batch::Unsent);
        let wanted = !instances.is_empty();
        if wanted {
            steps.push(Step::Authorise {
                request: request.clone(),
                instances,
            });
        }
        if wanted && first {
            return steps;
        }
        steps.extend(self.commands());
        if steps.is_empty() && self.open_hosts().next().is_some() {
            steps.push(Step::Look { request });
        }
        steps
    }

    fn id(&self) -> String {
        self.requested.request.id.clone()
    }

    fn open_hosts(&self) -> impl Iterator<Item = (&String, &Host)> {
        self.requested
            .hosts
            .iter()
            .filter(|(_, host)| host.ended.is_none())
    }

    fn just_started(&self) -> Vec<String> {
        let runs = |id: &String| {
            let key = (self.id(), id.clone());
            let status = self
                .seen
                .invocations
                .get(&key)
                .map(|invocation| plain(&invocation.status));
            let arrival = self
                .seen
                .arrived
                .get(&self.case.prefix(&self.requested.request, id));
            status.is_some_and(|status| status == "inprogress")
                || arrival.is_some_and(|arrival| arrival.segments > 0)
        };
        let hosts = self
            .open_hosts()
            .filter(|(id, host)| !host.started && runs(id));
        hosts.map(|(id, _)| id.clone()).collect()
    }

    fn uses_sessions(&self) -> bool {
        self.requested.request.credentials == Credentials::Session
    }

    fn to_withdraw(&self) -> Vec<String> {
        let over = |host: &Host| {
            host.ended.is_some() && host.authorised_until.is_some() && !host.withdrawn
        };
        let hosts = self
            .requested
            .hosts
            .iter()
            .filter(|(_, host)| self.uses_sessions() && over(host));
        hosts.map(|(id, _)| id.clone()).collect()
    }

    fn to_authorise(&self) -> Vec<String> {
        if !self.uses_sessions() || self.requested.cancelled {
            return Vec::new();
        }
        let until = self.now + self.timing.renew_before;
        let hosts = self
            .open_hosts()
            .filter(|(_, host)| host.authorised_until.is_none_or(|expires| expires <= until));
        hosts.map(|(id, _)| id.clone()).collect()
    }

    fn commands(&self) -> Vec<Step> {
        let request = self.id();
        if self.requested.cancelled {
            let sent = self
                .requested
                .batches
                .iter()
                .filter_map(|batch| match batch {
                    Batch::Sent(command) => Some(command.clone()),
                    _ => None,
                });
            let commands: Vec<String> = sent.collect();
            let due = !commands.is_empty() && !self.seen.cancelled.contains(&request);
            return due
                .then_some(Step::Cancel { request, commands })
                .into_iter()
                .collect();
        }
        let batches = self.requested.batches.iter().enumerate();
        batches
            .filter_map(|(batch, state)| self.command(batch, state))
            .collect()
    }

    fn command(&self, batch: usize, state: &Batch) -> Option<Step> {
        let request = self.id();
        match state {
            Batch::Unsent => Some(Step::Send { request, batch }),
            Batch::Sending(since) => match self.seen.lookups.get(&(request.clone(), batch)) {
                Some(Some(command)) => Some(Step::Record(Event::Sent {
                    request,
                    batch,
                    command: command.clone(),
                })),
                Some(None) if self.now - *since > CONSISTENCY => {
                    Some(Step::Send { request, batch })
                }
                _ => Some(Step::Find { request, batch }),
            },
            Batch::Sent(_) | Batch::Refused(_) => None,
        }
    }

    /// What is certain now about an instance and not in the journal yet.
    fn progress_of(&self, instance: &str) -> Option<Step> {
        let batch = self.requested.request.batch_of(instance)?;
        let command = match self.requested.batches.get(batch)? {
            Batch::Refused(why) => {
                return Some(self.ended(
                    instance,
                    "NotSent",
                    None,
                    Outcome::Nothing,
                    None,
                    Some(why.clone()),
                ));
            }
            Batch::Sent(command) => command,
            Batch::Unsent if self.requested.cancelled => {
                let why = "cancelled before it was sent".to_owned();
                return Some(self.ended(
                    instance,
                    "Cancelled",
                    None,
                    Outcome::Nothing,
                    None,
                    Some(why),
                ));
            }
            Batch::Unsent | Batch::Sending(_) => return None,
        };
        if !self.seen.looked.contains(&self.requested.request.id) {
            return None;
        }
        let key = (self.id(), instance.to_owned());
        let Some(invocation) = self.seen.invocations.get(&key) else {
            return self.never_listed(instance);
        };
        let arrival = self
            .seen
            .arrived
            .get(&self.case.prefix(&self.requested.request, instance));
        match class(&invocation.status) {
            Class::UnderWay => None,
            Class::Over => self.over(instance, invocation, arrival, command, false),
            Class::GivenUp => self.over(instance, invocation, arrival, command, true),
        }
    }

    /// SSM has come to an end with an instance; when it only gave up (`may_work`), the agent may still be at work.
    fn over(
        &self,
        instance: &str,
        invocation: &Invocation,
        arrival: Option<&Arrival>,
        command: &str,
        may_work: bool,
    ) -> Option<Step> {
        let receipt = self.receipt(instance, &invocation.output);
        let asked = self
            .seen
            .outputs
            .contains(&(self.id(), instance.to_owned()));
        if receipt.is_none() && !asked && !invocation.output.is_empty() {
            return Some(Step::ReadOutput {
                request: self.id(),
                instance: instance.to_owned(),
                command: command.to_owned(),
            });
        }
        let there = arrival.is_some_and(|arrival| arrival.manifest);
        let silent =
            arrival.is_none_or(|arrival| self.now - arrival.changed >= self.timing.silence);
        if !there && may_work && !silent {
            return None;
        }
        let outcome = match arrival {
            Some(arrival) if arrival.manifest => Outcome::Received,
            Some(arrival) if arrival.segments > 0 => Outcome::Interrupted,
            _ => Outcome::Nothing,
        };
        let why = self.reason(invocation, outcome, receipt.is_some());
        Some(self.ended(
            instance,
            &invocation.status,
            invocation.code,
            outcome,
            receipt,
            why,
        ))
    }

    fn never_listed(&self, instance: &str) -> Option<Step> {
        let start = Duration::seconds(i64::from(self.requested.request.start_within));
        if self.now < self.requested.asked + start + NEVER_LISTED {
            return None;
        }
        let why =
            "SSM never listed it for the command: has it lost its tag, or left SSM?".to_owned();
        Some(self.ended(
            instance,
            "NeverListed",
            None,
            Outcome::Nothing,
            None,
            Some(why),
        ))
    }

    /// The receipt, if the output holds one for exactly this collection: the host may print what it likes.
    fn receipt(&self, instance: &str, output: &str) -> Option<Receipt> {
        let lines = output.lines().filter(|line| line.starts_with('{'));
        let mut receipts = lines.filter_map(|line| Receipt::parse(line.as_bytes()).ok());
        let prefix = self.case.prefix(&self.requested.request, instance);
        receipts.find(|receipt| receipt.prefix.to_string() == prefix)
    }

    fn reason(
        &self,
        invocation: &Invocation,
        outcome: Outcome,
        has_receipt: bool,
    ) -> Option<String> {
        match (outcome, has_receipt) {
            (Outcome::Received, true) => None,
            (Outcome::Received, false) => {
                Some("SSM has no receipt: only the bucket says what the manifest is".to_owned())
            }
            (Outcome::Interrupted, _) => Some(format!(
                "the run was cut (SSM: {}): what had arrived by then stays usable",
                invocation.status
            )),
            (Outcome::Nothing, _) => Some(nothing(invocation)),
        }
    }

    fn ended(
        &self,
        instance: &str,
        status: &str,
        exit_code: Option<i32>,
        outcome: Outcome,
        receipt: Option<Receipt>,
        why: Option<String>,
    ) -> Step {
        Step::Record(Event::Ended {
            request: self.id(),
            instance: instance.to_owned(),
            status: status.to_owned(),
            exit_code,
            outcome,
            receipt: receipt.map(Box::new),
            why,
        })
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
