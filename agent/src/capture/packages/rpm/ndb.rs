//! `Packages.db`, rpm's own database (SUSE), as `lib/backend/ndb/rpmpkg.c` of rpm writes it: a table of slots, and blobs
//! in blocks of 16 bytes.

use super::damage::{Damage, LARGEST, Take};
use crate::capture::packages::bytes::{Bytes, number};

const MAGIC: &[u8] = b"RpmP";
const PAGE: usize = 4096;
const SLOT: usize = 16;
/// The file's header takes the place of two slots.
const HEADER: usize = 32;
const BLOCK: u64 = 16;
/// Pages of slots that are read: a million packages.
const MOST_PAGES: u32 = 4096;
/// A blob has its magic, package, generation and length before it.
const BLOB_HEADER: usize = 16;

/// Hands each package of the database to `take`.
///
/// # Errors
/// [`Damage::Malformed`] when it is none; a single blob that is torn is passed over, and counted in the answer.
pub fn each(db: &dyn Bytes, take: &mut Take<'_>) -> Result<u64, Damage> {
    let header = db.at(0, HEADER)?;
    if !header.starts_with(MAGIC) {
        return Err(Damage::Malformed("no magic of an ndb database"));
    }
    let pages = number(&header, 12, u32::from_le_bytes).unwrap_or(0);
    let mut torn = 0;
    for page in 0..pages.min(MOST_PAGES) {
        let slots = db.at(u64::from(page) * PAGE as u64, PAGE)?;
        if slots.len() < PAGE {
            return Err(Damage::Malformed("its table of packages is cut"));
        }
        let from = if page == 0 { HEADER } else { 0 };
        for slot in slots.get(from..).unwrap_or_default().chunks_exact(SLOT) {
            let field = |at| number(slot, at, u32::from_le_bytes).unwrap_or(0);
            let (package, block) = (field(4), field(8));
            if !slot.starts_with(b"Slot") {
                torn += 1;
                continue;
            }
            // An empty slot.
            if block == 0 {
                continue;
            }
            match blob(db, package, block)? {
                Some(bytes) => take(&bytes)?,
                None => torn += 1,
            }
        }
    }
    Ok(torn)
}

fn blob(db: &dyn Bytes, package: u32, block: u32) -> Result<Option<Vec<u8>>, Damage> {
    let offset = u64::from(block) * BLOCK;
    let header = db.at(offset, BLOB_HEADER)?;
    let field = |at| number(&header, at, u32::from_le_bytes);
    let length = field(12)
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length <= LARGEST);
    let Some(length) = length.filter(|_| header.starts_with(b"BlbS") && field(4) == Some(package))
    else {
        return Ok(None);
    };
    let bytes = db.at(offset + BLOB_HEADER as u64, length)?;
    Ok((bytes.len() == length).then_some(bytes))
}
