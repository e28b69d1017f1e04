//! `Packages`, a hash of Berkeley DB (Amazon Linux 2, RHEL and CentOS up to 8), as `src/dbinc/db_page.h` of Berkeley DB 5.3
//! lays it out. All pages are read in their order and each says what it is, so that no bucket has to be computed.

use super::damage::{Damage, LARGEST, Take};
use crate::capture::packages::bytes::{Bytes, number};

const HASH_MAGIC: u32 = 0x0006_1561;
/// Page types: a page of a hash as it was before 4.6, one as it is since, a part of a value too long for a page.
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const HASH: u8 = 13;
/// Length of the header of a page.
const PAGE_HEADER: usize = 26;
/// Item types: key or value on the page, value elsewhere.
const KEY_OR_VALUE: u8 = 1;
const ELSEWHERE: u8 = 3;
/// The key of what is no package: the highest number so far.
const NO_PACKAGE: [u8; 4] = [0; 4];

struct File<'a> {
    db: &'a dyn Bytes,
    page: usize,
    big_endian: bool,
    last: u32,
}

/// Hands each package of the database to `take`.
///
/// # Errors
/// [`Damage::Malformed`] when it is none; a single value that is torn is passed over, and counted in the answer.
pub fn each(db: &dyn Bytes, take: &mut Take<'_>) -> Result<u64, Damage> {
    let meta = db.at(0, 72)?;
    let big_endian = match number(&meta, 12, u32::from_le_bytes) {
        Some(HASH_MAGIC) => false,
        Some(magic) if magic.swap_bytes() == HASH_MAGIC => true,
        _ => return Err(Damage::Malformed("no magic of a hash of Berkeley DB")),
    };
    if meta.get(24) != Some(&0) {
        return Err(Damage::Malformed("an encrypted database"));
    }
    let mut file = File {
        db,
        page: 0,
        big_endian,
        last: 0,
    };
    let page = file.u32(&meta, 20).unwrap_or(0) as usize;
    if !page.is_power_of_two() || !(512..=65536).contains(&page) {
        return Err(Damage::Malformed("a page size that Berkeley DB never has"));
    }
    file.page = page;
    let pages = u32::try_from(db.length() / page as u64).unwrap_or(u32::MAX);
    let stated = file.u32(&meta, 32).unwrap_or(0);
    file.last = stated.min(pages.saturating_sub(1));
    // Pages that are not there are a loss, whatever stood on them.
    let mut torn = u64::from(file.last < stated);
    for number in 1..=file.last {
        let page = file.page(number)?;
        if matches!(page.get(25), Some(&(HASH | HASH_UNSORTED))) {
            torn += file.pairs(&page, take)?;
        }
    }
    Ok(torn)
}

impl File<'_> {
    fn u16(&self, bytes: &[u8], offset: usize) -> Option<u16> {
        match self.big_endian {
            true => number(bytes, offset, u16::from_be_bytes),
            false => number(bytes, offset, u16::from_le_bytes),
        }
    }

    fn u32(&self, bytes: &[u8], offset: usize) -> Option<u32> {
        match self.big_endian {
            true => number(bytes, offset, u32::from_be_bytes),
            false => number(bytes, offset, u32::from_le_bytes),
        }
    }

    fn page(&self, number: u32) -> Result<Vec<u8>, Damage> {
        Ok(self
            .db
            .at(u64::from(number) * self.page as u64, self.page)?)
    }

    /// The keys and values of a page, which take turns.
    fn pairs(&self, page: &[u8], take: &mut Take<'_>) -> Result<u64, Damage> {
        let items = usize::from(self.u16(page, 20).unwrap_or(0));
        let mut torn = 0;
        for index in (0..items / 2 * 2).step_by(2) {
            let (key, value) = (self.item(page, index), self.item(page, index + 1));
            let is_package = key.is_some_and(|key| {
                key.first() == Some(&KEY_OR_VALUE) && key.get(1..) != Some(&NO_PACKAGE)
            });
            if !is_package {
                continue;
            }
            match value.map(|value| self.value(value)).transpose()?.flatten() {
                Some(bytes) => take(&bytes)?,
                None => torn += 1,
            }
        }
        Ok(torn)
    }

    /// An item: it ends where the one before it begins, as a page fills from its end.
    fn item<'a>(&self, page: &'a [u8], index: usize) -> Option<&'a [u8]> {
        let start = |index: usize| self.u16(page, PAGE_HEADER + 2 * index).map(usize::from);
        let end = match index {
            0 => page.len(),
            index => start(index - 1)?,
        };
        page.get(start(index)?..end)
    }

    fn value(&self, item: &[u8]) -> Result<Option<Vec<u8>>, Damage> {
        match item.split_first() {
            Some((&KEY_OR_VALUE, bytes)) => Ok(Some(bytes.to_vec())),
            Some((&ELSEWHERE, _)) => match (self.u32(item, 4), self.u32(item, 8)) {
                (Some(page), Some(length)) => self.elsewhere(page, length as usize),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// A value of `length` bytes in a chain of pages that begins at `page`.
    fn elsewhere(&self, mut page: u32, length: usize) -> Result<Option<Vec<u8>>, Damage> {
        let mut value = Vec::new();
        // Each page must add something: a chain that goes round is as long as its value, and ends.
        while value.len() < length && length <= LARGEST && (1..=self.last).contains(&page) {
            let bytes = self.page(page)?;
            let here = usize::from(self.u16(&bytes, 22).unwrap_or(0));
            let part = bytes.get(PAGE_HEADER..PAGE_HEADER + here);
            let (Some(part), Some(&OVERFLOW)) = (part.filter(|p| !p.is_empty()), bytes.get(25))
            else {
                return Ok(None);
            };
            value.extend_from_slice(part);
            page = self.u32(&bytes, 16).unwrap_or(0);
        }
        Ok((value.len() == length && length > 0).then_some(value))
    }
}
