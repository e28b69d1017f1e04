//! The sections of `exhibit.toml`, and what holds where they say nothing.

use std::path::PathBuf;

use evidence::digest::Digest;
use serde::Deserialize;

/// The bucket that takes the evidence.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evidence {
    pub(crate) bucket: String,
    #[serde(default)]
    pub(crate) prefix: String,
    pub(crate) region: String,
    /// Account that owns it; a request to another's bucket of the same name is refused.
    pub(crate) account: String,
    /// Role that reads, seals and keeps the custody records; without it the caller's own credentials do.
    pub(crate) role: Option<String>,
    /// Role of which each suspect gets a put-only session.
    pub(crate) collector_role: Option<String>,
    /// Days that an object has to be locked for, from the seal on.
    #[serde(default = "retention_days")]
    pub(crate) retention_days: u32,
}

/// The agent that a suspect has to run, and nothing else.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Agent {
    /// SHA-256 of the released binary.
    pub(crate) sha256: Digest,
    /// Other releases that `verify` accepts.
    #[serde(default)]
    pub(crate) also_released: Vec<Digest>,
    /// Absolute path in the image, or `https://` address.
    pub(crate) source: String,
    /// A copy of the store that `packaging/lime/build` made, and the public key of who signed it: `doctor` compares
    /// kernels with it.
    pub(crate) module_store: Option<PathBuf>,
    pub(crate) module_key: Option<PathBuf>,
}

/// Prices of the region of the evidence, in one currency. They change, so there are none here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cost {
    /// Its name, as it is printed.
    pub(crate) currency: String,
    /// A GiB in the bucket for a month.
    pub(crate) s3_gib_month: f64,
    /// A thousand PUT requests.
    pub(crate) s3_thousand_puts: f64,
    /// A GiB of snapshots for a month.
    pub(crate) snapshot_gib_month: f64,
}

/// How collections run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Collect {
    /// Name of the SSM document, and the SHA-256 of its content that SSM has to confirm.
    pub(crate) document: String,
    pub(crate) document_sha256: Option<Digest>,
    /// `session`: a put-only session for each suspect. `instance-role`: what the instance has anyway.
    pub(crate) credentials: Credentials,
    /// Seconds of a session; chained roles get an hour at most.
    pub(crate) session_seconds: u32,
    /// Instances at a time, and failures after which no more are started, as SSM takes them: `50`, `10%`.
    pub(crate) max_concurrency: String,
    pub(crate) max_errors: String,
    /// Seconds that a command may wait for its start, and run; 0: estimated.
    pub(crate) start_within_seconds: u32,
    pub(crate) run_within_seconds: u32,
    /// Seconds between two looks.
    pub(crate) poll_seconds: u64,
    /// Seconds without a new segment after which a run that SSM gave up counts as cut.
    pub(crate) silence_seconds: i64,
    /// More arguments of `exhibit-agent collect`.
    pub(crate) arguments: Vec<String>,
}

/// Where a suspect's credentials come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credentials {
    #[default]
    Session,
    InstanceRole,
}

/// Who signs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seal {
    /// KMS key: ECC_NIST_P256, SIGN_VERIFY.
    pub(crate) kms_key: Option<String>,
    pub(crate) kms_region: Option<String>,
    /// PEM file with a P-256 private key.
    pub(crate) key_file: Option<PathBuf>,
    /// Public half of a P-256 key in ssh-agent, as in `id_ecdsa.pub`.
    pub(crate) ssh_key: Option<PathBuf>,
    /// Public key that `verify` trusts; without it the key that signs.
    pub(crate) trusted_key: Option<PathBuf>,
    /// Address of an authority for time stamps (RFC 3161); without it a seal has none.
    pub(crate) timestamp_url: Option<String>,
    /// PEM file with the certificates of who issues the authority's: for the command that checks who signed a time stamp.
    pub(crate) timestamp_certificates: Option<PathBuf>,
}

/// The account that gets copies of disks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forensic {
    pub(crate) account: String,
    pub(crate) role: Option<String>,
    pub(crate) region: String,
    /// ARN of the KMS key of the copies.
    pub(crate) key: String,
    /// Lock of the copies.
    #[serde(default)]
    pub(crate) lock_mode: SnapshotLock,
    #[serde(default = "retention_days")]
    pub(crate) lock_days: u32,
    /// Days for which an original is locked, unless its copy is locked before.
    #[serde(default = "original_lock_days")]
    pub(crate) original_lock_days: u32,
}

/// Who can take the lock off a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SnapshotLock {
    /// Whoever may call ec2:UnlockSnapshot.
    #[default]
    Governance,
    /// Nobody.
    Compliance,
}

impl SnapshotLock {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        }
    }
}

/// An account with suspects.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) role: Option<String>,
    pub(crate) region: String,
    /// ARN of a KMS key that snapshots under the account's default key get, so that they can be shared.
    pub(crate) snapshot_key: Option<String>,
}

fn retention_days() -> u32 {
    365
}

fn original_lock_days() -> u32 {
    30
}

impl Default for Collect {
    fn default() -> Self {
        Self {
            document: "Exhibit-Collect".to_owned(),
            document_sha256: None,
            credentials: Credentials::Session,
            session_seconds: 3600,
            max_concurrency: "50".to_owned(),
            max_errors: "100%".to_owned(),
            start_within_seconds: 600,
            run_within_seconds: 0,
            poll_seconds: 5,
            silence_seconds: 180,
            arguments: Vec::new(),
        }
    }
}
