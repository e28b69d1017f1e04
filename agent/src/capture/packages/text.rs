//! Long texts, a paragraph at a time: a database of packages is not held in memory.

use crate::capture::Sink;
use crate::host::{HostError, HostFile};

/// The loss that a record of a database is which can not be read.
pub const BROKEN: &str = "failed:package_record";

/// Counts a paragraph that is of no package, unless there is nothing in it.
pub fn nameless(paragraph: &[u8], sink: &mut Sink<'_>) {
    if !paragraph.trim_ascii().is_empty() {
        sink.loss(BROKEN);
    }
}

/// Longest paragraph that is held, in bytes: a package of apk lists its files in one.
const LONGEST: usize = 16 << 20;

/// What stands between empty lines of a file, each time as a whole.
pub struct Paragraphs {
    file: HostFile,
    held: Vec<u8>,
    /// Bytes of `held` that were handed out.
    used: usize,
    ended: bool,
}

impl Paragraphs {
    /// Those of `file`.
    pub fn of(file: HostFile) -> Self {
        Self {
            file,
            held: Vec::new(),
            used: 0,
            ended: false,
        }
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// As the kernel says; [`HostError::TooMuch`] for a paragraph that nobody wrote for a package.
    pub fn next(&mut self) -> Result<Option<&[u8]>, HostError> {
        self.held.drain(..self.used);
        self.used = 0;
        let mut from = 0;
        loop {
            let end = find(self.held.get(from..).unwrap_or_default());
            if let Some(end) = end.map(|end| from + end) {
                self.used = end + 2;
                return Ok(self.held.get(..end));
            }
            if self.ended {
                self.used = self.held.len();
                return Ok((self.used > 0).then_some(&self.held));
            }
            from = self.held.len().saturating_sub(1);
            let piece = self.file.read(Vec::new(), usize::MAX)?;
            self.ended = piece.is_empty();
            self.held.extend_from_slice(&piece);
            if self.held.len() > LONGEST {
                return Err(HostError::TooMuch);
            }
        }
    }
}

fn find(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\n\n")
}

/// Lines of `bytes`, without empty ones.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
}

/// A line cut at the first `separator`.
pub fn cut<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line
        .windows(separator.len())
        .position(|part| part == separator)?;
    Some((line.get(..at)?, line.get(at + separator.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    #[test]
    fn paragraphs_are_whole_wherever_the_reads_end() {
        let root = tempfile::tempdir().unwrap();
        let long = "x".repeat((1 << 20) - 1);
        for (text, want) in [
            (String::new(), vec![]),
            ("a\nb\n\nc\n".to_owned(), vec!["a\nb", "c\n"]),
            // The empty line lies across two reads.
            (format!("{long}\n\nend"), vec![long.as_str(), "end"]),
            ("\n\n\n\n".to_owned(), vec!["", ""]),
        ] {
            std::fs::write(root.path().join("text"), &text).unwrap();
            let host = Host::open(root.path()).unwrap();
            let mut paragraphs = Paragraphs::of(host.root().open("text").unwrap());
            let mut got = Vec::new();
            while let Some(paragraph) = paragraphs.next().unwrap() {
                got.push(String::from_utf8(paragraph.to_vec()).unwrap());
            }
            assert_eq!(got, want);
        }
    }

    #[test]
    fn a_paragraph_without_end_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("text"), vec![b'x'; LONGEST + 1]).unwrap();
        let host = Host::open(root.path()).unwrap();
        let mut paragraphs = Paragraphs::of(host.root().open("text").unwrap());
        assert_eq!(paragraphs.next(), Err(HostError::TooMuch));
    }
}
