//! What can be wrong with a collection, one kind each, with a word that vectors and machines can match on.

use std::io;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::chain::ChainError;
use crate::digest::Digest;
use crate::frame::FrameError;
use crate::manifest::ManifestError;
use crate::member::TarError;

/// Something that is not as the agent wrote it.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("{key} is missing")]
    Missing { key: String },
    #[error("{key} is there, but belongs to no collection or is not listed by the chain")]
    Extra { key: String },
    #[error("{key} can not be read: {reason}")]
    Unreadable { key: String, reason: String },
    #[error("{key} has {found} bytes where the chain states {stated}")]
    Length {
        key: String,
        stated: u64,
        found: u64,
    },
    #[error("{key} has SHA-256 {found} where {by} states {stated}")]
    Hash {
        key: String,
        /// Who states the other one: the chain, or SHA256SUMS.
        by: &'static str,
        stated: String,
        found: String,
    },
    #[error(
        "{key} does not continue the segment before it: its link is missing, or names another place or another past"
    )]
    Link { key: String },
    #[error("{key}: {reason}")]
    Frame { key: String, reason: String },
    #[error("{0}")]
    Chain(String),
    #[error("{0}")]
    Manifest(String),
    #[error("the manifest states {what} {stated}, found is {found}")]
    Mismatch {
        what: &'static str,
        stated: String,
        found: String,
    },
    #[error("{0}")]
    Tar(String),
    #[error("{0}")]
    Lime(String),
    #[error("member {name} is in the tar twice")]
    Duplicate { name: String },
    #[error("line {line} of {part}: {reason}")]
    Inventory {
        part: String,
        line: u64,
        reason: String,
    },
    #[error("member {name}: {reason}")]
    Member { name: String, reason: String },
    #[error("more {what} than the limit of {limit}: reading stops here")]
    Limit { what: &'static str, limit: u64 },
    #[error("{0}")]
    Sums(String),
    #[error("{key} is there, but SHA256SUMS does not list it: it was added after the seal")]
    Unlisted { key: String },
    #[error("{0}")]
    Signature(String),
    #[error("the seal was made with the key {fingerprint}, not with the one that is trusted")]
    Key { fingerprint: Digest },
    #[error("{0}")]
    Statement(String),
    #[error("{0}")]
    TimeStamp(String),
}

/// Longest piece of a message that comes from the collection, in characters.
const MAX_SHOWN: usize = 300;

/// Text for messages: whatever could steer a terminal, or look like other text, is escaped, and the rest is cut.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .take(MAX_SHOWN)
        .map(|c| match c {
            ' '..='~' => c.to_string(),
            _ => c.escape_default().to_string(),
        })
        .collect()
}

impl Problem {
    pub(super) fn extra(key: &str) -> Self {
        Self::Extra { key: plain(key) }
    }

    pub(super) fn unreadable(key: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing {
                key: key.to_owned(),
            },
            _ => Self::Unreadable {
                key: key.to_owned(),
                reason: error.to_string(),
            },
        }
    }

    pub(super) fn frame(key: &str, error: &FrameError) -> Self {
        Self::Frame {
            key: key.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(super) fn chain(error: &ChainError) -> Self {
        Self::Chain(plain(&error.to_string()))
    }

    pub(super) fn manifest(error: &ManifestError) -> Self {
        Self::Manifest(plain(&error.to_string()))
    }

    pub(super) fn tar(error: &TarError) -> Self {
        Self::Tar(error.to_string())
    }

    pub(super) fn mismatch(
        what: &'static str,
        stated: impl ToString,
        found: impl ToString,
    ) -> Option<Self> {
        let (stated, found) = (stated.to_string(), found.to_string());
        (stated != found).then_some(Self::Mismatch {
            what,
            stated,
            found,
        })
    }

    /// The word for the kind of problem.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Extra { .. } => "extra",
            Self::Unreadable { .. } => "unreadable",
            Self::Length { .. } => "length",
            Self::Hash { .. } => "hash",
            Self::Link { .. } => "link",
            Self::Frame { .. } => "frame",
            Self::Chain(_) => "chain",
            Self::Manifest(_) => "manifest",
            Self::Mismatch { .. } => "mismatch",
            Self::Tar(_) => "tar",
            Self::Lime(_) => "lime",
            Self::Duplicate { .. } => "duplicate",
            Self::Inventory { .. } => "inventory",
            Self::Member { .. } => "member",
            Self::Limit { .. } => "limit",
            Self::Sums(_) => "sums",
            Self::Unlisted { .. } => "unlisted",
            Self::Signature(_) => "signature",
            Self::Key { .. } => "key",
            Self::Statement(_) => "statement",
            Self::TimeStamp(_) => "time-stamp",
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Problem", 2)?;
        fields.serialize_field("code", self.code())?;
        fields.serialize_field("message", &self.to_string())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_can_not_steer_a_terminal_nor_fill_it() {
        let hostile = format!("\u{1b}[2J\u{202e}\n{}", "x".repeat(1 << 20));
        let message = Problem::extra(&hostile).to_string();
        assert!(message.starts_with("\\u{1b}[2J\\u{202e}\\nx"), "{message}");
        assert!(message.len() < 500);
    }
}
