//! From raw bytes to sealed segments: one thread captures, all allowed cores compress, one assembles in order.
//!
//! ```text
//! write -> block of 1 MiB -> worker 0..n (zstd) -> assembler (hash, segment, chain) -> segments
//! ```
//! Blocks go round the workers in turn and come back in the same turn, so order needs no bookkeeping. Every channel is
//! bounded: memory is blocks times workers plus one segment, whatever the size of the evidence.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use evidence::chain::Chain;
use evidence::digest::{Digest, Hasher};
use evidence::frame::{Packer, RAW_BYTES};
use evidence::keys::Stream;
use evidence::segment::{Builder, Segment, TARGET_BYTES};

/// Blocks that may wait at each worker.
const WAITING: usize = 1;

/// Takes sealed segments; false when it can take no more, which ends the stream.
pub type Take = Box<dyn FnMut(Segment) -> bool + Send>;

/// The stream stopped, because the store took no more segments.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store takes no more evidence")]
pub struct Stopped;

/// What a stream added up to.
pub struct StreamEnd {
    pub chain: Chain,
    pub segments: u32,
    pub stored_bytes: u64,
    pub raw_bytes: u64,
    pub raw_sha256: Digest,
    /// Whether every segment found a place.
    pub open: bool,
}

#[derive(Default)]
struct Block {
    raw: Vec<u8>,
    packed: Vec<u8>,
    /// The segment ends after this block.
    cut: bool,
}

/// The writing end of a stream.
pub struct Pack {
    block: Block,
    workers: Vec<SyncSender<Block>>,
    turn: usize,
    spare: Receiver<Block>,
    assembler: JoinHandle<StreamEnd>,
    threads: Vec<JoinHandle<()>>,
    written: u64,
}

impl Pack {
    /// Starts a stream that continues `chain`, compressed at zstd's `level` by `workers` threads.
    ///
    /// # Errors
    /// When a thread or a compressor can not be made.
    pub fn start(
        chain: Chain,
        stream: Stream,
        level: i32,
        workers: usize,
        take: Take,
    ) -> std::io::Result<Self> {
        let (give_back, spare) = channel();
        let (mut inputs, mut outputs, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..workers.max(1) {
            let (input, blocks) = sync_channel::<Block>(WAITING);
            let (packed, output) = sync_channel(WAITING);
            let packer = Packer::new(level)?;
            threads.push(
                thread::Builder::new()
                    .name("pack".to_owned())
                    .spawn(move || work(packer, &blocks, &packed))?,
            );
            inputs.push(input);
            outputs.push(output);
        }
        let assembler = Assembler {
            segment: Builder::new(&chain, stream),
            chain,
            stream,
            take,
            open: true,
        };
        let assembler = thread::Builder::new()
            .name("assemble".to_owned())
            .spawn(move || assembler.run(&outputs, &give_back))?;
        let block = Block {
            raw: Vec::with_capacity(RAW_BYTES),
            ..Block::default()
        };
        Ok(Self {
            block,
            workers: inputs,
            turn: 0,
            spare,
            assembler,
            threads,
            written: 0,
        })
    }

    /// Raw bytes written so far: the offset of the next one.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Stopped`] once the segments can go nowhere.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Stopped> {
        self.written += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = RAW_BYTES - self.block.raw.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.raw.extend_from_slice(now);
            bytes = later;
            if self.block.raw.len() == RAW_BYTES {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Ends the segment here, so that what was written so far leaves the host now.
    ///
    /// # Errors
    /// [`Stopped`] once the segments can go nowhere.
    pub fn cut(&mut self) -> Result<(), Stopped> {
        self.block.cut = true;
        self.send()
    }

    /// Sends the last block and waits for the last segment to be taken.
    ///
    /// # Errors
    /// [`Stopped`] when a thread of the stream died.
    pub fn finish(mut self) -> Result<StreamEnd, Stopped> {
        // A stream that was stopped still has its totals.
        let _ = self.cut();
        drop(self.workers);
        let end = self.assembler.join().map_err(|_| Stopped);
        self.threads
            .into_iter()
            .for_each(|thread| drop(thread.join()));
        end
    }

    fn send(&mut self) -> Result<(), Stopped> {
        let mut next = self.spare.try_recv().unwrap_or_default();
        next.raw.clear();
        next.cut = false;
        let block = std::mem::replace(&mut self.block, next);
        let worker = self.workers.get(self.turn).ok_or(Stopped)?;
        self.turn = (self.turn + 1) % self.workers.len();
        worker.send(block).map_err(|_| Stopped)
    }
}

fn work(mut packer: Packer, blocks: &Receiver<Block>, packed: &SyncSender<Block>) {
    for mut block in blocks {
        // An empty block only carries a cut.
        if !block.raw.is_empty() && packer.pack(&block.raw, &mut block.packed).is_err() {
            return;
        }
        if packed.send(block).is_err() {
            return;
        }
    }
}

struct Assembler {
    chain: Chain,
    stream: Stream,
    segment: Builder,
    take: Take,
    open: bool,
}

impl Assembler {
    fn run(mut self, outputs: &[Receiver<Block>], give_back: &Sender<Block>) -> StreamEnd {
        let mut hasher = Hasher::default();
        let mut raw_bytes = 0;
        for output in outputs.iter().cycle() {
            let Ok(mut block) = output.recv() else { break };
            hasher.update(&block.raw);
            raw_bytes += block.raw.len() as u64;
            self.segment.push(&block.packed);
            block.packed.clear();
            if self.segment.len() >= TARGET_BYTES || (block.cut && !self.segment.is_empty()) {
                self.seal();
            }
            if !self.open {
                // Hanging up tells the workers, and they the writer, to stop.
                break;
            }
            // The writer may be gone already: then nobody needs the memory.
            let _ = give_back.send(block);
        }
        let records = self
            .chain
            .records()
            .iter()
            .filter(|record| record.stream == self.stream);
        let (segments, stored_bytes) = records.fold((0, 0), |(count, sum), record| {
            (count + 1, sum + record.length)
        });
        StreamEnd {
            segments,
            stored_bytes,
            raw_bytes,
            raw_sha256: hasher.finish(),
            open: self.open,
            chain: self.chain,
        }
    }

    fn seal(&mut self) {
        let next = Builder::new(&self.chain, self.stream);
        let segment = std::mem::replace(&mut self.segment, next).seal(&mut self.chain);
        self.open = (self.take)(segment);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use evidence::frame::{Unpacker, split_skippable};

    use super::*;

    fn pack(pieces: &[&[u8]], keep: usize) -> (Result<(), Stopped>, StreamEnd, Vec<Segment>) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&taken);
        let take: Take = Box::new(move |segment| {
            let mut taken = into.lock().unwrap();
            taken.push(segment);
            taken.len() < keep
        });
        let chain = Chain::new("c/h/1".parse().unwrap());
        let mut pack = Pack::start(chain, Stream::Evidence, 1, 3, take).unwrap();
        let result = pieces.iter().try_for_each(|piece| {
            pack.write(piece)?;
            pack.cut()
        });
        let end = pack.finish().unwrap();
        let segments = std::mem::take(&mut *taken.lock().unwrap());
        (result, end, segments)
    }

    fn unpack(segments: &[Segment]) -> Vec<u8> {
        let (mut unpacker, mut raw) = (Unpacker::new().unwrap(), Vec::new());
        for segment in segments {
            let (_, frames) = split_skippable(&segment.bytes).unwrap();
            let mut at = 0;
            while at < frames.len() {
                at = unpacker.unpack(frames, at).unwrap();
                raw.extend_from_slice(unpacker.raw());
            }
        }
        raw
    }

    #[test]
    fn bytes_come_out_in_order_whatever_the_blocks_are() {
        let large: Vec<u8> = (0..5_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        let (result, end, segments) = pack(&[b"first", &large, b"", b"last"], usize::MAX);
        let want = [b"first".as_slice(), &large, b"last"].concat();
        assert_eq!(result, Ok(()));
        assert_eq!(unpack(&segments), want);
        assert_eq!(
            (end.raw_bytes, end.raw_sha256),
            (want.len() as u64, Digest::of(&want))
        );
        assert_eq!(end.segments as usize, segments.len());
        assert_eq!(
            end.stored_bytes,
            segments.iter().map(|s| s.bytes.len() as u64).sum::<u64>()
        );
    }

    #[test]
    fn a_cut_without_bytes_makes_no_segment() {
        let (_, end, segments) = pack(&[b"", b"x", b""], usize::MAX);
        assert_eq!((end.segments, segments.len()), (1, 1));
    }

    #[test]
    fn when_segments_can_go_nowhere_the_writer_stops() {
        let noise = vec![7; 3 << 20];
        let pieces: Vec<&[u8]> = vec![&noise; 50];
        let (result, end, segments) = pack(&pieces, 2);
        assert_eq!(result, Err(Stopped));
        assert_eq!((end.segments, segments.len()), (2, 2));
    }
}
