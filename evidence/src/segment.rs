//! Segments: what is stored. One skippable frame that binds the place and all that came before, then whole zstd frames.
//!
//! The link stands inside the segment, so a run that was cut before CHAIN was written still proves the order and the
//! completeness of its prefix, in a directory as in S3 (`docs/decisions/0003-link-frame.md`).

use crate::chain::Chain;
use crate::digest::{Digest, Hasher};
use crate::frame;
use crate::keys::{Prefix, Stream};

/// Stored size at which a segment is sealed, in bytes.
pub const TARGET_BYTES: usize = 8 << 20;
/// Most segments that a memory image should make.
const MEMORY_SEGMENTS: u64 = 1 << 14;
/// Room for the frame that makes a segment full.
const FRAME_ROOM: usize = frame::RAW_BYTES + (frame::RAW_BYTES >> 4);
/// Longest segment that is read, in bytes.
pub const MAX_BYTES: u64 = 256 << 20;
/// Most segments of a stream that may be under way to the store: number n + 4 waits until number n is stored.
pub const MAX_UNDER_WAY: u32 = 4;

/// Stored size at which a segment of the memory of a host with `ram` bytes is sealed: the image of a large host makes
/// larger segments, not more of them, and a segment always leaves room for its last frame below [`MAX_BYTES`].
pub fn target_bytes(ram: u64) -> usize {
    let largest = usize::try_from(MAX_BYTES).unwrap_or(usize::MAX) - 2 * FRAME_ROOM;
    usize::try_from(ram / MEMORY_SEGMENTS)
        .unwrap_or(usize::MAX)
        .clamp(TARGET_BYTES, largest)
}

/// The text of the link that a segment starts with: its place, and the chain's head before it.
pub fn link(chain: &Chain, stream: Stream) -> String {
    let key = stream.segment_key(chain.next_number(stream));
    format!(
        "exhibit-segment {} {}/{key} {}\n",
        crate::FORMAT_VERSION,
        chain.prefix(),
        chain.head()
    )
}

/// The link that a segment starts with, read back.
#[derive(Debug)]
pub struct Link {
    /// Where the collection lives.
    pub prefix: Prefix,
    /// The chain's head before this segment.
    pub previous: Digest,
}

/// The link of the segment that is stored under `key`, if it is well-formed and names that key.
pub fn read_link(bytes: &[u8], key: &str) -> Option<Link> {
    let (text, _) = frame::split_skippable(bytes)?;
    let text = std::str::from_utf8(text).ok()?;
    let rest = text.strip_prefix(&format!("exhibit-segment {} ", crate::FORMAT_VERSION))?;
    let (place, previous) = rest.strip_suffix('\n')?.split_once(' ')?;
    let prefix = place.strip_suffix(key)?.strip_suffix('/')?;
    Some(Link {
        prefix: prefix.parse().ok()?,
        previous: previous.parse().ok()?,
    })
}

/// A segment under construction, hashed as it grows. Its link is settled last, because another stream may be sealed in
/// between: only then is all of it hashed again.
#[derive(Debug)]
pub struct Builder {
    stream: Stream,
    bytes: Vec<u8>,
    link_length: usize,
    hasher: Hasher,
}

/// A sealed segment: immutable from here on.
#[derive(Debug)]
pub struct Segment {
    /// Key relative to the collection.
    pub key: String,
    pub bytes: Vec<u8>,
    pub sha256: Digest,
}

impl Builder {
    /// The next segment of `stream` in the collection of `chain`, which is sealed at `target` bytes.
    pub fn new(chain: &Chain, stream: Stream, target: usize) -> Self {
        // The link has the same length whatever the number and the hash are: room is left for it.
        let link = frame::skippable(&link(chain, stream));
        // With the frame that makes it full: the buffer never grows.
        let mut bytes = Vec::with_capacity(link.len() + target + FRAME_ROOM);
        bytes.extend_from_slice(&link);
        let mut hasher = Hasher::default();
        hasher.update(&link);
        Self {
            stream,
            link_length: bytes.len(),
            bytes,
            hasher,
        }
    }

    /// Appends one whole frame.
    pub fn push(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.hasher.update(frame);
    }

    /// Bytes so far, the link included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no frame was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.link_length
    }

    /// Fixes the segment's link and hash and enters it in the chain.
    pub fn seal(mut self, chain: &mut Chain) -> Segment {
        let link = frame::skippable(&link(chain, self.stream));
        let sha256 = match self.bytes.starts_with(&link) {
            true => self.hasher.finish(),
            false => {
                self.bytes.splice(..self.link_length, link);
                Digest::of(&self.bytes)
            }
        };
        let length = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        let key = chain.append(self.stream, length, sha256).key();
        Segment {
            key,
            bytes: self.bytes,
            sha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_segment_names_its_place_and_the_head_before_it() {
        let mut chain = Chain::new("IR-7/h-1/c-1".parse().unwrap());
        let before = chain.head();
        let of = |chain: &Chain, stream| {
            let mut builder = Builder::new(chain, stream, TARGET_BYTES);
            builder.push(&frame::skippable("content"));
            builder
        };
        let evidence = of(&chain, Stream::Evidence);
        let memory = of(&chain, Stream::Memory).seal(&mut chain);
        let sealed = evidence.seal(&mut chain);
        let text = |segment: &Segment| {
            let (link, rest) = frame::split_skippable(&segment.bytes).unwrap();
            assert_eq!(rest, frame::skippable("content"));
            String::from_utf8(link.to_vec()).unwrap()
        };
        assert_eq!(
            text(&memory),
            format!("exhibit-segment 1 IR-7/h-1/c-1/memory/00000.lime.zst {before}\n")
        );
        let between = chain.records()[1].previous;
        assert_eq!(
            text(&sealed),
            format!("exhibit-segment 1 IR-7/h-1/c-1/evidence/00000.tar.zst {between}\n")
        );
        assert_eq!(chain.records()[0].sha256, Digest::of(&memory.bytes));
        assert_eq!(chain.records()[1].sha256, Digest::of(&sealed.bytes));
    }

    #[test]
    fn segments_of_memory_grow_with_it_up_to_what_is_read() {
        let mib = |ram| target_bytes(ram) >> 20;
        assert_eq!((mib(1 << 30), mib(1 << 37), mib(1 << 40)), (8, 8, 64));
        assert!(target_bytes(u64::MAX) + FRAME_ROOM < MAX_BYTES as usize);
    }
}
