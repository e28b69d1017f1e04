//! The file while it is written: JSON, entry by entry, up to a limit.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::SymbolsError;

/// Largest file, in bytes. A distribution's kernel makes 20 to 40 MB; a hostile table of types could name the same
/// long chain for each of its members.
pub const MAX_BYTES: u64 = 256 << 20;

/// A JSON object of objects.
pub struct Output<'w> {
    out: BufWriter<Limited<'w>>,
    /// Whether the object that is open has no entry yet.
    first: bool,
}

impl<'w> Output<'w> {
    pub fn new(out: &'w mut dyn Write) -> Self {
        Self {
            out: BufWriter::new(Limited {
                out,
                written: 0,
                full: false,
            }),
            first: true,
        }
    }

    /// Opens an object, as the value of `key` when it is given.
    pub fn open(&mut self, key: Option<&str>) -> Result<(), SymbolsError> {
        if let Some(key) = key {
            self.key(key)?;
        }
        self.first = true;
        self.raw(b"{")
    }

    /// An entry of the object that is open.
    pub fn entry(&mut self, key: &str, value: &impl Serialize) -> Result<(), SymbolsError> {
        self.key(key)?;
        self.json(value)
    }

    /// Closes the object that is open.
    pub fn close(&mut self) -> Result<(), SymbolsError> {
        self.first = false;
        self.raw(b"}")
    }

    /// Writes what is still in memory; how many bytes it were in all.
    pub fn finish(mut self) -> Result<u64, SymbolsError> {
        self.raw(b"\n")?;
        let flushed = self.out.flush();
        flushed.map_err(|error| self.failed(error))?;
        Ok(self.out.get_ref().written)
    }

    fn key(&mut self, key: &str) -> Result<(), SymbolsError> {
        self.raw(if self.first { b"\n" } else { b",\n" })?;
        self.first = false;
        self.json(&key)?;
        self.raw(b":")
    }

    fn json(&mut self, value: &impl Serialize) -> Result<(), SymbolsError> {
        let written = serde_json::to_writer(&mut self.out, value);
        written.map_err(|error| self.failed(error.into()))
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), SymbolsError> {
        let written = self.out.write_all(bytes);
        written.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> SymbolsError {
        match self.out.get_ref().full {
            true => SymbolsError::TooLarge,
            false => SymbolsError::Write(error),
        }
    }
}

struct Limited<'w> {
    out: &'w mut dyn Write,
    written: u64,
    full: bool,
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.written.saturating_add(length) > MAX_BYTES {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = self.out.write(bytes)?;
        self.written += u64::try_from(written).unwrap_or(u64::MAX);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_commas_between_their_entries() {
        let mut bytes = Vec::new();
        let mut out = Output::new(&mut bytes);
        out.open(None).unwrap();
        out.entry("a", &1).unwrap();
        out.open(Some("b")).unwrap();
        out.close().unwrap();
        out.open(Some("c")).unwrap();
        out.entry("\"", &"x").unwrap();
        out.entry("d", &[1]).unwrap();
        out.close().unwrap();
        out.close().unwrap();
        let length = out.finish().unwrap();
        assert_eq!(length, bytes.len() as u64);
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"a": 1, "b": {}, "c": {"\"": "x", "d": [1]}})
        );
    }

    #[test]
    fn there_is_a_limit() {
        let mut sink = io::sink();
        let mut out = Output::new(&mut sink);
        out.open(None).unwrap();
        let megabyte = "x".repeat(1 << 20);
        let ended = (0..1000).find_map(|_| out.entry("k", &megabyte).err());
        assert!(matches!(ended, Some(SymbolsError::TooLarge)), "{ended:?}");
    }
}
