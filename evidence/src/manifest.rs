//! The manifest: what a run was, what it found, and what it could not. Written last: its presence says that the run ended.
//!
//! Canonical JSON (as RFC 8785: sorted keys, no white space, whole numbers only), so that it has one hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::keys::{Prefix, Stream};

/// Longest manifest that is read, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;

/// Whether all that was planned is in the collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Completeness {
    Complete,
    Partial,
}

/// The manifest of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`crate::FORMAT_VERSION`].
    pub format_version: u32,
    pub status: Completeness,
    /// Why the status is `partial`, one line each; none exactly when it is `complete`.
    pub reasons: Vec<String>,
    pub case: Case,
    pub tool: Tool,
    pub host: Host,
    pub clock: Clock,
    pub streams: Vec<StreamTotals>,
    pub chain: ChainTotals,
    pub inventory: InventoryTotals,
    pub artifacts: Vec<ArtifactReport>,
    pub store: Store,
    /// Each object as the store holds it, CHAIN included, the manifest itself not.
    pub objects: Vec<StoredObject>,
    pub impact: Impact,
}

/// Who asked, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Place of the collection, which names case, host and collection.
    pub prefix: Prefix,
    pub operator: String,
    pub reason: String,
    /// The command line as it was given; no secret is ever accepted there.
    pub arguments: Vec<String>,
    /// How much was to be captured; collections of before 0.2 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// What became of secrets, by class: `collect`, `mask` or `hash`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sensitive: BTreeMap<String, String>,
}

/// The program that collected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    pub name: String,
    pub version: String,
    /// Commit that it was built from, or `unknown`.
    pub commit: String,
    /// SHA-256 of its own file, read through `/proc/self/exe`.
    pub sha256: Option<Digest>,
}

/// What the host says of itself. None of it is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub hostname: Option<String>,
    pub machine_id: Option<String>,
    pub boot_id: Option<String>,
    pub kernel_release: Option<String>,
    pub kernel_version: Option<String>,
    pub architecture: Option<String>,
    /// Effective user of the agent, and its effective capabilities in hexadecimal.
    pub uid: u32,
    pub capabilities: Option<String>,
}

/// One instant on three clocks, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instant {
    /// `CLOCK_REALTIME`: since the epoch, by a clock that the host can set.
    pub utc_ns: i64,
    /// `CLOCK_MONOTONIC`: since boot, without sleep.
    pub monotonic_ns: i64,
    /// `CLOCK_BOOTTIME`: since boot, with sleep.
    pub boottime_ns: i64,
}

/// The clock of the host during the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    pub started: Instant,
    pub ended: Instant,
    /// By how much CLOCK_REALTIME moved against CLOCK_MONOTONIC during the run, in nanoseconds.
    pub step_ns: i64,
    /// Host minus trusted time, in milliseconds, and where the trusted time came from; absent without such a source.
    pub offset_ms: Option<i64>,
    pub offset_source: Option<String>,
}

/// A stream, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamTotals {
    pub stream: Stream,
    pub segments: u32,
    /// Bytes as stored, links included.
    pub bytes: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
}

/// The chain, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainTotals {
    pub records: u32,
    pub head: Digest,
    /// SHA-256 of the CHAIN object.
    pub sha256: Digest,
}

/// The inventory, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InventoryTotals {
    /// SHA-256 of the last part, which lists the parts before it.
    pub sha256: Digest,
    /// Lines over all parts.
    pub entries: u64,
    /// Members of the tar, the inventory's parts included.
    pub members: u64,
}

/// How an artifact ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All of it.
    Captured,
    /// Some of it; the reason and the losses say what is missing.
    Partial,
    /// Looked, and there is nothing.
    Empty,
    /// This host has no such thing.
    Absent,
    /// The kernel refused all of it.
    Denied,
    /// Its deadline passed before anything was captured.
    TimedOut,
    /// Another error.
    Failed,
    /// Not tried, for the reason given.
    Skipped,
}

impl Outcome {
    /// Whether something that may exist is not in the collection.
    pub fn is_loss(self) -> bool {
        matches!(
            self,
            Self::Partial | Self::Denied | Self::TimedOut | Self::Failed
        )
    }

    /// The word in manifests and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Partial => "partial",
            Self::Empty => "empty",
            Self::Absent => "absent",
            Self::Denied => "denied",
            Self::TimedOut => "timed_out",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// What became of one artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactReport {
    pub name: String,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub started: Instant,
    pub ended: Instant,
    /// Items captured, records of tables included.
    pub items: u64,
    /// Bytes of content that went into the stream.
    pub bytes: u64,
    /// Items that were gone when they were read: churn, not loss.
    pub vanished: u64,
    /// Losses by kind, such as `denied:EACCES`.
    pub losses: BTreeMap<String, u64>,
}

/// Where the objects went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `directory` or `s3`.
    pub kind: String,
    /// Path or URL of the collection's place, as the operator would name it.
    pub place: String,
    /// What is known of its Object Lock: `enabled`, `disabled`, `not readable with these credentials`, `none` (a directory).
    pub object_lock: String,
    /// Name server that resolved the store's name, where one was asked.
    pub resolved_by: Option<String>,
    /// The `--spool` directory, for the objects that the store no longer took.
    pub spool: Option<String>,
    /// What the store last failed with, if it failed for good.
    pub failure: Option<String>,
}

/// An object as the store holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredObject {
    /// Key relative to the collection.
    pub key: String,
    pub bytes: u64,
    pub sha256: Option<Digest>,
    /// False when it is in the spool, or lost, not in the store.
    pub shipped: bool,
    pub version_id: Option<String>,
    /// SHA-256 that the store states.
    pub stored_sha256: Option<Digest>,
    pub lock_mode: Option<String>,
    /// RFC 3339, UTC.
    pub retain_until: Option<String>,
    pub legal_hold: Option<bool>,
    pub kms_key: Option<String>,
    /// Why the store's view could not be read back, such as put-only credentials.
    pub unread: Option<String>,
}

/// What the run cost and changed on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Impact {
    pub pid: u32,
    /// Path of the agent's executable, as the kernel names it.
    pub executable: Option<String>,
    pub cpu_user_us: u64,
    pub cpu_system_us: u64,
    pub peak_rss_bytes: u64,
    /// Bytes that the agent caused to be read from and written to block devices (`/proc/self/io`).
    pub disk_read_bytes: Option<u64>,
    pub disk_write_bytes: Option<u64>,
    /// Threads given up because a read never returned.
    pub abandoned_reads: u32,
    /// Changes made to the host, one line each.
    pub changes: Vec<String>,
}

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("manifest.json is not a manifest of this format: {0}")]
    Json(#[from] serde_json::Error),
    #[error("manifest.json has format version {found}; this program reads version {known}", known = crate::FORMAT_VERSION)]
    Version { found: u32 },
    #[error("manifest.json is not in canonical form: it was not written by the agent, or edited")]
    NotCanonical,
    #[error("manifest.json is `complete` and names reasons, or `partial` and names none")]
    Status,
}

/// Sorted keys, no white space, numbers whole: one text for one value.
pub(crate) fn canonical(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&serde_json::to_value(value)?)
}

impl Manifest {
    /// The bytes of the object.
    ///
    /// # Errors
    /// Never for manifests that can be built: the error is serde's.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        canonical(self)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// For anything but the canonical form of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.format_version != crate::FORMAT_VERSION {
            return Err(ManifestError::Version {
                found: manifest.format_version,
            });
        }
        if manifest.to_bytes()? != bytes {
            return Err(ManifestError::NotCanonical);
        }
        if (manifest.status == Completeness::Complete) != manifest.reasons.is_empty() {
            return Err(ManifestError::Status);
        }
        Ok(manifest)
    }
}
