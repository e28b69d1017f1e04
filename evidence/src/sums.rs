//! SHA256SUMS: every object of a sealed collection, in the form of `sha256sum`, so that `sha256sum -c` checks it.
//!
//! ```text
//! <sha256>  <key>
//! ```
//!
//! Sorted by key. It lists the segments, CHAIN, `manifest.json` and the sealing statement; not itself, nor what is made
//! from it.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::keys::{self, Stream};

/// Name of the object that lists all others.
pub const SHA256SUMS: &str = "SHA256SUMS";
/// Name of the signature over it.
pub const SIGNATURE: &str = "SHA256SUMS.sig";
/// Name of the key that checks the signature.
pub const PUBLIC_KEY: &str = "pubkey.pem";
/// Longest SHA256SUMS that is read, in bytes: every object that a collection can have, with room to spare.
pub const MAX_BYTES: u64 = 32 << 20;

/// What is wrong with a SHA256SUMS.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SumsError {
    #[error("SHA256SUMS is not ASCII text of at least one line, each with a newline")]
    Text,
    #[error("line {line} of SHA256SUMS is not `<hash>  <key>`")]
    Line { line: usize },
    #[error("line {line} of SHA256SUMS names no object that a seal covers")]
    Key { line: usize },
    #[error("line {line} of SHA256SUMS is not in its place: each key stands there once, in order")]
    Order { line: usize },
    #[error("no seal covers an object of the key {0:?}")]
    NotCovered(String),
}

/// Whether SHA256SUMS lists an object of this key.
pub fn is_covered(key: &str) -> bool {
    Stream::of_key(key).is_some()
        || key == keys::CHAIN
        || key == keys::MANIFEST
        || key == crate::seal::STATEMENT
}

/// The objects of a collection, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<String, Digest>);

impl Sums {
    /// Adds an object, or gives it another hash.
    ///
    /// # Errors
    /// For a key that no seal covers.
    pub fn insert(&mut self, key: &str, sha256: Digest) -> Result<(), SumsError> {
        if !is_covered(key) {
            return Err(SumsError::NotCovered(key.to_owned()));
        }
        self.0.insert(key.to_owned(), sha256);
        Ok(())
    }

    /// The hash of the object with this key.
    pub fn get(&self, key: &str) -> Option<Digest> {
        self.0.get(key).copied()
    }

    /// Keys and hashes, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.0.iter().map(|(key, sha256)| (key.as_str(), *sha256))
    }

    /// The text of the object.
    pub fn to_text(&self) -> String {
        self.iter()
            .map(|(key, sha256)| format!("{sha256}  {key}\n"))
            .collect()
    }

    /// Reads a SHA256SUMS.
    ///
    /// # Errors
    /// For anything that [`Sums::to_text`] does not write, or for one without a line.
    pub fn parse(bytes: &[u8]) -> Result<Self, SumsError> {
        let body = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| text.is_ascii())
            .and_then(|text| text.strip_suffix('\n'))
            .ok_or(SumsError::Text)?;
        let mut sums = BTreeMap::new();
        for (index, text) in body.split('\n').enumerate() {
            let line = index + 1;
            let (sha256, key) = text.split_once("  ").ok_or(SumsError::Line { line })?;
            let sha256 = sha256.parse().map_err(|_| SumsError::Line { line })?;
            if !is_covered(key) {
                return Err(SumsError::Key { line });
            }
            let last = sums
                .last_key_value()
                .map(|(last, _): (&String, _)| last.as_str());
            if last.is_some_and(|last| last >= key) {
                return Err(SumsError::Order { line });
            }
            sums.insert(key.to_owned(), sha256);
        }
        Ok(Self(sums))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sums {
        let mut sums = Sums::default();
        for key in [
            "manifest.json",
            "evidence/00000.tar.zst",
            "CHAIN",
            "custody/000000.json",
        ] {
            sums.insert(key, Digest::of(key.as_bytes())).unwrap();
        }
        sums
    }

    #[test]
    fn reads_back_what_it_wrote_sorted() {
        let text = sample().to_text();
        assert_eq!(Sums::parse(text.as_bytes()).unwrap(), sample());
        let keys: Vec<&str> = text.lines().map(|line| &line[66..]).collect();
        assert_eq!(
            keys,
            [
                "CHAIN",
                "custody/000000.json",
                "evidence/00000.tar.zst",
                "manifest.json"
            ]
        );
    }

    #[test]
    fn any_other_text_is_refused() {
        let text = sample().to_text();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for wrong in [
            String::new(),
            "\n".to_owned(),
            text.trim_end().to_owned(),
            text.replace("  ", " *"),
            text.replace("  ", " "),
            text.replace("  CHAIN", "   CHAIN"),
            text.replace('\n', "\r\n"),
            text.replace("CHAIN", "../CHAIN"),
            text.replace("CHAIN", "/CHAIN"),
            text.replace("CHAIN", "SHA256SUMS"),
            text.replace("CHAIN", "CHAIN\\n"),
            text.to_uppercase(),
            format!("{}{text}", lines[0]),
            format!("{text}{}", lines[0]),
            [lines[1], lines[0], lines[2], lines[3]].concat(),
            format!("{text}\n"),
            format!("\\{text}"),
        ] {
            assert!(Sums::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(sample().insert("pubkey.pem", Digest::of(b"")).is_err());
    }
}
