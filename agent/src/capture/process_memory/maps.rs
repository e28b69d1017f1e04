//! `/proc/PID/smaps`, and `maps`, which is the same with fewer lines: read in pieces of any size, hostile names and all.

use std::collections::BTreeMap;
use std::rc::Rc;

/// Most mappings of a process that are held; the kernel's own limit is half of it unless it was raised.
pub const MOST: usize = 1 << 17;
/// Most bytes of names that are held.
const MOST_NAMES: usize = 8 << 20;

/// A mapping, without its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// Of `start` in the file.
    pub offset: u64,
    pub device: (u32, u32),
    /// 0 where no file stands behind it.
    pub inode: u64,
    /// Such as `rw-p`.
    pub permissions: [u8; 4],
    /// `io` or `pf` of VmFlags: memory of a device.
    pub is_device: bool,
    /// `um`, `uw` or `ui` of VmFlags: its faults are answered by a program.
    pub is_userfaultfd: bool,
    /// `ht` of VmFlags.
    pub is_hugetlb: bool,
    /// Whether VmFlags were there at all: `maps` has none, nor has a kernel without `CONFIG_PROC_PAGE_MONITOR`.
    pub has_flags: bool,
    /// Whether any page of it is in memory or in swap.
    pub has_pages: bool,
    pub name: Option<u32>,
}

impl Mapping {
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    pub fn is_shared(&self) -> bool {
        self.permissions.get(3) == Some(&b's')
    }

    pub fn has(&self, permission: u8) -> bool {
        self.permissions.contains(&permission)
    }

    /// `PF_R`, `PF_W`, `PF_X` of elf.h.
    pub fn elf_flags(&self) -> u32 {
        [(b'r', 4), (b'w', 2), (b'x', 1)]
            .into_iter()
            .filter(|(permission, _)| self.has(*permission))
            .map(|(_, flag)| flag)
            .sum()
    }
}

/// Names as the kernel writes them, each once.
#[derive(Default)]
pub struct Names {
    list: Vec<Rc<[u8]>>,
    known: BTreeMap<Rc<[u8]>, u32>,
    bytes: usize,
}

impl Names {
    /// The name of `mapping`; empty where it has none.
    pub fn of(&self, mapping: &Mapping) -> &[u8] {
        let index = mapping.name.and_then(|name| usize::try_from(name).ok());
        index
            .and_then(|index| self.list.get(index))
            .map_or(b"", |name| name)
    }

    fn add(&mut self, name: &[u8]) -> Option<u32> {
        if let Some(known) = self.known.get(name) {
            return Some(*known);
        }
        if name.is_empty() || self.bytes + name.len() > MOST_NAMES {
            return None;
        }
        self.bytes += name.len();
        let index = u32::try_from(self.list.len()).ok()?;
        let name: Rc<[u8]> = name.into();
        self.list.push(Rc::clone(&name));
        self.known.insert(name, index);
        Some(index)
    }
}

/// All mappings of a process, ascending, none over another.
#[derive(Default)]
pub struct Maps {
    pub mappings: Vec<Mapping>,
    pub names: Names,
    /// Mappings beyond what is held.
    pub left_out: u64,
    /// Names beyond what is held.
    pub nameless: u64,
}

/// Takes the text in pieces.
#[derive(Default)]
pub struct Parser {
    maps: Maps,
    rest: Vec<u8>,
}

impl Parser {
    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut lines = piece.split(|byte| *byte == b'\n');
        // What follows the last newline is the start of a line.
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            match self.rest.is_empty() {
                true => self.line(line),
                false => {
                    let mut whole = std::mem::take(&mut self.rest);
                    whole.extend_from_slice(line);
                    self.line(&whole);
                }
            }
        }
        self.rest.extend_from_slice(last);
    }

    /// What was read.
    pub fn end(mut self) -> Maps {
        let rest = std::mem::take(&mut self.rest);
        self.line(&rest);
        self.maps
    }

    fn line(&mut self, line: &[u8]) {
        match header(line) {
            Some((mapping, name)) => self.mapping(mapping, name),
            None => self.field(line),
        }
    }

    /// The text is no snapshot: a mapping that was changed meanwhile may come twice, or lie over the one before.
    fn mapping(&mut self, mut mapping: Mapping, name: &[u8]) {
        let before = self.maps.mappings.last().map_or(0, |last| last.end);
        let over = before.saturating_sub(mapping.start);
        if over >= mapping.len() {
            return;
        }
        mapping.start += over;
        mapping.offset = mapping.offset.saturating_add(over);
        if self.maps.mappings.len() >= MOST {
            self.maps.left_out += 1;
            return;
        }
        mapping.name = self.maps.names.add(name);
        if mapping.name.is_none() && !name.is_empty() {
            self.maps.nameless += 1;
        }
        self.maps.mappings.push(mapping);
    }

    /// A line such as `Rss:   4 kB`, which is about the mapping before it.
    fn field(&mut self, line: &[u8]) {
        if self.maps.left_out > 0 {
            return;
        }
        let Some(mapping) = self.maps.mappings.last_mut() else {
            return;
        };
        let mut words = line
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty());
        match words.next() {
            Some(b"Rss:" | b"Swap:" | b"Shared_Hugetlb:" | b"Private_Hugetlb:") => {
                mapping.has_pages |= words.next().is_some_and(|kib| kib != b"0");
            }
            Some(b"VmFlags:") => {
                mapping.has_flags = true;
                for word in words {
                    mapping.is_device |= matches!(word, b"io" | b"pf");
                    mapping.is_userfaultfd |= matches!(word, b"um" | b"uw" | b"ui");
                    mapping.is_hugetlb |= word == b"ht";
                }
            }
            _ => {}
        }
    }
}

/// `start-end perms offset major:minor inode      name`.
fn header(line: &[u8]) -> Option<(Mapping, &[u8])> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut next = || std::str::from_utf8(fields.next()?).ok();
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = next()?.split_once('-')?;
    let permissions = next()?.as_bytes().try_into().ok()?;
    let offset = hex(next()?)?;
    let (major, minor) = next()?.split_once(':')?;
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    let mapping = Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset,
        device: (number(major)?, number(minor)?),
        inode: next()?.parse().ok()?,
        permissions,
        ..Mapping::default()
    };
    let name = fields.next().unwrap_or_default().trim_ascii_start();
    (mapping.start < mapping.end).then_some((mapping, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &[u8] =
        b"00400000-00402000 r-xp 00001000 fe:01 42                         /tmp/a\\012b \xff (deleted)
Size:                  8 kB
Rss:                   4 kB
VmFlags: rd ex mr mw me dw sd
7f0000000000-7f0000001000 rw-s 00000000 00:06 7                      /dev/mem
Rss:                   0 kB
Swap:                  0 kB
VmFlags: rd wr io pf dd
7f0000001000-7f0000003000 ---p 00000000 00:00 0
VmFlags: mr mw me um ht
";

    fn parse(pieces: &[&[u8]]) -> Maps {
        let mut parser = Parser::default();
        pieces.iter().for_each(|piece| parser.feed(piece));
        parser.end()
    }

    #[test]
    fn pieces_of_any_size_make_the_same() {
        let whole = parse(&[SMAPS]);
        assert_eq!(whole.mappings.len(), 3);
        for size in [1, 2, 7, 64] {
            let pieces: Vec<&[u8]> = SMAPS.chunks(size).collect();
            assert_eq!(parse(&pieces).mappings, whole.mappings, "{size}");
        }
        let [code, device, odd] = whole.mappings[..] else {
            panic!("three")
        };
        assert_eq!(
            whole.names.of(&code),
            b"/tmp/a\\012b \xff (deleted)".as_slice()
        );
        assert!(code.has_pages && code.has_flags && !code.is_device && !code.is_shared());
        assert_eq!(
            (code.device, code.inode, code.offset),
            ((0xfe, 1), 42, 0x1000)
        );
        assert_eq!((code.elf_flags(), odd.elf_flags()), (5, 0));
        assert!(device.is_device && device.is_shared() && !device.has_pages);
        assert!(odd.is_userfaultfd && odd.is_hugetlb && whole.names.of(&odd).is_empty());
    }

    #[test]
    fn cut_and_hostile_texts_give_less() {
        for end in 0..SMAPS.len() {
            assert!(parse(&[&SMAPS[..end]]).mappings.len() <= 3);
        }
        let maps = parse(&[
            b"2000-1000 r--p 0 0:0 0\n1-\n-\n\nRss: x\nffff-zzzz r--p 0 0:0 0\n1000-2000 r--p\n",
        ]);
        assert!(maps.mappings.is_empty());
    }

    #[test]
    fn what_lies_over_another_is_cut() {
        let maps = parse(&[
            b"1000-4000 r--p 0 1:1 9 /a\n2000-3000 r--p 0 1:1 9 /a\n2000-6000 r--p 1000 1:1 9 /a\n",
        ]);
        let spans: Vec<_> = maps
            .mappings
            .iter()
            .map(|m| (m.start, m.end, m.offset))
            .collect();
        assert_eq!(spans, [(0x1000, 0x4000, 0), (0x4000, 0x6000, 0x3000)]);
    }

    #[test]
    fn more_mappings_than_are_held_are_counted() {
        let mut parser = Parser::default();
        for n in 0..MOST + 5 {
            let line = format!(
                "{:x}-{:x} rw-p 0 0:1 {n} /file/{n}\n",
                n << 13,
                (n << 13) + 4096
            );
            parser.feed(line.as_bytes());
        }
        let maps = parser.end();
        assert_eq!((maps.mappings.len(), maps.left_out), (MOST, 5));
        assert_eq!(maps.names.of(&maps.mappings[77]), b"/file/77");
    }
}
