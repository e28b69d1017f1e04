//! Databases are read where they lie, a few pages at a time: nothing is copied, opened for writing or locked.

use crate::host::{HostError, HostFile};

/// Something that is read at any place: a file of the host, or bytes in a test.
pub trait Bytes {
    /// Up to `want` bytes from `offset`; fewer where it ends.
    ///
    /// # Errors
    /// As the kernel says.
    fn at(&self, offset: u64, want: usize) -> Result<Vec<u8>, HostError>;

    /// Length in bytes.
    fn length(&self) -> u64;
}

impl Bytes for HostFile {
    fn at(&self, offset: u64, want: usize) -> Result<Vec<u8>, HostError> {
        self.read_at(offset, want, Vec::new())
    }

    fn length(&self) -> u64 {
        self.stat().size
    }
}

impl Bytes for &[u8] {
    fn at(&self, offset: u64, want: usize) -> Result<Vec<u8>, HostError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.get(start..).unwrap_or_default();
        Ok(rest.get(..want).unwrap_or(rest).to_vec())
    }

    fn length(&self) -> u64 {
        self.len() as u64
    }
}

/// The number in the bytes at `offset`, whose order `T` stands for; `None` past the end.
pub fn number<const N: usize, T>(bytes: &[u8], offset: usize, from: fn([u8; N]) -> T) -> Option<T> {
    let field = bytes.get(offset..offset.checked_add(N)?)?;
    Some(from(field.try_into().ok()?))
}
