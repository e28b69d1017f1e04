//! From raw bytes to sealed segments: one thread captures, all allowed cores compress, one assembles in order.
//!
//! ```text
//! write -> block of 1 MiB -> whichever worker is free (zstd) -> assembler (order, segment, hash, chain) -> segments
//! ```
//! Blocks are numbered; the assembler holds back those that come before their turn. Both streams of a collection take this
//! one way. There are only so many blocks, and each goes back to the writer: memory is blocks times workers plus one segment
//! a stream, whatever the size of the evidence.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use evidence::chain::Chain;
use evidence::frame::{Packer, RAW_BYTES};
use evidence::keys::{MAX_SEGMENTS, Stream};
use evidence::manifest::StreamTotals;
use evidence::segment::{Builder, Segment, TARGET_BYTES};

/// Blocks for each worker: one that it packs, one that waits for it, one that waits for its turn.
const BLOCKS: usize = 3;
/// Blocks for the writer: one that it fills, and those that it is ahead with while a dense part is compressed.
const AHEAD: usize = 3;
/// Most effort for memory: the longer its capture takes, the less its pages belong together.
const MEMORY_LEVEL: i32 = 1;

/// Takes sealed segments; false when it can take no more, which ends the stream.
pub type Take = Box<dyn FnMut(Segment) -> bool + Send>;

/// How the streams are compressed and cut.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// zstd's level for evidence.
    pub level: i32,
    /// Threads that compress.
    pub workers: usize,
    /// Stored size at which a segment of memory is sealed, in bytes.
    pub memory_segment: usize,
}

/// The stream stopped, because the store took no more segments.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store takes no more evidence")]
pub struct Stopped;

/// What the streams added up to.
pub struct PackEnd {
    pub chain: Chain,
    /// Those that have segments, evidence first.
    pub streams: Vec<StreamTotals>,
    /// Whether every segment found a place.
    pub open: bool,
}

struct Block {
    /// Its turn.
    number: u64,
    stream: Stream,
    /// Memory of [`RAW_BYTES`], never cleared: that would cost as much as a copy.
    memory: Vec<u8>,
    /// Bytes of it that are written.
    length: usize,
    packed: Vec<u8>,
    /// The segment ends after this block.
    cut: bool,
}

impl Block {
    fn new(stream: Stream) -> Self {
        Self {
            number: 0,
            stream,
            memory: vec![0; RAW_BYTES],
            length: 0,
            packed: Vec::new(),
            cut: false,
        }
    }

    /// Takes as much off the front of `bytes` as there is room for.
    fn fill(&mut self, bytes: &mut &[u8]) {
        let room = self.memory.get_mut(self.length..).unwrap_or_default();
        let (now, later) = bytes.split_at(room.len().min(bytes.len()));
        if let Some(room) = room.get_mut(..now.len()) {
            room.copy_from_slice(now);
        }
        self.length += now.len();
        *bytes = later;
    }
}

/// The writing end of the streams.
pub struct Pack {
    block: Block,
    jobs: Sender<Block>,
    spare: Receiver<Block>,
    /// Blocks that were made, and how many may be.
    made: usize,
    most: usize,
    assembler: JoinHandle<PackEnd>,
    threads: Vec<JoinHandle<()>>,
    tar_bytes: u64,
}

impl Pack {
    /// Starts the streams of a collection, which continue `chain`.
    ///
    /// # Errors
    /// When a thread or a compressor can not be made.
    pub fn start(chain: Chain, shape: Shape, take: Take) -> std::io::Result<Self> {
        let (give_back, spare) = channel();
        let (jobs, waiting) = channel::<Block>();
        let (packed, outputs) = channel();
        let (waiting, mut threads) = (Arc::new(Mutex::new(waiting)), Vec::new());
        let workers = shape.workers.max(1);
        for _ in 0..workers {
            let worker = Worker::new(shape.level)?;
            let (waiting, packed) = (Arc::clone(&waiting), packed.clone());
            threads.push(
                thread::Builder::new()
                    .name("pack".to_owned())
                    .spawn(move || worker.run(&waiting, &packed))?,
            );
        }
        let assembler = Assembler {
            lanes: BTreeMap::new(),
            memory_segment: shape.memory_segment,
            chain,
            take,
            open: true,
        };
        let assembler = thread::Builder::new()
            .name("assemble".to_owned())
            .spawn(move || assembler.run(&outputs, &give_back))?;
        Ok(Self {
            block: Block::new(Stream::Evidence),
            jobs,
            spare,
            made: 1,
            most: BLOCKS * workers + AHEAD,
            assembler,
            threads,
            tar_bytes: 0,
        })
    }

    /// Raw bytes of the tar written so far: the offset of the next one.
    pub fn tar_bytes(&self) -> u64 {
        self.tar_bytes
    }

    /// Appends `bytes` to `stream`.
    ///
    /// # Errors
    /// [`Stopped`] once the segments can go nowhere.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8]) -> Result<(), Stopped> {
        self.turn_to(stream, bytes.len())?;
        while !bytes.is_empty() {
            self.block.fill(&mut bytes);
            if self.block.length == RAW_BYTES {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Appends `bytes` to `stream` without copying them, when they make a frame; the answer is memory for the next ones.
    ///
    /// # Errors
    /// [`Stopped`] once the segments can go nowhere.
    pub fn push(&mut self, stream: Stream, bytes: Vec<u8>) -> Result<Vec<u8>, Stopped> {
        if bytes.len() != RAW_BYTES {
            self.write(stream, &bytes)?;
            return Ok(bytes);
        }
        self.turn_to(stream, bytes.len())?;
        if self.block.length > 0 {
            self.send()?;
        }
        let buffer = std::mem::replace(&mut self.block.memory, bytes);
        self.block.length = RAW_BYTES;
        self.send()?;
        Ok(buffer)
    }

    /// Ends the segment of `stream` here, so that what was written so far leaves the host now.
    ///
    /// # Errors
    /// [`Stopped`] once the segments can go nowhere.
    pub fn cut(&mut self, stream: Stream) -> Result<(), Stopped> {
        self.turn_to(stream, 0)?;
        self.block.cut = true;
        self.send()
    }

    /// Sends the last blocks and waits for the last segment to be taken.
    ///
    /// # Errors
    /// [`Stopped`] when a thread of the streams died.
    pub fn finish(mut self) -> Result<PackEnd, Stopped> {
        // A stream that was stopped still has its totals.
        let _ = Stream::ALL
            .into_iter()
            .try_for_each(|stream| self.cut(stream));
        drop(self.jobs);
        let end = self.assembler.join().map_err(|_| Stopped);
        self.threads
            .into_iter()
            .for_each(|thread| drop(thread.join()));
        end
    }

    /// Makes the block one of `stream`, to which `more` bytes are coming.
    fn turn_to(&mut self, stream: Stream, more: usize) -> Result<(), Stopped> {
        if stream == Stream::Evidence {
            self.tar_bytes += more as u64;
        }
        if self.block.stream != stream {
            if self.block.length > 0 {
                self.send()?;
            }
            self.block.stream = stream;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Stopped> {
        let (stream, number) = (self.block.stream, self.block.number + 1);
        let mut next = self.spare(stream)?;
        (next.number, next.stream, next.length, next.cut) = (number, stream, 0, false);
        let block = std::mem::replace(&mut self.block, next);
        self.jobs.send(block).map_err(|_| Stopped)
    }

    /// A block that nobody needs: this is where the writer waits when it is faster than all behind it.
    fn spare(&mut self, stream: Stream) -> Result<Block, Stopped> {
        match self.spare.try_recv() {
            Ok(block) => Ok(block),
            Err(_) if self.made < self.most => {
                self.made += 1;
                Ok(Block::new(stream))
            }
            Err(_) => self.spare.recv().map_err(|_| Stopped),
        }
    }
}

/// A thread that compresses.
struct Worker {
    evidence: Packer,
    memory: Packer,
    /// The frame of a whole block of zeros: much of a machine's memory is that.
    zeros: Vec<u8>,
}

impl Worker {
    fn new(level: i32) -> std::io::Result<Self> {
        let mut memory = Packer::new(level.min(MEMORY_LEVEL))?;
        let mut zeros = Vec::new();
        memory.pack(&[0; RAW_BYTES], &mut zeros)?;
        Ok(Self {
            evidence: Packer::new(level)?,
            memory,
            zeros,
        })
    }

    /// Packs whatever waits. `None` says that a block is lost: without it nothing after it can have its turn.
    fn run(mut self, waiting: &Mutex<Receiver<Block>>, packed: &Sender<Option<Block>>) {
        let next = || waiting.lock().ok()?.recv().ok();
        while let Some(mut block) = next() {
            // An empty block only carries a cut.
            let result = catch_unwind(AssertUnwindSafe(|| match block.length {
                0 => Ok(()),
                _ => self.pack(&mut block),
            }));
            let block = matches!(result, Ok(Ok(()))).then_some(block);
            let lost = block.is_none();
            if packed.send(block).is_err() || lost {
                return;
            }
        }
    }

    fn pack(&mut self, block: &mut Block) -> std::io::Result<()> {
        if block.length == RAW_BYTES && all_zero(&block.memory) {
            block.packed.clear();
            block.packed.extend_from_slice(&self.zeros);
            return Ok(());
        }
        let packer = match block.stream {
            Stream::Evidence => &mut self.evidence,
            Stream::Memory => &mut self.memory,
        };
        let raw = block.memory.get(..block.length).unwrap_or_default();
        packer.pack(raw, &mut block.packed)
    }
}

/// Whether nothing but zeros is there.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// A stream in the assembler's hands.
#[derive(Default)]
struct Lane {
    /// Made with its first frame: a stream that rests holds no memory.
    segment: Option<Builder>,
    raw_bytes: u64,
}

struct Assembler {
    chain: Chain,
    lanes: BTreeMap<Stream, Lane>,
    memory_segment: usize,
    take: Take,
    open: bool,
}

impl Assembler {
    fn run(mut self, outputs: &Receiver<Option<Block>>, give_back: &Sender<Block>) -> PackEnd {
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for block in outputs {
            let Some(block) = block else {
                self.open = false;
                break;
            };
            early.insert(block.number, block);
            while let Some(mut block) = early.remove(&due) {
                due += 1;
                if self.open {
                    self.take_in(&block);
                }
                block.packed.clear();
                // The writer may be gone already: then nobody needs the memory.
                let _ = give_back.send(block);
            }
            if !self.open {
                // Hanging up tells the workers, and they the writer, to stop.
                break;
            }
        }
        let Self {
            chain, lanes, open, ..
        } = self;
        let streams = lanes.into_iter().map(|(stream, lane)| {
            let records = chain.records().iter().filter(|r| r.stream == stream);
            let (segments, bytes) = records.fold((0, 0), |(count, sum), record| {
                (count + 1, sum + record.length)
            });
            StreamTotals {
                stream,
                segments,
                bytes,
                raw_bytes: lane.raw_bytes,
            }
        });
        PackEnd {
            streams: streams.filter(|totals| totals.segments > 0).collect(),
            open,
            chain,
        }
    }

    fn take_in(&mut self, block: &Block) {
        let target = match block.stream {
            Stream::Evidence => TARGET_BYTES,
            Stream::Memory => self.memory_segment,
        };
        let lane = self.lanes.entry(block.stream).or_default();
        if block.length > 0 {
            lane.raw_bytes += block.length as u64;
            lane.segment
                .get_or_insert_with(|| Builder::new(&self.chain, block.stream, target))
                .push(&block.packed);
        }
        let full = |segment: &mut Builder| block.cut || segment.len() >= target;
        if let Some(segment) = lane.segment.take_if(full) {
            let segment = segment.seal(&mut self.chain);
            let room = self.chain.next_number(block.stream) < MAX_SEGMENTS;
            self.open = (self.take)(segment) && room;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use evidence::frame::{Unpacker, split_skippable};

    use super::*;

    const SHAPE: Shape = Shape {
        level: 1,
        workers: 3,
        memory_segment: 100,
    };

    fn pack(pieces: &[&[u8]], keep: usize) -> (Result<(), Stopped>, PackEnd, Vec<Segment>) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&taken);
        let take: Take = Box::new(move |segment| {
            let mut taken = into.lock().unwrap();
            taken.push(segment);
            taken.len() < keep
        });
        let chain = Chain::new("c/h/1".parse().unwrap());
        let mut pack = Pack::start(chain, SHAPE, take).unwrap();
        let result = pieces.iter().try_for_each(|piece| {
            pack.write(Stream::Evidence, piece)?;
            pack.cut(Stream::Evidence)
        });
        let end = pack.finish().unwrap();
        let segments = std::mem::take(&mut *taken.lock().unwrap());
        (result, end, segments)
    }

    /// What an assembler makes of these outputs of workers.
    fn assemble(outputs: Vec<Option<Block>>) -> (PackEnd, Vec<Segment>) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&taken);
        let assembler = Assembler {
            lanes: BTreeMap::new(),
            memory_segment: 100,
            chain: Chain::new("c/h/1".parse().unwrap()),
            take: Box::new(move |segment| {
                into.lock().unwrap().push(segment);
                true
            }),
            open: true,
        };
        let ((packed, come), (give_back, _spare)) = (channel(), channel());
        outputs
            .into_iter()
            .for_each(|output| packed.send(output).unwrap());
        drop(packed);
        let end = assembler.run(&come, &give_back);
        let segments = std::mem::take(&mut *taken.lock().unwrap());
        (end, segments)
    }

    fn packed(number: u64, content: &[u8]) -> Option<Block> {
        let mut block = Block::new(Stream::Evidence);
        block.number = number;
        block.fill(&mut &*content);
        block.cut = true;
        Worker::new(1).unwrap().pack(&mut block).unwrap();
        Some(block)
    }

    #[test]
    fn blocks_that_come_before_their_turn_wait_for_it() {
        let outputs = vec![packed(2, b"c"), packed(0, b"a"), packed(1, b"b")];
        let (end, segments) = assemble(outputs);
        assert!(end.open && segments.len() == 3);
        assert_eq!(unpack(&segments), b"abc");
    }

    #[test]
    fn a_block_that_is_lost_ends_the_streams() {
        let outputs = vec![packed(0, b"a"), None, packed(2, b"c")];
        let (end, segments) = assemble(outputs);
        assert!(
            !end.open && segments.len() == 1,
            "nothing after it has its turn"
        );
    }

    /// The content of the frames of these segments.
    pub(crate) fn unpack<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> Vec<u8> {
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
        let [totals] = end.streams.as_slice() else {
            panic!("one stream")
        };
        assert_eq!(totals.raw_bytes, want.len() as u64);
        assert_eq!(totals.segments as usize, segments.len());
        assert_eq!(
            totals.bytes,
            segments.iter().map(|s| s.bytes.len() as u64).sum::<u64>()
        );
    }

    #[test]
    fn a_cut_without_bytes_makes_no_segment() {
        let (_, end, segments) = pack(&[b"", b"x", b""], usize::MAX);
        assert_eq!((end.streams[0].segments, segments.len()), (1, 1));
        let (_, end, segments) = pack(&[b""], usize::MAX);
        assert_eq!((end.streams.len(), segments.len()), (0, 0));
    }

    #[test]
    fn when_segments_can_go_nowhere_the_writer_stops() {
        let noise = vec![7; 3 << 20];
        let pieces: Vec<&[u8]> = vec![&noise; 50];
        let (result, end, segments) = pack(&pieces, 2);
        assert_eq!(result, Err(Stopped));
        assert_eq!((end.streams[0].segments, segments.len()), (2, 2));
    }

    #[test]
    fn two_streams_share_the_workers_and_the_chain() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&taken);
        let take: Take = Box::new(move |segment| {
            into.lock().unwrap().push(segment);
            true
        });
        let chain = Chain::new("c/h/1".parse().unwrap());
        let mut pack = Pack::start(chain, SHAPE, take).unwrap();
        let whole = vec![0; 2 * RAW_BYTES];
        pack.write(Stream::Evidence, b"first").unwrap();
        pack.write(Stream::Memory, b"head").unwrap();
        let buffer = pack
            .push(Stream::Memory, whole[..RAW_BYTES].to_vec())
            .unwrap();
        assert!(buffer.capacity() >= RAW_BYTES);
        pack.push(Stream::Memory, whole[RAW_BYTES..].to_vec())
            .unwrap();
        pack.write(Stream::Evidence, b"last").unwrap();
        assert_eq!(pack.tar_bytes(), 9);
        let end = pack.finish().unwrap();
        let segments = std::mem::take(&mut *taken.lock().unwrap());
        let (memory, evidence): (Vec<_>, Vec<_>) = segments
            .into_iter()
            .partition(|segment| segment.key.starts_with("memory/"));
        assert!(memory.len() > 1, "small segments, as the shape says");
        assert_eq!(unpack(&evidence), b"firstlast");
        let want = [b"head".as_slice(), &whole].concat();
        assert!(unpack(&memory) == want);
        let sums: Vec<_> = end
            .streams
            .iter()
            .map(|t| (t.stream, t.raw_bytes))
            .collect();
        let sizes = [9, want.len() as u64];
        assert_eq!(
            sums,
            [Stream::Evidence, Stream::Memory]
                .into_iter()
                .zip(sizes)
                .collect::<Vec<_>>()
        );
        assert_eq!(
            Chain::parse(end.chain.to_text().as_bytes()).unwrap().head(),
            end.chain.head()
        );
    }

    #[test]
    fn zeros_are_told_from_all_else() {
        assert!(all_zero(&[]) && all_zero(&[0; 4096]));
        for at in 0..40 {
            let mut bytes = [0; 40];
            bytes[at] = 1;
            assert!(!all_zero(&bytes) && all_zero(&bytes[..at]), "{at}");
        }
    }
}
