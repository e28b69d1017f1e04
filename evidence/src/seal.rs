//! The sealing statement: what the one who sealed a collection saw in the store, and what custody had come to by then.
//!
//! It is the object `custody/000000.json` of the collection. SHA256SUMS lists it, so the signature over SHA256SUMS covers it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::keys::Prefix;
use crate::line;
use crate::receipt::{Receipt, ReceiptError};
use crate::sums::{self, Sums};

/// Name of the object that holds the statement.
pub const STATEMENT: &str = "custody/000000.json";
/// Version of the statement that this crate writes, and the only one that it reads.
pub const SEAL_VERSION: u32 = 1;
/// Longest statement that is read, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;

/// What verification said of the collection when it was sealed. What is altered can not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sealable {
    Complete,
    Partial,
    Interrupted,
}

impl fmt::Display for Sealable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Interrupted => "interrupted",
        })
    }
}

/// The case's custody, up to the seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Records so far.
    pub records: u64,
    /// Hash of the last of them ([`crate::custody::Custody::head`]).
    pub head: Digest,
}

/// An object as the store showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedObject {
    /// Key relative to the collection.
    pub key: String,
    pub version_id: Option<String>,
    pub size: u64,
    pub sha256: Digest,
    pub lock_mode: Option<String>,
    /// RFC 3339, UTC.
    pub retain_until: Option<String>,
    pub legal_hold: Option<bool>,
}

/// What whoever seals a collection states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Always [`SEAL_VERSION`].
    pub seal_version: u32,
    /// The collection.
    pub prefix: Prefix,
    pub verdict: Sealable,
    /// Absent for a run that was interrupted.
    pub manifest_sha256: Option<Digest>,
    /// The receipt of the run, if it arrived.
    pub receipt: Option<Receipt>,
    pub journal: Journal,
    /// Every object of the collection but those of the seal, sorted by key.
    pub objects: Vec<SealedObject>,
    /// RFC 3339, UTC, by the clock of the one who sealed.
    pub sealed_at: String,
    pub operator: String,
}

/// Why bytes are not a statement, or one can not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    #[error("{STATEMENT} is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("{STATEMENT} is not a sealing statement: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{STATEMENT} has version {found}; this program reads version {SEAL_VERSION}")]
    Version { found: u32 },
    #[error("{STATEMENT} is not in canonical form: it was edited, or written by another program")]
    NotCanonical,
    #[error("{STATEMENT} has a time that is not RFC 3339 in UTC, such as 2026-03-14T15:09:26Z")]
    Time,
    #[error("the receipt in {STATEMENT}: {0}")]
    Receipt(#[from] ReceiptError),
    #[error("the receipt in {STATEMENT} is of another run, or of another manifest")]
    OtherReceipt,
    #[error("{STATEMENT} is `{verdict}`, which does not go with its manifest_sha256")]
    Verdict { verdict: Sealable },
    #[error(
        "{STATEMENT} lists no objects, or one that is no object of the run or out of order: {key:?}"
    )]
    Object { key: String },
}

impl Statement {
    /// The bytes of the object: canonical ASCII JSON and a newline.
    ///
    /// # Errors
    /// When no reader would accept it.
    pub fn to_line(&self) -> Result<String, StatementError> {
        self.check()?;
        let text = line::to_line(self)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(StatementError::TooLong);
        }
        Ok(text)
    }

    /// Reads the object, newline included.
    ///
    /// # Errors
    /// For anything that [`Statement::to_line`] does not write.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(StatementError::TooLong);
        }
        let statement: Self = serde_json::from_slice(bytes)?;
        if statement.to_line()?.as_bytes() != bytes {
            return Err(StatementError::NotCanonical);
        }
        Ok(statement)
    }

    /// What SHA256SUMS says when this statement is what is sealed.
    ///
    /// # Errors
    /// When no reader would accept the statement.
    pub fn sums(&self) -> Result<Sums, StatementError> {
        let text = self.to_line()?;
        let own = (STATEMENT, Digest::of(text.as_bytes()));
        let others = self.objects.iter().map(|o| (o.key.as_str(), o.sha256));
        let mut sums = Sums::default();
        for (key, sha256) in others.chain([own]) {
            let wrong = |_| StatementError::Object {
                key: key.to_owned(),
            };
            sums.insert(key, sha256).map_err(wrong)?;
        }
        Ok(sums)
    }

    /// What a statement has to be, whatever collection it is about.
    fn check(&self) -> Result<(), StatementError> {
        if self.seal_version != SEAL_VERSION {
            return Err(StatementError::Version {
                found: self.seal_version,
            });
        }
        if !line::is_time(&self.sealed_at) {
            return Err(StatementError::Time);
        }
        let verdict = self.verdict;
        if (verdict == Sealable::Interrupted) != self.manifest_sha256.is_none() {
            return Err(StatementError::Verdict { verdict });
        }
        self.check_receipt()?;
        self.check_objects()
    }

    fn check_receipt(&self) -> Result<(), StatementError> {
        let Some(receipt) = &self.receipt else {
            return Ok(());
        };
        let line = receipt.to_line()?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        if Receipt::parse(line.as_bytes())? != *receipt {
            return Err(ReceiptError::NotCanonical.into());
        }
        // The receipt may know of a manifest that never reached the store, but not of another one.
        let same =
            self.manifest_sha256.is_none() || receipt.manifest_sha256 == self.manifest_sha256;
        if receipt.prefix != self.prefix || !same {
            return Err(StatementError::OtherReceipt);
        }
        Ok(())
    }

    fn check_objects(&self) -> Result<(), StatementError> {
        let mut last = "";
        for SealedObject { key, .. } in &self.objects {
            if !sums::is_covered(key) || key == STATEMENT || key.as_str() <= last {
                return Err(StatementError::Object { key: key.clone() });
            }
            last = key;
        }
        match self.objects.is_empty() {
            true => Err(StatementError::Object { key: String::new() }),
            false => Ok(()),
        }
    }
}
