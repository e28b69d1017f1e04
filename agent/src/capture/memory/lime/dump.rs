//! What is read from LiME, and judged as it comes.

use std::time::{Duration, Instant};

use evidence::lime::{Piece, Range, Walker};
use nix::errno::Errno;

use super::LimeFailure;
use super::channel::{Channel, Heard, PIECE};
use crate::capture::memory::image::{Image, RangeRecord};
use crate::capture::memory::physical::Physical;
use crate::capture::memory::zeros;
use crate::capture::{CaptureError, Halt};
use crate::host::Loading;

/// Silence after which LiME is taken to hang, as it did on old Xen hosts.
pub const SILENCE: Duration = Duration::from_secs(120);

/// A dump under way.
pub struct Dump<'d, 'a, 'b> {
    walker: Walker,
    expected: &'d [Range],
    /// A second look, to tell memory that is zero from memory that was not read.
    check: Option<Physical<'d>>,
    image: &'d mut Image<'a, 'b>,
    /// What was read and is not in the image yet; its first `judged` bytes, the start of a header, were looked at.
    buffer: Vec<u8>,
    filled: usize,
    judged: usize,
}

/// How reading ended.
pub enum End {
    /// The module closed its side.
    Closed,
    Failed(LimeFailure),
    Halted(Halt),
}

impl<'d, 'a, 'b> Dump<'d, 'a, 'b> {
    /// A dump into `image`, of which `expected` has to come.
    pub fn new(
        expected: &'d [Range],
        check: Option<Physical<'d>>,
        image: &'d mut Image<'a, 'b>,
    ) -> Self {
        Self {
            walker: Walker::default(),
            expected,
            check,
            image,
            buffer: vec![0; PIECE],
            filled: 0,
            judged: 0,
        }
    }

    /// Reads until the module has ended, or has to.
    pub fn read(&mut self, channel: &mut Channel, loading: &Loading<'_>) -> End {
        let mut end = self.read_all(channel, loading);
        if let Err(other) = self.take() {
            end = other;
        }
        end
    }

    /// The clock is asked once for a piece, not for each page that LiME writes.
    fn read_all(&mut self, channel: &mut Channel, loading: &Loading<'_>) -> End {
        let mut silent: Option<Instant> = None;
        loop {
            // Asked before reading: what it wrote until then is there to be read.
            let over = loading.is_over();
            match channel.read(self.buffer.get_mut(self.filled..).unwrap_or_default()) {
                Ok(Heard::Bytes(got)) => {
                    (self.filled, silent) = (self.filled + got, None);
                    if self.filled < PIECE {
                        continue;
                    }
                    if let Err(end) = self.take() {
                        return end;
                    }
                }
                Ok(Heard::End) => return End::Closed,
                Ok(Heard::Nothing) if over => return End::Closed,
                Ok(Heard::Nothing) if silent.is_some_and(|since| since.elapsed() >= SILENCE) => {
                    return End::Failed(LimeFailure::Silent);
                }
                Ok(Heard::Nothing) => drop(silent.get_or_insert_with(Instant::now)),
                Err(errno) => return End::Failed(LimeFailure::Read(errno)),
            }
            if let Err(halt) = self.image.sink().check() {
                return End::Halted(halt);
            }
        }
    }

    /// Looks at what was read and hands to the image what is right: whole headers, and what follows them.
    fn take(&mut self) -> Result<(), End> {
        let mut bytes = std::mem::take(&mut self.buffer);
        let result = self.judge(bytes.get(self.judged..self.filled).unwrap_or_default());
        let (right, failure) = match result {
            Ok(()) => (self.filled - self.walker.pending().len(), None),
            Err((right, end)) => (self.judged + right, Some(end)),
        };
        bytes.truncate(right);
        let written = self.image.write(bytes);
        let (mut next, halt) = match written {
            Ok(next) => (next, None),
            Err(halt) => (Vec::new(), Some(End::Halted(halt))),
        };
        let pending = self.walker.pending();
        next.resize(PIECE, 0);
        next.iter_mut()
            .zip(pending)
            .for_each(|(to, from)| *to = *from);
        (self.filled, self.judged) = (pending.len(), pending.len());
        self.buffer = next;
        failure.or(halt).map_or(Ok(()), Err)
    }

    fn judge(&mut self, bytes: &[u8]) -> Result<(), (usize, End)> {
        let mut rest = bytes;
        loop {
            let before = bytes.len() - rest.len();
            match self.walker.step(&mut rest) {
                Ok(Some(Piece::Start(range))) => {
                    let ended = self.image.start(range);
                    let judged = ended.and_then(|ended| self.judge_range(ended));
                    judged.map_err(|halt| (before, End::Halted(halt)))?;
                }
                Ok(Some(Piece::Bytes { bytes, .. })) => self.image.content(bytes),
                Ok(None) => return Ok(()),
                Err(error) => return Err((before, End::Failed(error.into()))),
            }
        }
    }

    /// Looks again at a range that ends with many zeros.
    fn judge_range(&mut self, ended: Option<RangeRecord>) -> Result<(), Halt> {
        if let Some(record) = ended
            && let Some(why) = zeros::suspicion(&record, self.check.as_ref())
        {
            self.image.sink().loss(why);
        }
        Ok(())
    }

    /// What reading, and the call that loaded the module, came to.
    ///
    /// # Errors
    /// The outer error ends the artifact; the inner one says why there is no image.
    pub fn end(
        &mut self,
        read: End,
        loaded: Result<(), Errno>,
    ) -> Result<Result<(), LimeFailure>, CaptureError> {
        let ended = self.image.end();
        ended.and_then(|ended| self.judge_range(ended))?;
        let nothing = self.walker.ranges().is_empty();
        match (read, loaded) {
            (End::Halted(halt), _) => Err(halt.into()),
            (_, Err(errno)) if nothing => Ok(Err(LimeFailure::Refused(errno))),
            (End::Failed(failure), _) => Ok(Err(failure)),
            // Somebody wrote, and it was not the module: the kernel says that it did not run.
            (End::Closed, Err(errno)) => Ok(Err(LimeFailure::Refused(errno))),
            (End::Closed, _) if nothing => Ok(Err(LimeFailure::Nothing)),
            (End::Closed, _) => {
                self.compare();
                Ok(Ok(()))
            }
        }
    }

    /// Each header against the range of `/proc/iomem` that it stands for.
    fn compare(&mut self) {
        let ranges = self.walker.ranges().to_vec();
        let missing = self.expected.iter().filter(|range| !ranges.contains(range));
        missing.for_each(|_| self.image.sink().loss("missing:range"));
        let unknown = ranges.iter().filter(|range| !self.expected.contains(range));
        unknown.for_each(|_| self.image.sink().loss("unknown:range"));
    }
}
