//! The bytes of a core, one piece at a time: the head, then each run as it is read.

use evidence::digest::Hasher;
use evidence::inventory::Status;

use super::layout::Layout;
use super::region::Reason;
use crate::bundle::Piece;
use crate::host::{HostError, HostFile};

/// Bytes of a piece.
const PIECE: u64 = 1 << 20;
/// Reads of one process that may go without an answer before it is left alone: each costs its deadline.
const MOST_UNANSWERED: u32 = 3;

/// A core under way.
pub struct Stream<'p> {
    head: Vec<u8>,
    head_at: usize,
    layout: &'p mut Layout,
    memory: &'p HostFile,
    page: usize,
    region: usize,
    run: usize,
    /// How much of the run is done.
    done: u64,
    hasher: Option<Hasher>,
    unanswered: u32,
    /// Whether the region in work does not answer.
    silent: bool,
    ended: Option<Reason>,
}

impl<'p> Stream<'p> {
    /// The core with this head and layout, of the process whose memory this is.
    pub fn new(head: Vec<u8>, layout: &'p mut Layout, memory: &'p HostFile, page: u64) -> Self {
        Self {
            head,
            head_at: 0,
            layout,
            memory,
            page: usize::try_from(page).unwrap_or(4096),
            region: 0,
            run: 0,
            done: 0,
            hasher: None,
            unanswered: 0,
            silent: false,
            ended: None,
        }
    }

    /// The next piece of at most `left` bytes, in the memory of `buffer`.
    pub fn next(&mut self, left: u64, mut buffer: Vec<u8>) -> Piece {
        let most = usize::try_from(left.min(PIECE)).unwrap_or(usize::MAX);
        let head = self.head.get(self.head_at..).unwrap_or_default();
        if !head.is_empty() {
            let head = head.get(..most).unwrap_or(head);
            buffer.clear();
            buffer.extend_from_slice(head);
            self.head_at += head.len();
            return Piece::Bytes(buffer);
        }
        self.head = Vec::new();
        match self.content(most, buffer) {
            Ok(bytes) => Piece::Bytes(bytes),
            Err(reason) => {
                self.ended = Some(reason);
                Piece::Short {
                    status: match reason {
                        Reason::TimedOut => Status::TimedOut,
                        _ => Status::Shrank,
                    },
                    reason: match reason {
                        Reason::TimedOut => "its memory does not answer; the rest was given up",
                        _ => "the process ended while it was read, or runs another program",
                    }
                    .to_owned(),
                    errno: None,
                }
            }
        }
    }

    fn content(&mut self, most: usize, buffer: Vec<u8>) -> Result<Vec<u8>, Reason> {
        let run = self.layout.runs.get(self.run).cloned();
        let run = run.ok_or(Reason::Ended)?;
        self.enter();
        let start = run.start + self.done;
        let want = usize::try_from(run.end - start).map_or(most, |left| left.min(most));
        let bytes = self.read(start, want, buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        self.done += bytes.len() as u64;
        if start + bytes.len() as u64 >= run.end {
            (self.run, self.done) = (self.run + 1, 0);
        }
        Ok(bytes)
    }

    /// Goes on to the region that the run is of.
    fn enter(&mut self) {
        let is_over = |runs: &std::ops::Range<usize>| runs.end <= self.run;
        let mut over = self.region;
        while self
            .layout
            .regions
            .get(over)
            .is_some_and(|region| is_over(&region.runs))
        {
            over += 1;
        }
        if over != self.region {
            self.close();
            (self.region, self.silent) = (over, false);
        }
        self.hasher.get_or_insert_default();
    }

    /// The hash of what was stored of the region in work.
    fn close(&mut self) {
        if let (Some(hasher), Some(region)) =
            (self.hasher.take(), self.layout.regions.get_mut(self.region))
        {
            region.sha256 = Some(hasher.finish());
        }
    }

    fn read(&mut self, start: u64, want: usize, mut buffer: Vec<u8>) -> Result<Vec<u8>, Reason> {
        let Some(region) = self.layout.regions.get_mut(self.region) else {
            return Err(Reason::Ended);
        };
        let all = start..start + want as u64;
        if !self.silent {
            match self.memory.read_pages(start, want, self.page, buffer) {
                Ok((bytes, refused)) => {
                    let lost: usize = refused.iter().map(|(_, bytes, _)| bytes).sum();
                    region.stored += (want - lost) as u64;
                    for (address, bytes, errno) in refused {
                        let range = address..address + bytes as u64;
                        region.lacks(Reason::Refused(errno), range);
                    }
                    return Ok(bytes);
                }
                Err(HostError::TimedOut | HostError::Stuck) => {
                    self.unanswered += 1;
                    self.silent = true;
                    buffer = Vec::new();
                    if self.unanswered >= MOST_UNANSWERED {
                        return Err(Reason::TimedOut);
                    }
                }
                Err(_) => return Err(Reason::Ended),
            }
        }
        region.lacks(Reason::TimedOut, all);
        buffer.clear();
        buffer.resize(want, 0);
        Ok(buffer)
    }

    /// Ends it: what did not come is absent, because the process ended, or the core had to.
    pub fn end(mut self) {
        let last = self.layout.regions.get(self.region);
        if last.is_some_and(|region| region.runs.end <= self.run) {
            self.close();
        }
        let reason = self.ended.unwrap_or(Reason::Cut);
        let Layout { regions, runs } = self.layout;
        for region in regions.iter_mut().skip(self.region) {
            for number in region.runs.clone().filter(|number| *number >= self.run) {
                let Some(run) = runs.get(number) else { break };
                let done = if number == self.run { self.done } else { 0 };
                region.lacks(reason, run.start + done..run.end);
            }
        }
    }
}
