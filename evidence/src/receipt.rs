//! The receipt: one line of ASCII JSON on standard output, which binds the manifest by another channel than the store.
//!
//! It holds no string that comes from the host, and fits SSM's clipped output (2,500 characters a plugin).

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::exit::Exit;
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

/// Why a line is not a receipt.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    #[error("the receipt is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("not a receipt of this format: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the receipt has version {found}; this program reads version {known}", known = crate::FORMAT_VERSION)]
    Version { found: u32 },
    #[error("the receipt is not in the form that the agent writes")]
    NotCanonical,
    #[error("the result of the receipt is not the word of its exit code")]
    Result,
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

    /// Reads a line without its newline. It came from the host, by way of a channel that may have clipped it.
    ///
    /// # Errors
    /// For anything that [`Receipt::to_line`] does not write.
    pub fn parse(line: &[u8]) -> Result<Self, ReceiptError> {
        if line.len() >= MAX_BYTES {
            return Err(ReceiptError::TooLong);
        }
        let receipt: Self = serde_json::from_slice(line)?;
        if receipt.receipt_version != crate::FORMAT_VERSION {
            return Err(ReceiptError::Version {
                found: receipt.receipt_version,
            });
        }
        let canonical = receipt.to_line()?;
        if canonical.strip_suffix('\n').map(str::as_bytes) != Some(line) || !line.is_ascii() {
            return Err(ReceiptError::NotCanonical);
        }
        let known = |exit: &&Exit| exit.code() == receipt.exit_code;
        if Exit::ALL.iter().find(known).map(|exit| exit.word()) != Some(&receipt.result) {
            return Err(ReceiptError::Result);
        }
        Ok(receipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote_and_nothing_else() {
        let receipt = Receipt {
            receipt_version: 1,
            result: "partial".to_owned(),
            exit_code: 3,
            prefix: "IR-7/h-1/c-1".parse().unwrap(),
            manifest_sha256: None,
            manifest_version_id: None,
            chain_head: Digest::of(b""),
            segments: 1,
            bytes: 2,
            members: 3,
            artifacts: 4,
            incomplete: 1,
            tool_version: "0.1.0".to_owned(),
            tool_sha256: None,
            started_utc_ns: -1,
            ended_utc_ns: 1,
        };
        let line = receipt.to_line().unwrap();
        let line = line.trim_end();
        assert_eq!(Receipt::parse(line.as_bytes()).unwrap(), receipt);
        for wrong in [
            line.replace("\"partial\"", "\"complete\""),
            line.replace("\"exit_code\":3", "\"exit_code\":5"),
            line.replace("\"receipt_version\":1", "\"receipt_version\":2"),
            line.replace("0.1.0", "caf\u{e9}"),
            line.replace("\"bytes\":2", "\"bytes\": 2"),
            line.replace("\"bytes\":2", "\"bytes\":2,\"more\":2"),
            line.replace("0.1.0", &"0".repeat(MAX_BYTES)),
            format!("{line}\n"),
            line[..line.len() - 1].to_owned(),
        ] {
            assert!(Receipt::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

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
