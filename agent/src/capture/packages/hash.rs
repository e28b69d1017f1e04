//! Digests as package managers record them.

use md5::Md5;
use md5::digest::DynDigest;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::model::Algorithm;
use crate::capture::{Halt, Sink};
use crate::host::{HostError, HostFile};

impl Algorithm {
    /// A digest under way.
    pub fn start(self) -> Box<dyn DynDigest> {
        match self {
            Self::Md5 => Box::<Md5>::default(),
            Self::Sha1 => Box::<Sha1>::default(),
            Self::Sha224 => Box::<Sha224>::default(),
            Self::Sha256 => Box::<Sha256>::default(),
            Self::Sha384 => Box::<Sha384>::default(),
            Self::Sha512 => Box::<Sha512>::default(),
        }
    }
}

/// What a file turned out to be.
pub struct Content {
    /// In lower-case hexadecimal.
    pub digest: String,
    /// Bytes at its start.
    pub head: [u8; 4],
    /// Bytes that were read.
    pub size: u64,
}

impl Content {
    /// Whether a kernel would run it, or load it: ELF, or a script's first line.
    pub fn is_code(&self) -> bool {
        self.head == *b"\x7fELF" || self.head.starts_with(b"#!")
    }
}

/// The digest of all of `file`.
///
/// # Errors
/// The outer one when the artifact has to end, the inner one when the file can not be read.
pub fn content(
    mut file: HostFile,
    algorithm: Algorithm,
    sink: &Sink<'_>,
    buffer: &mut Vec<u8>,
) -> Result<Result<Content, HostError>, Halt> {
    let mut hasher = algorithm.start();
    let (mut head, mut size) = ([0; 4], 0);
    loop {
        sink.check()?;
        let piece = match file.read(std::mem::take(buffer), usize::MAX) {
            Ok(piece) => piece,
            Err(error) => return Ok(Err(error)),
        };
        if piece.is_empty() {
            break;
        }
        if size == 0 {
            for (to, from) in head.iter_mut().zip(&piece) {
                *to = *from;
            }
        }
        hasher.update(&piece);
        size += piece.len() as u64;
        *buffer = piece;
    }
    Ok(Ok(Content {
        digest: hex::encode(hasher.finalize()),
        head,
        size,
    }))
}
