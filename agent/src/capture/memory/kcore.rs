//! `/proc/kcore`: the running kernel's memory as an ELF core file (fs/proc/kcore.c).
//!
//! Each part of RAM is a segment whose `p_paddr` is its physical address. Other segments (vmalloc, modules, vmemmap) have
//! none, and the kernel's text is mapped a second time, as a small segment over RAM that the direct map has too.

use std::ops::Range;

/// Bytes from the start of the file that hold all headers and notes.
pub const HEAD_BYTES: usize = 1 << 20;
/// Most segments that are looked at: one for each part of memory, some tens even on large machines.
const MAX_SEGMENTS: usize = 16_384;
const PROGRAM_HEADER_BYTES: usize = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `p_paddr` of what is not RAM.
const NO_ADDRESS: u64 = u64::MAX;

/// Why `/proc/kcore` can not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KcoreError {
    #[error("it is not a 64-bit little-endian ELF core file")]
    NotCore,
    #[error("its program headers lie beyond what was read")]
    Headers,
    #[error("no segment of it has a physical address; kernels before 4.12 do not state them")]
    NoAddresses,
}

/// A part of RAM in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    physical: Range<u64>,
    offset: u64,
}

/// Where physical memory stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The largest first: the direct map before the second mapping of the kernel's text.
    segments: Vec<Segment>,
    notes: Option<Range<usize>>,
}

impl Layout {
    /// Reads the headers at the start of the file.
    ///
    /// # Errors
    /// When this is no core file of a kernel, or has no physical addresses.
    pub fn parse(head: &[u8]) -> Result<Self, KcoreError> {
        let mut layout = Self {
            segments: Vec::new(),
            notes: None,
        };
        for header in program_headers(head)? {
            let header = ProgramHeader::parse(header).ok_or(KcoreError::Headers)?;
            match header.kind {
                PT_LOAD => layout.segments.extend(header.ram()),
                PT_NOTE => layout.notes = header.in_file(),
                _ => {}
            }
        }
        // Old kernels state address 0 for all of them.
        let mut starts = layout.segments.iter().map(|s| s.physical.start);
        let first = starts.next().ok_or(KcoreError::NoAddresses)?;
        if first == 0 && layout.segments.len() > 1 && starts.all(|start| start == 0) {
            return Err(KcoreError::NoAddresses);
        }
        layout
            .segments
            .sort_by_key(|s| std::cmp::Reverse(s.physical.end - s.physical.start));
        Ok(layout)
    }

    /// Where in the file the byte at physical `address` stands, and how many follow it there.
    pub fn locate(&self, address: u64) -> Option<(u64, u64)> {
        let segment = self
            .segments
            .iter()
            .find(|s| s.physical.contains(&address))?;
        let within = address - segment.physical.start;
        Some((
            segment.offset.checked_add(within)?,
            segment.physical.end - address,
        ))
    }

    /// The ranges of RAM that it shows, ascending; what stands in it twice is there once.
    pub fn ram(&self) -> Vec<evidence::lime::Range> {
        let mut parts: Vec<_> = self.segments.iter().map(|s| s.physical.clone()).collect();
        parts.sort_by_key(|part| (part.start, part.end));
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for part in parts {
            match ranges.last_mut().filter(|last| part.start <= last.end) {
                Some(last) => last.end = last.end.max(part.end),
                None => ranges.push(part),
            }
        }
        let whole = ranges.into_iter();
        whole
            .filter_map(|part| evidence::lime::Range::new(part.start, part.end - 1))
            .collect()
    }

    /// The text of the note `VMCOREINFO`, which the crash utilities read (kernel/vmcore_info.c).
    pub fn vmcoreinfo<'a>(&self, head: &'a [u8]) -> Option<&'a [u8]> {
        let mut notes = notes(head.get(self.notes.clone()?)?);
        notes
            .find(|note| note.name == b"VMCOREINFO\0")
            .map(|note| note.content)
    }
}

struct ProgramHeader {
    kind: u32,
    offset: u64,
    physical: u64,
    size: u64,
}

impl ProgramHeader {
    fn parse(header: &[u8]) -> Option<Self> {
        Some(Self {
            kind: u32::from_le_bytes(field(header, 0)?),
            offset: u64::from_le_bytes(field(header, 8)?),
            physical: u64::from_le_bytes(field(header, 24)?),
            size: u64::from_le_bytes(field(header, 32)?),
        })
    }

    fn ram(&self) -> Option<Segment> {
        let end = self.physical.checked_add(self.size)?;
        let fits = i64::try_from(self.offset.checked_add(self.size)?).is_ok();
        (self.physical != NO_ADDRESS && self.size > 0 && fits).then_some(Segment {
            physical: self.physical..end,
            offset: self.offset,
        })
    }

    fn in_file(&self) -> Option<Range<usize>> {
        let start = usize::try_from(self.offset).ok()?;
        Some(start..start.checked_add(usize::try_from(self.size).ok()?)?)
    }
}

fn program_headers(head: &[u8]) -> Result<impl Iterator<Item = &[u8]>, KcoreError> {
    // 64 bits, little-endian, version 1; a core file.
    let is_core = head.starts_with(b"\x7fELF\x02\x01\x01")
        && field(head, 16).map(u16::from_le_bytes) == Some(4)
        && field(head, 54).map(u16::from_le_bytes) == u16::try_from(PROGRAM_HEADER_BYTES).ok();
    if !is_core {
        return Err(KcoreError::NotCore);
    }
    let start = field(head, 32).map(u64::from_le_bytes);
    let count = field(head, 56).map(|count| usize::from(u16::from_le_bytes(count)));
    let (start, count) = start.zip(count).ok_or(KcoreError::NotCore)?;
    let start = usize::try_from(start).map_err(|_| KcoreError::Headers)?;
    let length = count.min(MAX_SEGMENTS) * PROGRAM_HEADER_BYTES;
    let headers = start
        .checked_add(length)
        .and_then(|end| head.get(start..end))
        .ok_or(KcoreError::Headers)?;
    Ok(headers.chunks_exact(PROGRAM_HEADER_BYTES))
}

/// A note of an ELF file: who made it, what it is, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    pub name: &'a [u8],
    pub kind: u32,
    pub content: &'a [u8],
}

/// The notes in `bytes`, up to the first that is cut. Name and content are padded to four bytes.
pub fn notes(bytes: &[u8]) -> impl Iterator<Item = Note<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = |at| usize::try_from(u32::from_le_bytes(field(rest, at)?)).ok();
        let (name, content) = (length(0)?, length(4)?);
        let start = 12_usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let end = start.checked_add(content)?;
        let note = Note {
            name: rest.get(12..12_usize.checked_add(name)?)?,
            kind: u32::from_le_bytes(field(rest, 8)?),
            content: rest.get(start..end)?,
        };
        let next = end.checked_next_multiple_of(4)?;
        rest = rest.get(next..).unwrap_or_default();
        Some(note)
    })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &[u8] = include_bytes!("../../../tests/fixtures/memory/kcore-head.bin");
    const KASLR: &[u8] = include_bytes!("../../../tests/fixtures/memory/kcore-head-kaslr.bin");
    const BIG: &[u8] = include_bytes!("../../../tests/fixtures/memory/kcore-head-big.bin");

    #[test]
    fn ram_of_real_kernels_is_found_in_the_direct_map() {
        for (head, last) in [
            (SMALL, 0x1ffd_cfff),
            (KASLR, 0x1ffd_cfff),
            (BIG, 0x7ffd_ffff),
        ] {
            let layout = Layout::parse(head).unwrap();
            let (low, left) = layout.locate(0x1000).unwrap();
            assert_eq!(left, 0x9e000, "the partial page at the end is not there");
            let (start, size) = layout.locate(0x10_0000).unwrap();
            assert_eq!(size, last - 0x10_0000 + 1);
            assert_eq!(start - low, 0xf_f000, "one direct map");
            // The kernel's text is at 16 MiB in the first two: still the same segment.
            assert_eq!(layout.locate(0x100_0000).unwrap().0 - start, 0xf0_0000);
            assert_eq!(layout.locate(last + 1), None);
            assert_eq!(layout.locate(0x9_f000), None);
        }
        let above = Layout::parse(BIG).unwrap().locate(0x1_7fff_ffff).unwrap();
        assert_eq!(above.1, 1);
    }

    #[test]
    fn ram_that_is_mapped_twice_is_one_range() {
        let ranges = Layout::parse(BIG).unwrap().ram();
        let ends: Vec<_> = ranges.iter().map(|r| (r.first(), r.last())).collect();
        let above = (1 << 32, 0x1_7fff_ffff);
        assert_eq!(ends, [(0x1000, 0x9_efff), (0x10_0000, 0x7ffd_ffff), above]);
    }

    #[test]
    fn vmcoreinfo_is_found_among_the_notes() {
        let layout = Layout::parse(KASLR).unwrap();
        let text = String::from_utf8_lossy(layout.vmcoreinfo(KASLR).unwrap());
        assert!(text.starts_with("OSRELEASE=6.1.0-"), "{text}");
        assert!(text.contains("\nKERNELOFFSET="), "{text}");
    }

    #[test]
    fn hostile_heads_are_refused() {
        assert_eq!(Layout::parse(&[]), Err(KcoreError::NotCore));
        assert_eq!(Layout::parse(&SMALL[..100]), Err(KcoreError::Headers));
        let edit = |at: usize, bytes: &[u8]| {
            let mut head = SMALL.to_vec();
            head[at..at + bytes.len()].copy_from_slice(bytes);
            Layout::parse(&head)
        };
        assert_eq!(edit(5, &[2]), Err(KcoreError::NotCore));
        assert_eq!(edit(32, &[0xff; 8]), Err(KcoreError::Headers));
        assert_eq!(edit(56, &[0xff; 2]), Err(KcoreError::Headers));
        assert_eq!(edit(56, &[0; 2]), Err(KcoreError::NoAddresses));
        // Sizes and offsets that leave every number's range only lose their segment.
        let all_ff = (0..8).fold(SMALL.to_vec(), |mut head, index| {
            head[64 + index * 56 + 32..64 + index * 56 + 48].fill(0xff);
            head
        });
        assert_eq!(Layout::parse(&all_ff), Err(KcoreError::NoAddresses));
        let old = (0..8).fold(SMALL.to_vec(), |mut head, index| {
            head[64 + index * 56 + 24..64 + index * 56 + 32].fill(0);
            head
        });
        assert_eq!(Layout::parse(&old), Err(KcoreError::NoAddresses));
    }
}
