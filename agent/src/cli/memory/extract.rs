//! `memory extract`: an image out of a collection, for tools that read files.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use evidence::digest::Hasher;
use evidence::lime::{Piece, Range};
use evidence::verify::Tap;
use evidence::{Digest, Exit};
use indicatif::HumanBytes;

use super::image::{Image, NewFile, unaltered};
use crate::cli::store::S3Arguments;
use crate::cli::verify::verified;
use crate::cli::{Failure, print};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The collection: a directory, or s3://bucket/prefix/<case>/<host>/<collection>
    collection: String,
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Format of the file
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only these physical addresses, both included, such as 0x100000-0x1fffff
    #[arg(long, value_name = "FIRST-LAST", value_parser = addresses)]
    range: Option<Range>,
    #[command(flatten)]
    s3: S3Arguments,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// LiME's ranges, which Volatility 3 reads
    #[default]
    Lime,
    /// Each byte at the offset of its physical address; holes are sparse
    Padded,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let objects = Image::collection(&arguments.collection, &arguments.s3)?;
    let (new, file) = NewFile::create(&arguments.to)?;
    let mut output = Output::new(file, arguments.format, arguments.range);
    let verified = verified(&arguments.collection, &*objects, &mut output);
    let written = verified.and_then(|report| {
        let (bytes, sha256) = output.finish().map_err(|error| new.unwritable(error))?;
        Ok((report, bytes, sha256))
    });
    let (report, bytes, sha256) = written.map_err(|failure| new.discard(failure))?;
    let left = format!(
        "the collection is altered; what could be read is in {}",
        new.part().display()
    );
    unaltered(&report, left)?;
    if bytes == 0 {
        let message = format!("{} has no memory there", arguments.collection);
        return Err(new.discard(Failure::new(Exit::NotACollection, message)));
    }
    new.keep()?;
    print(&format!(
        "{}  {} ({})\n",
        sha256.map_or_else(|| "-".repeat(64), |sha256| sha256.to_string()),
        arguments.to.display(),
        HumanBytes(bytes)
    ))?;
    Ok(report.verdict.exit())
}

fn addresses(text: &str) -> Result<Range, String> {
    let wrong = "want FIRST-LAST, such as 0x100000-0x1fffff";
    let address = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).map_err(|_| wrong),
        None => text.parse().map_err(|_| wrong),
    };
    let (first, last) = text.split_once('-').ok_or(wrong)?;
    Range::new(address(first)?, address(last)?).ok_or_else(|| wrong.to_owned())
}

/// Writes what a verification hands it.
struct Output {
    file: BufWriter<File>,
    format: Format,
    only: Option<Range>,
    /// Where the header of the range that is being written stands, its first address, and its bytes so far.
    open: Option<(u64, Range, u64)>,
    at: u64,
    bytes: u64,
    /// Of a file that is written from its start to its end.
    hasher: Option<Hasher>,
    error: Option<io::Error>,
}

impl Output {
    fn new(file: File, format: Format, only: Option<Range>) -> Self {
        Self {
            file: BufWriter::with_capacity(1 << 20, file),
            format,
            only,
            open: None,
            at: 0,
            bytes: 0,
            hasher: (format == Format::Lime).then(Hasher::default),
            error: None,
        }
    }

    fn take(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        match (piece, self.format) {
            (Piece::Start(range), Format::Lime) => match self.clip(*range) {
                Some(range) => self.start(range),
                None => Ok(()),
            },
            (Piece::Start(_), Format::Padded) => Ok(()),
            (Piece::Bytes { address, bytes }, format) => {
                let Some((address, bytes)) = self.clip_bytes(*address, bytes) else {
                    return Ok(());
                };
                if format == Format::Padded {
                    self.file.seek(SeekFrom::Start(address))?;
                }
                if let Some((_, _, came)) = &mut self.open {
                    *came += bytes.len() as u64;
                }
                self.bytes += bytes.len() as u64;
                self.write(bytes)
            }
        }
    }

    fn start(&mut self, range: Range) -> io::Result<()> {
        self.open = Some((self.at, range, 0));
        self.write(&range.header())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn clip(&self, range: Range) -> Option<Range> {
        match self.only {
            Some(only) => Range::new(
                range.first().max(only.first()),
                range.last().min(only.last()),
            ),
            None => Some(range),
        }
    }

    fn clip_bytes<'b>(&self, address: u64, bytes: &'b [u8]) -> Option<(u64, &'b [u8])> {
        let last = (address + bytes.len() as u64).checked_sub(1)?;
        let range = self.clip(Range::new(address, last)?)?;
        let from = usize::try_from(range.first() - address).ok()?;
        let length = usize::try_from(range.len()).ok()?;
        Some((range.first(), bytes.get(from..from + length)?))
    }

    /// Ends the file: bytes of memory in it, and its SHA-256 where that is known.
    fn finish(mut self) -> io::Result<(u64, Option<Digest>)> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        // Memory that was cut ends within a range: readers want a header that says where.
        if let Some((at, range, came)) = self.open.filter(|(_, range, came)| *came < range.len()) {
            self.hasher = None;
            self.file.seek(SeekFrom::Start(at))?;
            match came
                .checked_sub(1)
                .and_then(|last| Range::new(range.first(), range.first() + last))
            {
                Some(shorter) => self.file.write_all(&shorter.header())?,
                None => {
                    self.file.flush()?;
                    self.file.get_ref().set_len(at)?;
                }
            }
        }
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok((self.bytes, self.hasher.map(Hasher::finish)))
    }
}

impl Tap for Output {
    fn memory(&mut self, piece: &Piece<'_>) {
        if self.error.is_none() {
            self.error = self.take(piece).err();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn write(format: Format, only: Option<&str>, cut: usize) -> (Vec<u8>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let only = only.map(|text| addresses(text).unwrap());
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        let mut read_back = file.try_clone().unwrap();
        let mut output = Output::new(file, format, only);
        for (first, content) in [(0x1000, [1; 64]), (0x2000, [2; 64])] {
            output.memory(&Piece::Start(Range::new(first, first + 63).unwrap()));
            let bytes = if first == 0x2000 {
                &content[..cut]
            } else {
                &content
            };
            for (index, bytes) in bytes.chunks(40).enumerate() {
                let address = first + index as u64 * 40;
                output.memory(&Piece::Bytes { address, bytes });
            }
        }
        let (bytes, _) = output.finish().unwrap();
        let mut image = Vec::new();
        read_back.rewind().unwrap();
        read_back.read_to_end(&mut image).unwrap();
        (image, bytes)
    }

    fn header(first: u64, last: u64) -> [u8; 32] {
        Range::new(first, last).unwrap().header()
    }

    #[test]
    fn images_are_written_whole_or_in_part() {
        let whole = [
            &header(0x1000, 0x103f),
            [1; 64].as_slice(),
            &header(0x2000, 0x203f),
            &[2; 64],
        ]
        .concat();
        assert_eq!(write(Format::Lime, None, 64), (whole, 128));
        let part = [
            &header(0x103e, 0x103f),
            [1; 2].as_slice(),
            &header(0x2000, 0x2000),
            &[2],
        ]
        .concat();
        assert_eq!(write(Format::Lime, Some("0x103e-0x2000"), 64), (part, 3));
        let (padded, bytes) = write(Format::Padded, None, 64);
        assert_eq!((padded.len(), bytes), (0x2040, 128));
        assert!(
            padded[..0x1000].iter().all(|b| *b == 0) && padded[0x1000] == 1 && padded[0x203f] == 2
        );
    }

    #[test]
    fn an_image_that_was_cut_gets_a_header_that_fits() {
        let cut = [
            &header(0x1000, 0x103f),
            [1; 64].as_slice(),
            &header(0x2000, 0x2009),
            &[2; 10],
        ]
        .concat();
        assert_eq!(write(Format::Lime, None, 10), (cut, 74));
        let first = [&header(0x1000, 0x103f), [1; 64].as_slice()].concat();
        assert_eq!(write(Format::Lime, None, 0), (first, 64));
    }

    #[test]
    fn ranges_have_two_addresses() {
        assert_eq!(addresses("0x10-31"), Ok(Range::new(16, 31).unwrap()));
        for wrong in ["", "5", "9-5", "x-y", "0-99999999999999999999"] {
            assert!(addresses(wrong).is_err(), "{wrong}");
        }
    }
}
