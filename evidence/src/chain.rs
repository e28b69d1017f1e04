//! The chain: one record a segment, each with the hash of the one before.
//!
//! Text, so that a shell loop can check it:
//!
//! ```text
//! exhibit-chain 1 <case>/<host>/<collection>
//! <hash of the line before> <key> <length> <sha256 of the segment>
//! ```
//!
//! The first line binds the place; the hash of the last line is the *head*, which the manifest fixes.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::keys::{KeyError, Prefix, Stream};

/// Longest CHAIN that is read, in bytes: every segment of both streams, with room to spare.
pub const MAX_BYTES: u64 = 64 << 20;

/// A record of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Hash of the line before.
    pub previous: Digest,
    pub stream: Stream,
    /// Number of the segment in its stream, from 0 without gaps.
    pub number: u32,
    /// Length of the segment in bytes, as stored.
    pub length: u64,
    /// SHA-256 of the segment, as stored.
    pub sha256: Digest,
}

impl Record {
    /// Key of the segment, relative to the collection.
    pub fn key(&self) -> String {
        self.stream.segment_key(self.number)
    }

    /// Hash of the record's line: what the record after it carries, and the link of that one's segment.
    pub fn hash(&self) -> Digest {
        Digest::of(self.line().as_bytes())
    }

    fn line(&self) -> String {
        format!(
            "{} {} {} {}\n",
            self.previous,
            self.key(),
            self.length,
            self.sha256
        )
    }
}

/// What is wrong with a CHAIN.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("CHAIN is not ASCII text that ends with a newline")]
    Text,
    #[error("the first line of CHAIN is not `exhibit-chain {version} <prefix>`", version = crate::FORMAT_VERSION)]
    Head,
    #[error("the first line of CHAIN: {0}")]
    Prefix(#[from] KeyError),
    #[error("line {line} of CHAIN is not `<hash> <key> <length> <hash>`")]
    Record { line: usize },
    #[error(
        "line {line} of CHAIN does not carry the hash of the line before it: it was edited, moved or removed"
    )]
    Link { line: usize },
    #[error("line {line} of CHAIN names segment {number} where {expected} is due")]
    Number {
        line: usize,
        number: u32,
        expected: u32,
    },
}

/// All segments of a collection, in the order in which they were sealed.
#[derive(Clone, Debug)]
pub struct Chain {
    prefix: Prefix,
    head: Digest,
    records: Vec<Record>,
    /// The number that is due, of each stream that has segments.
    due: BTreeMap<Stream, u32>,
}

impl Chain {
    /// An empty chain for the collection at `prefix`.
    pub fn new(prefix: Prefix) -> Self {
        let head = Digest::of(first_line(&prefix).as_bytes());
        Self {
            prefix,
            head,
            records: Vec::new(),
            due: BTreeMap::new(),
        }
    }

    /// Where the collection lives.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Hash of the last line.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// The records, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Number that the next segment of `stream` must have.
    pub fn next_number(&self, stream: Stream) -> u32 {
        self.due.get(&stream).copied().unwrap_or_default()
    }

    /// Adds a sealed segment, which becomes number [`Chain::next_number`] of its stream.
    pub fn append(&mut self, stream: Stream, length: u64, sha256: Digest) -> Record {
        let record = Record {
            previous: self.head,
            stream,
            number: self.next_number(stream),
            length,
            sha256,
        };
        self.head = record.hash();
        self.due.insert(stream, record.number + 1);
        self.records.push(record.clone());
        record
    }

    /// The text of the CHAIN object.
    pub fn to_text(&self) -> String {
        let mut text = first_line(&self.prefix);
        self.records
            .iter()
            .for_each(|record| text.push_str(&record.line()));
        text
    }

    /// Reads a CHAIN object, checking each link.
    pub fn parse(bytes: &[u8]) -> Result<Self, ChainError> {
        let text = std::str::from_utf8(bytes)
            .ok()
            .filter(|t| t.is_ascii())
            .ok_or(ChainError::Text)?;
        let body = text.strip_suffix('\n').ok_or(ChainError::Text)?;
        let mut lines = body.split('\n');
        let head = lines.next().unwrap_or_default();
        let prefix = head
            .strip_prefix("exhibit-chain ")
            .and_then(|rest| rest.strip_prefix(&format!("{} ", crate::FORMAT_VERSION)))
            .ok_or(ChainError::Head)?;
        let mut chain = Self::new(prefix.parse()?);
        for (index, text) in lines.enumerate() {
            let line = index + 2;
            let record = parse_record(text).ok_or(ChainError::Record { line })?;
            if record.previous != chain.head {
                return Err(ChainError::Link { line });
            }
            let expected = chain.next_number(record.stream);
            if record.number != expected {
                return Err(ChainError::Number {
                    line,
                    number: record.number,
                    expected,
                });
            }
            chain.append(record.stream, record.length, record.sha256);
        }
        Ok(chain)
    }
}

fn first_line(prefix: &Prefix) -> String {
    format!("exhibit-chain {} {prefix}\n", crate::FORMAT_VERSION)
}

fn parse_record(text: &str) -> Option<Record> {
    let fields: Vec<&str> = text.split(' ').collect();
    let [previous, key, length, sha256] = fields.as_slice() else {
        return None;
    };
    let (stream, number) = Stream::of_key(key)?;
    let record = Record {
        previous: previous.parse().ok()?,
        stream,
        number,
        length: length.parse().ok()?,
        sha256: sha256.parse().ok()?,
    };
    // Only the canonical text: no `+1`, no leading zeros.
    (record.line().strip_suffix('\n') == Some(text)).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Chain {
        let mut chain = Chain::new("IR-7/h-1/c-1".parse().unwrap());
        chain.append(Stream::Evidence, 10, Digest::of(b"one"));
        chain.append(Stream::Memory, 20, Digest::of(b"two"));
        chain.append(Stream::Evidence, 30, Digest::of(b"three"));
        chain
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let chain = sample();
        let read = Chain::parse(chain.to_text().as_bytes()).unwrap();
        assert_eq!(read.records(), chain.records());
        assert_eq!(read.head(), chain.head());
        assert_eq!(read.records()[2].number, 1);
    }

    #[test]
    fn every_edit_is_noticed() {
        let text = sample().to_text();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let edits = [
            text.replace(" 10 ", " 11 "),
            text.replace("IR-7", "IR-8"),
            text.replacen(" 20 ", " +20 ", 1),
            [lines[0], lines[2], lines[3]].concat(),
            [lines[0], lines[2], lines[1], lines[3]].concat(),
            text.trim_end().to_owned(),
            text.replace('\n', "\r\n"),
            text.replace("chain 1", "chain 2"),
            String::new(),
        ];
        for edited in edits {
            assert!(Chain::parse(edited.as_bytes()).is_err(), "{edited}");
        }
    }

    #[test]
    fn a_cut_tail_changes_the_head() {
        let chain = sample();
        let text = chain.to_text();
        let kept: String = text.split_inclusive('\n').take(3).collect();
        assert_ne!(Chain::parse(kept.as_bytes()).unwrap().head(), chain.head());
    }
}
