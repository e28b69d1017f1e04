//! `rpmdb.sqlite`: a reader of one table of an SQLite database, as <https://www.sqlite.org/fileformat2.html> has it, with
//! what stands in the write-ahead log.
//!
//! SQLite itself would take locks and make `-shm` and `-wal` files on the host. This reader reads, and nothing else.

use std::collections::{HashMap, HashSet};

use super::damage::{Damage, LARGEST, Take};
use crate::capture::packages::bytes::{Bytes, number};

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Length of the database's header, before the first page's own.
const HEADER: usize = 100;
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The write-ahead log has this magic, and one more where its checksums are big-endian.
const WAL_MAGIC: u32 = 0x377F_0682;
/// Frames of the log that are looked at: 256 MiB of the usual pages. SQLite empties the log after a thousand.
const MOST_FRAMES: u64 = 1 << 16;
/// Pages of one table that are visited: 16 GiB of the usual ones.
const MOST_PAGES: usize = 4 << 20;
/// Page types: inner and outer nodes of the tree of a table.
const INNER: u8 = 0x05;
const OUTER: u8 = 0x0D;

struct Pages<'a> {
    db: &'a dyn Bytes,
    wal: Option<&'a dyn Bytes>,
    /// Places of committed pages in the log.
    frames: HashMap<u32, u64>,
    size: usize,
    /// Bytes of a page that are used.
    usable: usize,
}

/// Hands the last column of each row of `table`, a blob, to `take`; rows with none are torn, and counted in the answer.
///
/// # Errors
/// [`Damage::Malformed`] when it is no database or has no such table.
pub fn each(
    db: &dyn Bytes,
    wal: Option<&dyn Bytes>,
    table: &str,
    take: &mut Take<'_>,
) -> Result<u64, Damage> {
    let pages = Pages::open(db, wal)?;
    let mut root = None;
    pages.rows(1, &mut |row| {
        let text = |index| row.columns().nth(index).and_then(Column::bytes);
        if text(0) == Some(b"table") && text(1) == Some(table.as_bytes()) {
            root = row.columns().nth(3).and_then(Column::number);
        }
        Ok(())
    })?;
    let root = root.and_then(|root| u32::try_from(root).ok());
    let root = root.ok_or(Damage::Malformed("the table is not there"))?;
    let mut torn = 0;
    torn += pages.rows(root, &mut |row| match row.columns().last() {
        Some(Column::Bytes(bytes)) => Ok(take(bytes)?),
        _ => {
            torn += 1;
            Ok(())
        }
    })?;
    Ok(torn)
}

impl<'a> Pages<'a> {
    fn open(db: &'a dyn Bytes, wal: Option<&'a dyn Bytes>) -> Result<Self, Damage> {
        let header = db.at(0, HEADER)?;
        if !header.starts_with(MAGIC) {
            return Err(Damage::Malformed("no magic of an SQLite database"));
        }
        let size = match number(&header, 16, u16::from_be_bytes) {
            Some(1) => 65536,
            size => usize::from(size.unwrap_or(0)),
        };
        let reserved = header.get(20).copied().unwrap_or(0);
        if !size.is_power_of_two() || size < 512 {
            return Err(Damage::Malformed("a page size that SQLite never has"));
        }
        let mut pages = Self {
            db,
            wal,
            frames: HashMap::new(),
            size,
            usable: size - usize::from(reserved),
        };
        if pages.usable < 480 {
            return Err(Damage::Malformed("pages without room"));
        }
        if let Some(wal) = wal {
            pages.frames = frames(wal, size)?;
        }
        Ok(pages)
    }

    fn page(&self, number: u32) -> Result<Vec<u8>, Damage> {
        let page = match (self.frames.get(&number), self.wal) {
            (Some(offset), Some(wal)) => wal.at(*offset, self.size)?,
            _ => {
                let offset = u64::from(number.saturating_sub(1)) * self.size as u64;
                self.db.at(offset, self.size)?
            }
        };
        match page.len() == self.size && number > 0 {
            true => Ok(page),
            false => Err(Damage::Malformed("a page beyond the end")),
        }
    }

    /// All rows of the table whose tree begins at page `root`; the answer counts what is torn.
    fn rows(
        &self,
        root: u32,
        row: &mut dyn FnMut(Row) -> Result<(), Damage>,
    ) -> Result<u64, Damage> {
        let (mut next, mut seen, mut torn) = (vec![root], HashSet::new(), 0);
        while let Some(number) = next.pop() {
            // A tree that comes back to itself is none.
            if !seen.insert(number) || seen.len() > MOST_PAGES {
                torn += 1;
                continue;
            }
            let page = match self.page(number) {
                Err(Damage::Malformed(_)) if number != root => {
                    torn += 1;
                    continue;
                }
                page => page?,
            };
            let start = if number == 1 { HEADER } else { 0 };
            match page.get(start) {
                Some(&INNER) => next.extend(children(&page, start).into_iter().rev()),
                Some(&OUTER) => {
                    for cell in cells(&page, start, 8) {
                        match self.payload(&page, cell)? {
                            Some(payload) => row(Row(payload))?,
                            None => torn += 1,
                        }
                    }
                }
                _ => torn += 1,
            }
        }
        Ok(torn)
    }

    /// The content of the cell at `cell`: on the page, and in a chain of others.
    fn payload(&self, page: &[u8], cell: usize) -> Result<Option<Vec<u8>>, Damage> {
        let bytes = page.get(cell..self.usable).unwrap_or_default();
        let Some((length, at)) = varint(bytes, 0) else {
            return Ok(None);
        };
        let Some((_, at)) = varint(bytes, at) else {
            return Ok(None);
        };
        let Some(length) = usize::try_from(length).ok().filter(|l| *l <= LARGEST) else {
            return Ok(None);
        };
        let local = self.local(length);
        let Some(here) = bytes.get(at..at + local) else {
            return Ok(None);
        };
        let mut payload = here.to_vec();
        let mut follow = number(bytes, at + local, u32::from_be_bytes);
        while payload.len() < length {
            let Some(number) = follow.filter(|number| *number > 0) else {
                return Ok(None);
            };
            let page = match self.page(number) {
                Err(Damage::Malformed(_)) => return Ok(None),
                page => page?,
            };
            let part = page.get(4..self.usable).unwrap_or_default();
            let want = (length - payload.len()).min(part.len());
            payload.extend_from_slice(part.get(..want).unwrap_or_default());
            follow = self::number(&page, 0, u32::from_be_bytes);
        }
        Ok(Some(payload))
    }

    /// Bytes of a payload of `length` that stand on the page itself (section 1.6, "Cell payload overflow pages").
    fn local(&self, length: usize) -> usize {
        let most = self.usable - 35;
        if length <= most {
            return length;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let filled = least + (length - least) % (self.usable - 4);
        if filled <= most { filled } else { least }
    }
}

/// Where the committed pages of a log are, the last of each (section 4, "The write-ahead log").
fn frames(wal: &dyn Bytes, size: usize) -> Result<HashMap<u32, u64>, Damage> {
    let header = wal.at(0, WAL_HEADER)?;
    let field = |at| number(&header, at, u32::from_be_bytes).unwrap_or(0);
    let big_endian = match field(0).wrapping_sub(WAL_MAGIC) {
        0 => false,
        1 => true,
        _ => return Ok(HashMap::new()),
    };
    let mut sums = sum((0, 0), header.get(..24).unwrap_or_default(), big_endian);
    let (mut committed, mut pending) = (HashMap::new(), HashMap::new());
    if field(8) as usize != size || sums != (field(24), field(28)) {
        return Ok(committed);
    }
    for frame in 0..MOST_FRAMES {
        let offset = WAL_HEADER as u64 + frame * (FRAME_HEADER + size) as u64;
        let bytes = wal.at(offset, FRAME_HEADER + size)?;
        let own = |at| number(&bytes, at, u32::from_be_bytes).unwrap_or(0);
        let (Some(head), Some(page)) = (bytes.get(..8), bytes.get(FRAME_HEADER..)) else {
            break;
        };
        sums = sum(sum(sums, head, big_endian), page, big_endian);
        // What an earlier round left behind has other salts, what was cut has other sums.
        let valid = page.len() == size
            && (own(8), own(12)) == (field(16), field(20))
            && sums == (own(16), own(20));
        if !valid {
            break;
        }
        pending.insert(own(0), offset + FRAME_HEADER as u64);
        if own(4) != 0 {
            committed.extend(pending.drain());
        }
    }
    Ok(committed)
}

fn sum((mut s0, mut s1): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let order = if big_endian {
        u32::from_be_bytes
    } else {
        u32::from_le_bytes
    };
    for pair in bytes.chunks_exact(8) {
        let word = |at| number(pair, at, order).unwrap_or(0);
        s0 = s0.wrapping_add(word(0)).wrapping_add(s1);
        s1 = s1.wrapping_add(word(4)).wrapping_add(s0);
    }
    (s0, s1)
}

/// Places of the cells of a page, whose header is `header` bytes long.
fn cells(page: &[u8], start: usize, header: usize) -> Vec<usize> {
    let count = number(page, start + 3, u16::from_be_bytes).unwrap_or(0);
    let first = start + header;
    let cell = |index: u16| number(page, first + 2 * usize::from(index), u16::from_be_bytes);
    (0..count).map_while(cell).map(usize::from).collect()
}

/// The pages below an inner one, in order.
fn children(page: &[u8], start: usize) -> Vec<u32> {
    let below = cells(page, start, 12)
        .into_iter()
        .filter_map(|cell| number(page, cell, u32::from_be_bytes));
    let last = number(page, start + 8, u32::from_be_bytes);
    below.chain(last).collect()
}

/// A number of one to nine bytes, and where the next thing begins.
fn varint(bytes: &[u8], start: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for at in 0..9 {
        let byte = *bytes.get(start + at)?;
        if at == 8 {
            return Some((value << 8 | u64::from(byte), start + 9));
        }
        value = value << 7 | u64::from(byte & 0x7F);
        if byte < 0x80 {
            return Some((value, start + at + 1));
        }
    }
    None
}

/// A row, as it stands in its cell.
struct Row(Vec<u8>);

/// A value of a row, of the kinds that the tables here have.
enum Column<'a> {
    Null,
    Number(i64),
    Bytes(&'a [u8]),
}

impl<'a> Column<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn number(self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }
}

impl Row {
    /// Its columns (section 2.1, "Record format"); fewer where it is torn.
    fn columns(&self) -> impl Iterator<Item = Column<'_>> {
        let (length, mut at) = varint(&self.0, 0).unwrap_or((0, 0));
        let end = usize::try_from(length).unwrap_or(0).min(self.0.len());
        let mut body = end;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (kind, next) = varint(self.0.get(..end)?, at)?;
            let length = match kind {
                0 | 8 | 9 | 10 | 11 => 0,
                1..=4 => usize::try_from(kind).ok()?,
                5 => 6,
                6 | 7 => 8,
                kind => usize::try_from((kind - 12) / 2).ok()?,
            };
            let bytes = self.0.get(body..body.checked_add(length)?)?;
            (at, body) = (next, body + length);
            Some(match kind {
                1..=6 => Column::Number(integer(bytes)),
                8 => Column::Number(0),
                9 => Column::Number(1),
                12.. => Column::Bytes(bytes),
                _ => Column::Null,
            })
        })
    }
}

/// A signed big-endian number of up to eight bytes.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let start = if negative { -1 } else { 0 };
    bytes
        .iter()
        .fold(start, |value, byte| value << 8 | i64::from(*byte))
}
