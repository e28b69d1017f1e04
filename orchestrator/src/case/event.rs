//! What a journal can say: facts and transitions, never a secret.

use evidence::digest::Digest;
use evidence::{CollectionId, Receipt};
use serde::{Deserialize, Serialize};

use super::disks::{Act, DiskRequest};
pub use crate::config::Credentials;

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// The case begins.
    Opened { reason: String },
    /// A collection was asked for, with all that it will be run with.
    Requested(Box<Request>),
    /// Suspects can put objects.
    Authorised { request: String, grants: Vec<Grant> },
    /// A command is about to be sent: from here on it may run, whether or not `Sent` follows.
    Sending { request: String, batch: usize },
    /// SSM has taken the command.
    Sent {
        request: String,
        batch: usize,
        command: String,
    },
    /// SSM has refused the command: it runs nowhere.
    NotSent {
        request: String,
        batch: usize,
        why: String,
    },
    /// The agent runs.
    Started {
        request: String,
        instances: Vec<String>,
    },
    /// The responder wants the request to end.
    CancelAsked { request: String },
    /// Nothing more will come of this instance.
    Ended {
        request: String,
        instance: String,
        /// As SSM puts it, or ours where SSM knows nothing.
        status: String,
        exit_code: Option<i32>,
        outcome: Outcome,
        receipt: Option<Box<Receipt>>,
        why: Option<String>,
    },
    /// The suspects' credentials are gone from the parameter store.
    Withdrawn {
        request: String,
        instances: Vec<String>,
    },
    /// Snapshots of an instance's disks were asked for.
    DisksRequested(Box<DiskRequest>),
    /// Something was done with them.
    Snapshot {
        request: String,
        #[serde(flatten)]
        act: Act,
    },
    /// A collection was checked.
    Verified {
        prefix: String,
        verdict: String,
        deep: bool,
        manifest_sha256: Option<Digest>,
        problems: Vec<String>,
    },
    /// A collection is about to be sealed: what the seal says of the custody ends here.
    Sealing { prefix: String },
    /// A collection is sealed.
    Sealed {
        prefix: String,
        sums_sha256: Digest,
        key: Digest,
        objects: usize,
        /// The time that the seal's time stamp states, if it has one: RFC 3339, UTC.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_stamp: Option<String>,
    },
    /// The evidence is given out of custody: its legal hold is taken off.
    Released {
        prefix: String,
        to: String,
        reason: String,
    },
    /// Somebody has read the evidence.
    Accessed { prefix: String, to: String },
    /// All of the case is about to be copied for somebody else.
    Exported { to: String },
}

/// A session that an instance was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub instance: String,
    pub access_key_id: String,
    /// RFC 3339, UTC.
    pub expires: String,
}

/// How the work on one instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The run ended by itself: there is a manifest.
    Received,
    /// Segments came, no manifest did.
    Interrupted,
    /// Nothing came.
    Nothing,
}

/// A collection on one or many instances, fixed when it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Eight hexadecimal digits.
    pub id: String,
    /// Name of the account in the configuration, and its id.
    pub account: String,
    pub account_id: String,
    pub region: String,
    /// The tag that was asked for, instead of ids.
    pub tag: Option<(String, String)>,
    /// The instances that are asked.
    pub instances: Vec<String>,
    /// The instances that answered to the question and can not be asked, with the reason.
    pub refused: Vec<Refused>,
    /// The same on every instance: a second run of the same request can not store anything.
    pub collection: CollectionId,
    pub document: String,
    pub document_sha256: Digest,
    pub agent_sha256: Digest,
    pub agent_source: String,
    pub credentials: Credentials,
    /// Arguments of the agent.
    pub arguments: Vec<String>,
    /// Seconds that SSM gives the command to start, and to run.
    pub start_within: u32,
    pub run_within: u32,
    pub max_concurrency: String,
    pub max_errors: String,
}

/// An instance that can not be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub instance: String,
    /// Word of the exit code.
    pub code: String,
    pub why: String,
}

impl Request {
    /// Commands that it takes: one by tag, or one for each fifty instances.
    pub fn batches(&self) -> usize {
        match self.tag {
            Some(_) => 1,
            None => self.instances.len().div_ceil(BATCH),
        }
    }

    /// The instances of a batch.
    pub fn batch(&self, batch: usize) -> &[String] {
        match self.tag {
            Some(_) => &self.instances,
            None => self.instances.chunks(BATCH).nth(batch).unwrap_or_default(),
        }
    }

    /// The batch that an instance is in.
    pub fn batch_of(&self, instance: &str) -> Option<usize> {
        let position = self.instances.iter().position(|id| id == instance)?;
        Some(if self.tag.is_some() {
            0
        } else {
            position / BATCH
        })
    }
}

/// Instances that one command takes by id (SSM API reference, SendCommand, InstanceIds).
const BATCH: usize = 50;
