//! zstd frames (RFC 8878): the unit of compression, and of what a reader must hold in memory.

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

/// Raw bytes in a frame that the agent writes: large enough to compress well, small enough to be cheap to hold.
pub const RAW_BYTES: usize = 1 << 20;
/// Most raw bytes that a reader accepts in a frame.
pub const MAX_RAW_BYTES: u64 = 16 << 20;
/// Magic number of the skippable frame that a segment starts with (RFC 8878, 3.1.2).
const SKIPPABLE_MAGIC: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// What is wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("not a zstd frame at byte {at}")]
    Magic { at: usize },
    #[error("the frame at byte {at} is cut or damaged: {reason}")]
    Damaged { at: usize, reason: String },
    #[error("the frame at byte {at} does not declare its size")]
    NoSize { at: usize },
    #[error("the frame at byte {at} declares {size} bytes: at most {MAX_RAW_BYTES} are allowed")]
    TooLarge { at: usize, size: u64 },
}

/// Compresses blocks of raw bytes, each into one frame with its size and its checksum.
pub struct Packer(Compressor<'static>);

impl Packer {
    /// A packer at zstd's `level`.
    pub fn new(level: i32) -> std::io::Result<Self> {
        let mut compressor = Compressor::new(level)?;
        compressor.include_checksum(true)?;
        compressor.include_contentsize(true)?;
        Ok(Self(compressor))
    }

    /// Puts one whole frame with the content `raw` into `frame`, in place of what was there.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn pack(&mut self, raw: &[u8], frame: &mut Vec<u8>) -> std::io::Result<()> {
        frame.clear();
        frame.reserve(zstd_safe::compress_bound(raw.len()));
        self.0.compress_to_buffer(raw, frame).map(drop)
    }
}

/// A skippable frame with the content `text`; every zstd decoder passes over it.
pub fn skippable(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [
        &SKIPPABLE_MAGIC,
        length.to_le_bytes().as_slice(),
        text.as_bytes(),
    ]
    .concat()
}

/// The content of the skippable frame that `bytes` starts with, and what comes after it.
pub fn split_skippable(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&SKIPPABLE_MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// Reads frames, one at a time, never holding more than [`MAX_RAW_BYTES`].
pub struct Unpacker {
    decompressor: Decompressor<'static>,
    raw: Vec<u8>,
}

impl Unpacker {
    /// An unpacker.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            decompressor: Decompressor::new()?,
            raw: Vec::new(),
        })
    }

    /// Content of the frame read last.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Reads the frame that starts at byte `at` of `bytes`; the answer is where the next one starts.
    ///
    /// # Errors
    /// For anything but one whole frame with a stated size within the limit and a right checksum.
    pub fn unpack(&mut self, bytes: &[u8], at: usize) -> Result<usize, FrameError> {
        self.raw.clear();
        let (frame, size) = first_frame(bytes.get(at..).unwrap_or_default(), at)?;
        self.raw.reserve_exact(size);
        let damaged = |reason| FrameError::Damaged { at, reason };
        let got = self
            .decompressor
            .decompress_to_buffer(frame, &mut self.raw)
            .map_err(|error| damaged(error.to_string()))?;
        if got != size {
            return Err(damaged(format!("{got} bytes where {size} are declared")));
        }
        Ok(at + frame.len())
    }
}

fn first_frame(rest: &[u8], at: usize) -> Result<(&[u8], usize), FrameError> {
    if !rest.starts_with(&ZSTD_MAGIC) {
        return Err(FrameError::Magic { at });
    }
    let damaged = |code| FrameError::Damaged {
        at,
        reason: zstd_safe::get_error_name(code).to_owned(),
    };
    let length = zstd_safe::find_frame_compressed_size(rest).map_err(damaged)?;
    let size = match zstd_safe::get_frame_content_size(rest) {
        Ok(Some(size)) if size <= MAX_RAW_BYTES => usize::try_from(size).unwrap_or(usize::MAX),
        Ok(Some(size)) => return Err(FrameError::TooLarge { at, size }),
        Ok(None) => return Err(FrameError::NoSize { at }),
        Err(_) => {
            return Err(FrameError::Damaged {
                at,
                reason: "its header can not be read".to_owned(),
            });
        }
    };
    let frame = rest.get(..length).ok_or(FrameError::Damaged {
        at,
        reason: "it is cut".to_owned(),
    })?;
    Ok((frame, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(raw: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        Packer::new(3).unwrap().pack(raw, &mut frame).unwrap();
        frame
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
        let (mut unpacker, mut out, mut at) = (Unpacker::new().unwrap(), Vec::new(), 0);
        while at < bytes.len() {
            at = unpacker.unpack(bytes, at)?;
            out.extend_from_slice(unpacker.raw());
        }
        Ok(out)
    }

    #[test]
    fn frames_read_back_in_order() {
        let bytes = [packed(b"one "), packed(b""), packed(b"two")].concat();
        assert_eq!(unpacked(&bytes).unwrap(), b"one two");
    }

    #[test]
    fn damage_is_named_not_passed_over() {
        let frame = packed(&[7; 5000]);
        assert!(matches!(
            unpacked(&frame[..frame.len() - 1]),
            Err(FrameError::Damaged { at: 0, .. })
        ));
        let mut flipped = frame.clone();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        assert!(matches!(
            unpacked(&flipped),
            Err(FrameError::Damaged { .. })
        ));
        assert!(
            matches!(unpacked(&[frame.as_slice(), b"tail"].concat()), Err(FrameError::Magic { at }) if at == frame.len())
        );
        assert!(matches!(
            unpacked(&skippable("x")),
            Err(FrameError::Magic { at: 0 })
        ));
    }

    #[test]
    fn a_frame_that_could_fill_memory_is_refused_before_it_is_read() {
        let bomb = zstd::bulk::compress(&vec![0; 17 << 20], 3).unwrap();
        assert!(matches!(unpacked(&bomb), Err(FrameError::TooLarge { .. })));
        let mut unsized_frame = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        std::io::Write::write_all(&mut unsized_frame, &[0; 4096]).unwrap();
        assert!(matches!(
            unpacked(&unsized_frame.finish().unwrap()),
            Err(FrameError::NoSize { .. })
        ));
    }

    #[test]
    fn skippable_frames_split_and_cut_ones_do_not() {
        let bytes = [skippable("hello").as_slice(), b"rest"].concat();
        assert_eq!(
            split_skippable(&bytes),
            Some((b"hello".as_slice(), b"rest".as_slice()))
        );
        assert_eq!(split_skippable(&bytes[..10]), None);
    }
}
