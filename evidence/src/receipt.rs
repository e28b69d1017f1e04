//! The receipt: one line of ASCII JSON on standard output, which binds the manifest by another channel than the store.
//!
//! It holds no string that comes from the host, and fits SSM's clipped output (2,500 characters a plugin).

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::keys::Prefix;

/// Longest receipt, in bytes, newline included.
pub const MAX_BYTES: usize = 2400;

/// What the caller learns of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    pub receipt_version: u32,
    /// Word of the exit code.
    pub result: String,
    pub exit_code: u8,
    pub prefix: Prefix,
    /// SHA-256 of `manifest.json`; absent when it could not be stored anywhere.
    pub manifest_sha256: Option<Digest>,
    pub manifest_version_id: Option<String>,
    pub chain_head: Digest,
    pub segments: u32,
    pub bytes: u64,
    pub members: u64,
    pub artifacts: u32,
    /// Artifacts of which something is missing.
    pub incomplete: u32,
    pub tool_version: String,
    pub tool_sha256: Option<Digest>,
    pub started_utc_ns: i64,
    pub ended_utc_ns: i64,
}

impl Receipt {
    /// The line, with its newline; ASCII whatever the values are.
    ///
    /// # Errors
    /// Never for receipts that can be built: the error is serde's.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        let mut receipt = self.clone();
        let fits = |text: &String| text.len() <= 1024 && text.bytes().all(|b| b.is_ascii_graphic());
        receipt.manifest_version_id = receipt.manifest_version_id.filter(fits);
        let mut line = String::from_utf8_lossy(&crate::manifest::canonical(&receipt)?).into_owned();
        line.push('\n');
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_receipt_is_short_and_ascii() {
        let long = "x".repeat(64);
        let receipt = Receipt {
            receipt_version: 1,
            result: "nothing-collected".to_owned(),
            exit_code: 255,
            prefix: format!("{long}/{long}/{long}").parse().unwrap(),
            manifest_sha256: Some(Digest::of(b"")),
            manifest_version_id: Some("v".repeat(1024)),
            chain_head: Digest::of(b""),
            segments: u32::MAX,
            bytes: u64::MAX,
            members: u64::MAX,
            artifacts: u32::MAX,
            incomplete: u32::MAX,
            tool_version: long,
            tool_sha256: Some(Digest::of(b"")),
            started_utc_ns: i64::MIN,
            ended_utc_ns: i64::MIN,
        };
        let line = receipt.to_line().unwrap();
        assert!(
            line.is_ascii() && line.len() <= MAX_BYTES,
            "{} bytes",
            line.len()
        );
        let hostile = Receipt {
            manifest_version_id: Some("\u{1b}[2J".to_owned()),
            ..receipt
        };
        assert!(!hostile.to_line().unwrap().contains('\u{1b}'));
    }
}
