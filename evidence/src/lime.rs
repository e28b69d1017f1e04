//! LiME's format, version 1: ranges of physical memory, each behind a header of 32 bytes.
//!
//! ```text
//! u32 magic 0x4C694D45 | u32 version 1 | u64 first address | u64 last address | 8 zero bytes    (little-endian)
//! last - first + 1 bytes
//! ```
//! As LiME's own module writes it (`src/lime.h`: `lime_mem_range_header`) and Volatility 3 reads it. There is no length
//! and no checksum: that a stream was cut shows only by arithmetic.

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 32;
/// Most ranges that are read. Machines have tens; a source that leaves out empty blocks makes thousands.
pub const MAX_RANGES: usize = 1 << 20;
/// Addresses are below this: today's processors have up to 52 bits of physical address.
pub const MAX_ADDRESS: u64 = 1 << 56;

const MAGIC: [u8; 4] = *b"EMiL";
const VERSION: u32 = 1;

/// A range of physical addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: u64,
    last: u64,
}

impl Range {
    /// The range from `first` to `last`; `None` when it would be empty or beyond [`MAX_ADDRESS`].
    pub fn new(first: u64, last: u64) -> Option<Self> {
        (first <= last && last < MAX_ADDRESS).then_some(Self { first, last })
    }

    /// The first address.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The last address, which belongs to it.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The number of its bytes: never 0.
    #[expect(clippy::len_without_is_empty, reason = "no range is empty")]
    pub fn len(&self) -> u64 {
        self.last - self.first + 1
    }

    /// The header that stands before its bytes.
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let fields = [
            MAGIC.as_slice(),
            &VERSION.to_le_bytes(),
            &self.first.to_le_bytes(),
            &self.last.to_le_bytes(),
        ];
        let bytes = fields.iter().copied().flatten();
        header
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        header
    }

    fn parse(header: &[u8], at: u64) -> Result<Self, LimeError> {
        let (magic, rest) = header
            .split_first_chunk()
            .ok_or(LimeError::CutHeader { at })?;
        let (version, rest) = rest
            .split_first_chunk()
            .ok_or(LimeError::CutHeader { at })?;
        let (first, rest) = rest
            .split_first_chunk()
            .ok_or(LimeError::CutHeader { at })?;
        let (last, reserved) = rest
            .split_first_chunk()
            .ok_or(LimeError::CutHeader { at })?;
        if *magic != MAGIC {
            return Err(LimeError::Magic { at });
        }
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(LimeError::Version { at, version });
        }
        if reserved.iter().any(|byte| *byte != 0) {
            return Err(LimeError::Reserved { at });
        }
        let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        Self::new(first, last).ok_or(LimeError::Addresses { at, first, last })
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}-{:#x}", self.first, self.last)
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Range", 3)?;
        fields.serialize_field("first", &format!("{:#x}", self.first))?;
        fields.serialize_field("last", &format!("{:#x}", self.last))?;
        fields.serialize_field("bytes", &self.len())?;
        fields.end()
    }
}

/// Why bytes are not ranges in LiME's format. `at` is the place of the header in the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimeError {
    #[error("there is no LiME header at byte {at}")]
    Magic { at: u64 },
    #[error("the LiME header at byte {at} has version {version}; known is {VERSION}")]
    Version { at: u64, version: u32 },
    #[error("the reserved bytes of the LiME header at byte {at} are not zero")]
    Reserved { at: u64 },
    #[error(
        "the LiME header at byte {at} has the addresses {first:#x} to {last:#x}, which are no range"
    )]
    Addresses { at: u64, first: u64, last: u64 },
    #[error(
        "the LiME range {range} at byte {at} does not lie behind {before}: ranges must ascend and not overlap"
    )]
    Order {
        at: u64,
        range: Range,
        before: Range,
    },
    #[error("there are more than {MAX_RANGES} LiME ranges")]
    TooMany,
    #[error("the stream ends within the LiME header at byte {at}")]
    CutHeader { at: u64 },
    #[error("the stream ends {missing} bytes before the end of the LiME range {range}")]
    CutRange { range: Range, missing: u64 },
}

impl LimeError {
    /// Whether the stream is right as far as it goes, and then ends too early.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::CutHeader { .. } | Self::CutRange { .. })
    }
}

/// A piece of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A range starts.
    Start(Range),
    /// Bytes of the range, from this address on.
    Bytes { address: u64, bytes: &'a [u8] },
}

/// Follows a stream of ranges that comes in pieces of any size.
#[derive(Debug, Default)]
pub struct Walker {
    header: Vec<u8>,
    ranges: Vec<Range>,
    /// Bytes that the last range still lacks.
    left: u64,
    at: u64,
}

impl Walker {
    /// The ranges that have started so far.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The start of a header of which the rest is yet to come.
    pub fn pending(&self) -> &[u8] {
        &self.header
    }

    /// Takes what it understands off the front of `bytes`; `None` when it needs more.
    ///
    /// # Errors
    /// At the first header that is wrong; what came before it is right.
    pub fn step<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, LimeError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if let (true, Some(range)) = (self.left > 0, self.ranges.last()) {
            let address = range.last + 1 - self.left;
            let (now, later) = split(bytes, usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= now.len() as u64;
            self.at += now.len() as u64;
            *bytes = later;
            return Ok(Some(Piece::Bytes {
                address,
                bytes: now,
            }));
        }
        let (now, later) = split(bytes, HEADER_BYTES - self.header.len());
        self.header.extend_from_slice(now);
        *bytes = later;
        if self.header.len() < HEADER_BYTES {
            return Ok(None);
        }
        let range = Range::parse(&self.header, self.at)?;
        if let Some(before) = self
            .ranges
            .last()
            .filter(|before| before.last >= range.first)
        {
            let (at, before) = (self.at, *before);
            return Err(LimeError::Order { at, range, before });
        }
        if self.ranges.len() == MAX_RANGES {
            return Err(LimeError::TooMany);
        }
        self.header.clear();
        self.at += HEADER_BYTES as u64;
        self.left = range.len();
        self.ranges.push(range);
        Ok(Some(Piece::Start(range)))
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// When it ends within a range or a header.
    pub fn finish(self) -> Result<Vec<Range>, LimeError> {
        match self.ranges.last() {
            _ if !self.header.is_empty() => Err(LimeError::CutHeader { at: self.at }),
            Some(range) if self.left > 0 => Err(LimeError::CutRange {
                range: *range,
                missing: self.left,
            }),
            _ => Ok(self.ranges),
        }
    }
}

fn split(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    bytes.split_at(at.min(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> Range {
        Range::new(first, last).unwrap()
    }

    fn image(ranges: &[(u64, u64)]) -> Vec<u8> {
        let bytes = |(first, last): &(u64, u64)| {
            let content = (*first..=*last).map(|address| address as u8);
            let header = range(*first, *last).header().to_vec();
            header.into_iter().chain(content).collect::<Vec<u8>>()
        };
        ranges.iter().flat_map(bytes).collect()
    }

    fn walk(stream: &[u8], piece: usize) -> Result<(Vec<Range>, u64), LimeError> {
        let (mut walker, mut sum) = (Walker::default(), 0);
        for mut bytes in stream.chunks(piece) {
            while let Some(piece) = walker.step(&mut bytes)? {
                if let Piece::Bytes { address, bytes } = piece {
                    assert_eq!(bytes[0], address as u8);
                    sum += bytes.len() as u64;
                }
            }
        }
        Ok((walker.finish()?, sum))
    }

    #[test]
    fn ranges_are_found_however_the_stream_is_cut_into_pieces() {
        let stream = image(&[(0x10, 0x9f), (0xa0, 0xa0), (0x1000, 0x1fff)]);
        for piece in [1, 7, 32, 33, 4096, usize::MAX >> 1] {
            let (ranges, sum) = walk(&stream, piece).unwrap();
            let want = [range(0x10, 0x9f), range(0xa0, 0xa0), range(0x1000, 0x1fff)];
            assert_eq!(ranges, want);
            assert_eq!(sum, 0x90 + 1 + 0x1000);
        }
    }

    #[test]
    fn cut_streams_are_told_from_whole_ones() {
        let stream = image(&[(0x10, 0x1f)]);
        for (length, missing) in [(20, None), (32, Some(16)), (47, Some(1))] {
            let error = walk(&stream[..length], 5).unwrap_err();
            assert!(error.is_cut(), "{error}");
            let found = match error {
                LimeError::CutRange { missing, .. } => Some(missing),
                _ => None,
            };
            assert_eq!(found, missing);
        }
        assert_eq!(walk(&[], 5), Ok((Vec::new(), 0)));
    }

    #[test]
    fn hostile_headers_are_refused_with_their_place() {
        let whole = image(&[(0x10, 0x1f), (0x30, 0x3f)]);
        let edit = |at: usize, byte: u8| {
            let mut stream = whole.clone();
            stream[at] = byte;
            walk(&stream, 48).unwrap_err()
        };
        assert_eq!(edit(48, b'X'), LimeError::Magic { at: 48 });
        assert_eq!(edit(52, 2), LimeError::Version { at: 48, version: 2 });
        assert_eq!(edit(48 + 31, 1), LimeError::Reserved { at: 48 });
        assert!(matches!(
            edit(48 + 8, 0x40),
            LimeError::Addresses { at: 48, .. }
        ));
        assert!(matches!(
            edit(48 + 8, 0x1f),
            LimeError::Order { at: 48, .. }
        ));
        assert!(matches!(
            edit(48 + 16 + 7, 0x80),
            LimeError::Addresses { .. }
        ));
        assert!(Range::new(0, MAX_ADDRESS).is_none());
    }
}
