//! The image as it is written: its ranges, when each was read, what of it is missing, and how many zeros end it.

use std::time::{Duration, Instant};

use evidence::lime::Range;
use serde::Serialize;

use super::physical::{Hole, PAGE};
use crate::bundle::all_zero;
use crate::capture::{Halt, Sink};
use crate::host::clocks;

/// Longest time without a segment: what was read leaves the host, however well it compresses.
const CUT_EVERY: Duration = Duration::from_secs(5);
/// Most holes of a range that are listed one by one.
const MAX_HOLES: usize = 1000;

/// A range of the image, for the table `live_response/memory/ranges`.
#[derive(Debug, Serialize)]
pub struct RangeRecord {
    #[serde(flatten)]
    range: Range,
    /// Bytes of it that came: fewer when reading ended early.
    captured_bytes: u64,
    source: &'static str,
    /// When its first and its last byte were read, in nanoseconds since the epoch: the smear.
    started_utc_ns: i64,
    ended_utc_ns: i64,
    /// Zeros that end what was captured: many of them may be memory in use that was never read.
    trailing_zero_bytes: u64,
    /// Bytes that could not be read, and where; the image has zeros there.
    unreadable_bytes: u64,
    unreadable: Vec<Unreadable>,
}

#[derive(Debug, Serialize)]
struct Unreadable {
    first: String,
    bytes: u64,
}

impl RangeRecord {
    /// The range itself.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Bytes of it that came.
    pub fn captured_bytes(&self) -> u64 {
        self.captured_bytes
    }

    /// Zeros that end it, in bytes.
    pub fn trailing_zeros(&self) -> u64 {
        self.trailing_zero_bytes
    }
}

/// The image under way.
pub struct Image<'a, 'b> {
    sink: &'a mut Sink<'b>,
    source: &'static str,
    captured: u64,
    written: u64,
    open: Option<RangeRecord>,
    last_cut: Instant,
}

impl<'a, 'b> Image<'a, 'b> {
    /// An image of `expected` bytes from `source`.
    pub fn new(sink: &'a mut Sink<'b>, source: &'static str, expected: u64) -> Self {
        sink.expect(expected);
        Self {
            sink,
            source,
            captured: 0,
            written: 0,
            open: None,
            last_cut: Instant::now(),
        }
    }

    /// Where the records and the losses go.
    pub fn sink(&mut self) -> &mut Sink<'b> {
        self.sink
    }

    /// Bytes of the stream so far, headers included.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Hands bytes of the stream to it, headers included; the answer is memory for the next ones.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn write(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, Halt> {
        self.written += bytes.len() as u64;
        let buffer = self.sink.memory(bytes)?;
        if self.last_cut.elapsed() >= CUT_EVERY {
            self.sink.memory_cut()?;
            self.last_cut = Instant::now();
        }
        Ok(buffer)
    }

    /// A range starts; the one before has ended.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn start(&mut self, range: Range) -> Result<Option<RangeRecord>, Halt> {
        let ended = self.end()?;
        let now = clocks().utc_ns;
        self.open = Some(RangeRecord {
            range,
            captured_bytes: 0,
            source: self.source,
            started_utc_ns: now,
            ended_utc_ns: now,
            trailing_zero_bytes: 0,
            unreadable_bytes: 0,
            unreadable: Vec::new(),
        });
        Ok(ended)
    }

    /// These bytes of the range were read.
    pub fn content(&mut self, bytes: &[u8]) {
        let Some(record) = &mut self.open else { return };
        let zeros = trailing_zeros(bytes);
        let length = bytes.len() as u64;
        record.trailing_zero_bytes = match zeros == length {
            true => record.trailing_zero_bytes + length,
            false => zeros,
        };
        record.captured_bytes += length;
        record.ended_utc_ns = clocks().utc_ns;
        self.captured += length;
    }

    /// These bytes of the range could not be read.
    pub fn hole(&mut self, hole: Hole) {
        let Some(record) = &mut self.open else { return };
        record.unreadable_bytes += hole.bytes;
        if record.unreadable.len() < MAX_HOLES {
            record.unreadable.push(Unreadable {
                first: format!("{:#x}", hole.address),
                bytes: hole.bytes,
            });
        }
        // The kernel does not use the part of a page at the end of RAM: nobody can read it.
        let is_partial_page =
            hole.bytes < PAGE && hole.address + hole.bytes == record.range.last() + 1;
        if !is_partial_page {
            self.sink.loss("failed:unreadable_memory");
        }
    }

    /// The last range has ended, or the stream has.
    ///
    /// # Errors
    /// When the artifact has to end.
    pub fn end(&mut self) -> Result<Option<RangeRecord>, Halt> {
        let Some(record) = self.open.take() else {
            return Ok(None);
        };
        if record.captured_bytes < record.range.len() {
            self.sink.loss("truncated:range");
        }
        // Even of a run that has to end: what the stream holds must be told.
        self.sink.record_late("memory/ranges", &record)?;
        Ok(Some(record))
    }
}

/// How many zeros end `bytes`.
fn trailing_zeros(bytes: &[u8]) -> u64 {
    let mut zeros = 0;
    for page in bytes.rchunks(4096) {
        if !all_zero(page) {
            let in_page = page.iter().rev().take_while(|byte| **byte == 0).count();
            return zeros + in_page as u64;
        }
        zeros += page.len() as u64;
    }
    zeros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_end_are_counted_to_the_byte() {
        let mut bytes = vec![0; 10_000];
        assert_eq!(trailing_zeros(&bytes), 10_000);
        bytes[1234] = 1;
        assert_eq!(trailing_zeros(&bytes), 10_000 - 1235);
        bytes[9_999] = 1;
        assert_eq!(trailing_zeros(&bytes), 0);
        assert_eq!(trailing_zeros(&[]), 0);
    }
}
