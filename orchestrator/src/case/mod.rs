//! A case: its journal, what the journal amounts to, and what follows from it.

mod disks;
mod event;
mod journal;
#[cfg(test)]
mod mortal;
mod state;
mod status;

use std::collections::BTreeMap;

use evidence::Receipt;
use evidence::custody::Record;
use time::OffsetDateTime;

pub use disks::{
    Act, Deed, Disk, DiskRequest, DiskStep, Disks, Failed, Made, Role, SnapshotSeen, SnapshotState,
    Stage, Uncovered, Volume,
};
pub use event::{Credentials, Event, Grant, Outcome, Refused, Request};
pub(crate) use journal::Journal;
pub use state::{Arrival, Invocation, Seen, Step, Timing, next};

use crate::custody::time_of;

/// What the journal amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    pub id: String,
    pub reason: String,
    pub opened: String,
    pub operator: String,
    pub requests: Vec<Requested>,
    pub disks: Vec<Disks>,
    /// By prefix.
    pub collections: BTreeMap<String, Collection>,
    /// Entries so far.
    pub records: u64,
}

/// A request, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    pub request: Request,
    pub asked: OffsetDateTime,
    pub batches: Vec<Batch>,
    pub hosts: BTreeMap<String, Host>,
    pub cancelled: bool,
}

/// A command of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    Unsent,
    /// It may run: nobody knows yet.
    Sending(OffsetDateTime),
    Sent(String),
    Refused(String),
}

/// An instance of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    pub authorised_until: Option<OffsetDateTime>,
    pub started: bool,
    pub ended: Option<End>,
    pub withdrawn: bool,
}

/// How the work on an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub status: String,
    pub exit_code: Option<i32>,
    pub outcome: Outcome,
    pub why: Option<String>,
}

/// A collection in the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    pub receipt: Option<Receipt>,
    pub verdict: Option<String>,
    pub sealing: Option<Sealing>,
    pub sealed: bool,
    pub released: bool,
    /// The time that the seal's time stamp states, if it has one.
    pub time_stamp: Option<String>,
}

/// The custody up to the seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    pub records: u64,
    pub head: evidence::Digest,
    pub at: String,
}

impl Case {
    /// What these records amount to.
    ///
    /// # Errors
    /// When one of them is not an event that this program knows, or does not fit what went before.
    pub fn of(records: &[Record]) -> Result<Self, String> {
        let mut case = Self::default();
        records.iter().try_for_each(|record| case.apply(record))?;
        Ok(case)
    }

    /// Takes one more entry.
    ///
    /// # Errors
    /// As [`Case::of`].
    pub fn apply(&mut self, record: &Record) -> Result<(), String> {
        let unfit = |why: &str| format!("record {} of the journal {why}", record.number);
        let value = serde_json::Value::Object(record.event.clone());
        let event: Event = serde_json::from_value(value)
            .map_err(|error| unfit(&format!("is not an event of this version: {error}")))?;
        let time = time_of(&record.time).ok_or_else(|| unfit("has no RFC 3339 time"))?;
        self.records = record.number + 1;
        self.id = record.case.to_string();
        match event {
            Event::Opened { reason } => {
                self.reason = reason;
                self.opened.clone_from(&record.time);
                self.operator.clone_from(&record.operator);
            }
            Event::Requested(request) => self.requests.push(Requested::new(*request, time)),
            Event::Verified {
                prefix, verdict, ..
            } => {
                self.collections.entry(prefix).or_default().verdict = Some(verdict);
            }
            Event::Sealing { prefix } => {
                let sealing = Sealing {
                    records: self.records,
                    head: record.hash().map_err(|error| unfit(&error.to_string()))?,
                    at: record.time.clone(),
                };
                self.collections.entry(prefix).or_default().sealing = Some(sealing);
            }
            Event::Sealed {
                prefix, time_stamp, ..
            } => {
                let collection = self.collections.entry(prefix).or_default();
                collection.sealed = true;
                collection.time_stamp = time_stamp;
            }
            Event::Released { prefix, .. } => {
                self.collections.entry(prefix).or_default().released = true;
            }
            Event::Accessed { .. } | Event::Exported { .. } => {}
            Event::DisksRequested(request) => self.disks.push(Disks::new(*request, time)),
            Event::Snapshot { request, act } => {
                let disks = self
                    .disks
                    .iter_mut()
                    .find(|disks| disks.request.id == request);
                disks
                    .and_then(|disks| disks.apply(act, time))
                    .ok_or_else(|| unfit("names disks that nobody asked for"))?;
            }
            of_a_request => self
                .apply_to_request(of_a_request, time)
                .ok_or_else(|| unfit("names a request or an instance that is not there"))?,
        }
        Ok(())
    }

    fn apply_to_request(&mut self, event: Event, time: OffsetDateTime) -> Option<()> {
        match event {
            Event::Authorised { request, grants } => {
                for grant in grants {
                    self.host(&request, &grant.instance)?.authorised_until =
                        time_of(&grant.expires);
                }
            }
            Event::Sending { request, batch } => {
                *self.batch(&request, batch)? = Batch::Sending(time);
            }
            Event::Sent {
                request,
                batch,
                command,
            } => {
                *self.batch(&request, batch)? = Batch::Sent(command);
            }
            Event::NotSent {
                request,
                batch,
                why,
            } => {
                *self.batch(&request, batch)? = Batch::Refused(why);
            }
            Event::Started { request, instances } => {
                for instance in instances {
                    self.host(&request, &instance)?.started = true;
                }
            }
            Event::CancelAsked { request } => self.request_mut(&request)?.cancelled = true,
            Event::Withdrawn { request, instances } => {
                for instance in instances {
                    self.host(&request, &instance)?.withdrawn = true;
                }
            }
            Event::Ended {
                request,
                instance,
                status,
                exit_code,
                outcome,
                receipt,
                why,
            } => {
                let end = End {
                    status,
                    exit_code,
                    outcome,
                    why,
                };
                self.host(&request, &instance)?.ended = Some(end);
                if outcome != Outcome::Nothing {
                    let collection = &self.request(&request)?.request.collection;
                    let prefix = format!("{}/{instance}/{collection}", self.id);
                    self.collections.entry(prefix).or_default().receipt =
                        receipt.map(|receipt| *receipt);
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Where the collection of an instance lives in the bucket, below the configured prefix.
    pub fn prefix(&self, request: &Request, instance: &str) -> String {
        format!("{}/{instance}/{}", self.id, request.collection)
    }

    /// Requests with something left to do, for collections and for disks.
    pub fn open_requests(&self) -> usize {
        let collections = self
            .requests
            .iter()
            .filter(|requested| !requested.is_done());
        let disks = self.disks.iter().filter(|disks| !disks.is_done());
        collections.count() + disks.count()
    }

    /// The request of this id.
    pub fn request(&self, id: &str) -> Option<&Requested> {
        self.requests
            .iter()
            .find(|requested| requested.request.id == id)
    }

    /// The instances of a request, for a collection or for disks.
    pub fn instances_of(&self, request: &str) -> Vec<&str> {
        let collection = self.request(request).into_iter();
        let instances = collection.flat_map(|requested| &requested.request.instances);
        let disks = self
            .disks
            .iter()
            .filter(|disks| disks.request.id == request);
        let of_disks = disks.map(|disks| &disks.request.instance);
        instances.chain(of_disks).map(String::as_str).collect()
    }

    fn request_mut(&mut self, id: &str) -> Option<&mut Requested> {
        self.requests
            .iter_mut()
            .find(|requested| requested.request.id == id)
    }

    fn host(&mut self, request: &str, instance: &str) -> Option<&mut Host> {
        self.request_mut(request)?.hosts.get_mut(instance)
    }

    fn batch(&mut self, request: &str, batch: usize) -> Option<&mut Batch> {
        self.request_mut(request)?.batches.get_mut(batch)
    }
}

impl Requested {
    fn new(request: Request, asked: OffsetDateTime) -> Self {
        Self {
            asked,
            batches: vec![Batch::Unsent; request.batches()],
            hosts: request
                .instances
                .iter()
                .map(|id| (id.clone(), Host::default()))
                .collect(),
            cancelled: false,
            request,
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        let needs_withdrawal = self.request.credentials == Credentials::Session;
        self.hosts.values().all(|host| {
            host.ended.is_some()
                && (host.withdrawn || !needs_withdrawal || host.authorised_until.is_none())
        })
    }
}
