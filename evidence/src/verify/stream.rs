//! The raw bytes of a stream, as a reader: segment after segment, each checked before a byte of it is handed on.

use std::io::{self, Read};

use super::{Limits, Problem};
use crate::chain::Record;
use crate::digest::Digest;
use crate::frame::{self, Unpacker};
use crate::keys::Prefix;
use crate::manifest::StreamTotals;
use crate::objects::{Objects, read_whole};
use crate::segment;

/// What was found when a stream was read.
pub(super) struct End {
    pub(super) raw_bytes: u64,
    /// Stored bytes read so far, over all streams.
    pub(super) read: u64,
    pub(super) problems: Vec<Problem>,
    /// SHA-256 of each segment that has the length it should.
    pub(super) sha256: Vec<(String, Digest)>,
}

pub(super) struct RawStream<'a> {
    objects: &'a dyn Objects,
    prefix: &'a Prefix,
    records: std::vec::IntoIter<&'a Record>,
    limits: &'a Limits,
    stated: Option<&'a StreamTotals>,
    progress: &'a dyn Fn(u64),
    key: String,
    segment: Vec<u8>,
    next_frame: usize,
    unpacker: Option<Unpacker>,
    taken: usize,
    segments: u32,
    stored: u64,
    raw_bytes: u64,
    read: u64,
    problems: Vec<Problem>,
    sha256: Vec<(String, Digest)>,
    stopped: bool,
}

impl<'a> RawStream<'a> {
    pub(super) fn new(
        objects: &'a dyn Objects,
        prefix: &'a Prefix,
        records: Vec<&'a Record>,
        limits: &'a Limits,
        stated: Option<&'a StreamTotals>,
        progress: &'a dyn Fn(u64),
        read: u64,
    ) -> Self {
        Self {
            objects,
            prefix,
            records: records.into_iter(),
            limits,
            stated,
            progress,
            key: String::new(),
            segment: Vec::new(),
            next_frame: 0,
            unpacker: None,
            taken: 0,
            segments: 0,
            stored: 0,
            raw_bytes: 0,
            read,
            problems: Vec::new(),
            sha256: Vec::new(),
            stopped: false,
        }
    }

    /// Whether reading ended because of a problem, not because the stream did.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Reads what is left, for the checks alone.
    pub(super) fn drain(&mut self) {
        while let Ok(true) = self.load_frame() {}
    }

    /// Checks the segments that nobody read any more, then the totals.
    pub(super) fn finish(mut self) -> End {
        self.drain();
        // After a stop the content is lost, but each remaining segment still gets its verdict.
        while let Some(record) = self.records.next() {
            self.load_segment(record);
        }
        if !self.stopped && self.problems.is_empty() {
            self.compare();
        }
        End {
            raw_bytes: self.raw_bytes,
            read: self.read,
            problems: self.problems,
            sha256: self.sha256,
        }
    }

    fn compare(&mut self) {
        let Some(stated) = self.stated else { return };
        let found = [
            Problem::mismatch("segments", stated.segments, self.segments),
            Problem::mismatch("stored bytes", stated.bytes, self.stored),
            Problem::mismatch("raw bytes", stated.raw_bytes, self.raw_bytes),
        ];
        self.problems.extend(found.into_iter().flatten());
    }

    fn stop(&mut self, problem: Problem) {
        self.problems.push(problem);
        self.stopped = true;
    }

    /// Fills the next frame; false at the end of the stream or when it can not go on.
    fn load_frame(&mut self) -> io::Result<bool> {
        self.taken = 0;
        while !self.stopped && self.next_frame >= self.segment.len() {
            let Some(record) = self.records.next() else {
                return Ok(false);
            };
            if !self.load_segment(record) {
                self.stopped = true;
            }
        }
        if self.stopped {
            return Ok(false);
        }
        let unpacker = match &mut self.unpacker {
            Some(unpacker) => unpacker,
            empty => empty.insert(Unpacker::new()?),
        };
        match unpacker.unpack(&self.segment, self.next_frame) {
            Ok(next) => self.next_frame = next,
            Err(error) => {
                let problem = Problem::frame(&self.key, &error);
                self.stop(problem);
                return Ok(false);
            }
        }
        self.raw_bytes += unpacker.raw().len() as u64;
        self.check_limits();
        Ok(!self.stopped)
    }

    fn check_limits(&mut self) {
        let ratio_limit = self.stored.saturating_mul(self.limits.ratio);
        if self.raw_bytes > self.limits.raw_bytes {
            self.stop(Problem::Limit {
                what: "raw bytes",
                limit: self.limits.raw_bytes,
            });
        } else if self.raw_bytes > Limits::RATIO_FROM && self.raw_bytes > ratio_limit {
            self.stop(Problem::Limit {
                what: "raw bytes for a stored byte",
                limit: self.limits.ratio,
            });
        } else if let Some(stated) = self
            .stated
            .filter(|stated| self.raw_bytes > stated.raw_bytes)
        {
            let found = format!("more than {}", stated.raw_bytes);
            self.stop(Problem::Mismatch {
                what: "raw bytes",
                stated: stated.raw_bytes.to_string(),
                found,
            });
        }
    }

    /// Loads a segment and checks all that can be checked without its content.
    fn load_segment(&mut self, record: &Record) -> bool {
        self.key = record.key();
        self.segment.clear();
        self.next_frame = 0;
        match read_whole(self.objects, &self.key, segment::MAX_BYTES) {
            Ok(bytes) => self.segment = bytes,
            Err(error) => {
                self.problems.push(Problem::unreadable(&self.key, &error));
                return false;
            }
        }
        let length = self.segment.len() as u64;
        self.segments += 1;
        self.stored += length;
        self.read += length;
        (self.progress)(self.read);
        self.check_segment(record, length)
    }

    fn check_segment(&mut self, record: &Record, length: u64) -> bool {
        let key = || self.key.clone();
        if length != record.length {
            self.problems.push(Problem::Length {
                key: key(),
                stated: record.length,
                found: length,
            });
            return false;
        }
        let sha256 = Digest::of(&self.segment);
        self.sha256.push((key(), sha256));
        if sha256 != record.sha256 {
            let (stated, found) = (record.sha256.to_string(), sha256.to_string());
            self.problems.push(Problem::Hash {
                key: key(),
                by: "the chain",
                stated,
                found,
            });
            return false;
        }
        let link = segment::read_link(&self.segment, &self.key);
        if !link.is_some_and(|link| link.prefix == *self.prefix && link.previous == record.previous)
        {
            self.problems.push(Problem::Link { key: key() });
            return false;
        }
        self.next_frame = frame::split_skippable(&self.segment)
            .map_or(0, |(_, rest)| self.segment.len() - rest.len());
        true
    }
}

impl Read for RawStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self
                .unpacker
                .as_ref()
                .and_then(|unpacker| unpacker.raw().get(self.taken..))
                .unwrap_or_default();
            if !left.is_empty() {
                let length = left.len().min(buffer.len());
                if let (Some(room), Some(now)) = (buffer.get_mut(..length), left.get(..length)) {
                    room.copy_from_slice(now);
                }
                self.taken += length;
                return Ok(length);
            }
            if !self.load_frame()? {
                return Ok(0);
            }
        }
    }
}
