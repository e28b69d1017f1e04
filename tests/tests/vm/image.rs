//! Reads an image in LiME format with means of its own, and judges it by what the guest's kernel said.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use exhibit_tests::rig::vm::plant::Planted;

/// A LiME image: ranges of physical memory, each behind a header of 32 bytes.
pub struct Image {
    file: File,
    ranges: Vec<Range>,
}

struct Range {
    first: u64,
    last: u64,
    /// Where its bytes start in the file.
    at: u64,
}

const HEADER: usize = 32;

impl Image {
    /// Reads the headers; they have to fill the file exactly.
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let length = file.metadata().unwrap().len();
        let mut ranges = Vec::new();
        let mut at = 0;
        while at < length {
            let mut header = [0; HEADER];
            file.read_exact_at(&mut header, at).unwrap();
            let number =
                |from: usize| u64::from_le_bytes(header[from..from + 8].try_into().unwrap());
            assert_eq!(&header[..8], b"EMiL\x01\0\0\0", "a header at {at:#x}");
            let (first, last) = (number(8), number(16));
            assert!(first < last, "{first:#x}-{last:#x}");
            at += HEADER as u64;
            ranges.push(Range { first, last, at });
            at += last - first + 1;
        }
        assert_eq!(at, length, "the last range is cut");
        Self { file, ranges }
    }

    /// First and last address of each piece of memory without a hole in it.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        merged(self.ranges.iter().map(|range| (range.first, range.last)))
    }

    /// The bytes at a physical address.
    pub fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let holds =
            |range: &&Range| range.first <= address && address + length as u64 - 1 <= range.last;
        let range = self.ranges.iter().find(holds);
        let range = range.unwrap_or_else(|| panic!("no range holds {address:#x}"));
        let mut bytes = vec![0; length];
        self.file
            .read_exact_at(&mut bytes, range.at + (address - range.first))
            .unwrap();
        bytes
    }

    /// Asserts that it covers the guest's memory to the last byte, and holds each planted page at its place.
    pub fn judge(&self, iomem: &str, planted: &[Planted]) {
        assert_eq!(self.ranges(), system_ram(iomem), "ranges against {iomem}");
        for page in planted {
            let found = self.read(page.physical, page.content.len());
            assert!(
                found == page.content,
                "at {:#x} stands: {}",
                page.physical,
                found[..64].escape_ascii()
            );
        }
        let (first, last) = named(iomem, "  ", "Kernel code");
        let code = self.read(first, (last - first + 1) as usize);
        let zeros = code
            .chunks(4096)
            .filter(|page| page.iter().all(|byte| *byte == 0))
            .count();
        assert!(
            zeros * 4096 < code.len() / 10,
            "{zeros} pages of the kernel's code are zeros"
        );
    }
}

/// The ranges of `/proc/iomem` that are memory: first and last address.
pub fn system_ram(iomem: &str) -> Vec<(u64, u64)> {
    let ram = iomem
        .lines()
        .filter(|line| !line.starts_with(' ') && line.ends_with(" : System RAM"));
    let ranges = merged(ram.map(range));
    assert!(!ranges.is_empty(), "no memory in {iomem}");
    ranges
}

fn named(iomem: &str, indent: &str, name: &str) -> (u64, u64) {
    let mut lines = iomem.lines().filter_map(|line| line.strip_prefix(indent));
    let line = lines.find(|line| line.ends_with(&format!(" : {name}")));
    range(line.unwrap_or_else(|| panic!("no {name} in {iomem}")))
}

fn range(line: &str) -> (u64, u64) {
    let (range, _) = line.split_once(" : ").unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let number = |text: &str| u64::from_str_radix(text.trim(), 16).unwrap();
    (number(first), number(last))
}

fn merged(ranges: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            previous => {
                assert!(
                    previous.is_none_or(|(_, end)| *end < first),
                    "ranges overlap or go back"
                );
                merged.push((first, last));
            }
        }
    }
    merged
}
