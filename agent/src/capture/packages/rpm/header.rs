//! The header of a package, as rpm's databases hold it (`lib/header.c`, `include/rpm/rpmtag.h`): the numbers of entries and
//! of bytes, the entries of 16 bytes each, the bytes. All of it big-endian. Nothing is copied out of it.

use md5::digest::Digest as _;
use sha1::Sha1;
use sha2::Sha256;

use crate::capture::packages::bytes::number;

/// Entries of a header that rpm takes (HEADER_TAGS_MAX).
const MOST_ENTRIES: usize = 0xFFFF;
const ENTRY: usize = 16;
/// What stands before a header in a file, and is hashed with it.
const FILE_MAGIC: [u8; 8] = [0x8E, 0xAD, 0xE8, 0x01, 0, 0, 0, 0];
/// The entry that holds together what the packager made, apart from what was added at installation.
const IMMUTABLE: u32 = 63;

/// Numbers of the entries that are used.
pub mod tag {
    pub const SIGNATURES: [u32; 5] = [259, 262, 267, 268, 278];
    pub const SHA1_HEADER: u32 = 269;
    pub const SHA256_HEADER: u32 = 273;
    pub const NAME: u32 = 1000;
    pub const VERSION: u32 = 1001;
    pub const RELEASE: u32 = 1002;
    pub const EPOCH: u32 = 1003;
    pub const SUMMARY: u32 = 1004;
    pub const BUILD_TIME: u32 = 1006;
    pub const INSTALL_TIME: u32 = 1008;
    pub const SIZE: u32 = 1009;
    pub const VENDOR: u32 = 1011;
    pub const LICENSE: u32 = 1014;
    pub const ARCH: u32 = 1022;
    pub const OLD_FILE_NAMES: u32 = 1027;
    pub const FILE_STATES: u32 = 1029;
    pub const FILE_MODES: u32 = 1030;
    pub const FILE_DIGESTS: u32 = 1035;
    pub const FILE_LINKS: u32 = 1036;
    pub const FILE_FLAGS: u32 = 1037;
    pub const FILE_USERS: u32 = 1039;
    pub const FILE_GROUPS: u32 = 1040;
    pub const SOURCE: u32 = 1044;
    pub const VERIFY_FLAGS: u32 = 1045;
    pub const DIR_INDEXES: u32 = 1116;
    pub const BASE_NAMES: u32 = 1117;
    pub const DIR_NAMES: u32 = 1118;
    pub const DIGEST_ALGORITHM: u32 = 5011;
}

/// A header that is well-formed as far as its lengths go.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

/// An array of numbers in a header.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'a> {
    bytes: &'a [u8],
    width: usize,
}

impl Numbers<'_> {
    /// The number at `index`.
    pub fn at(&self, index: usize) -> Option<u64> {
        let start = index.checked_mul(self.width)?;
        let bytes = self.bytes.get(start..start + self.width)?;
        Some(
            bytes
                .iter()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        )
    }
}

impl<'a> Header<'a> {
    /// The header in `blob`; `None` when there is none.
    pub fn parse(blob: &'a [u8]) -> Option<Self> {
        let entries = number(blob, 0, u32::from_be_bytes)? as usize;
        let length = number(blob, 4, u32::from_be_bytes)? as usize;
        if !(1..=MOST_ENTRIES).contains(&entries) {
            return None;
        }
        let (entries, data) = blob.get(8..)?.split_at_checked(entries * ENTRY)?;
        let data = data.get(..length)?;
        Some(Self { entries, data })
    }

    /// Type, count and bytes of an entry, to the end of the header: what ends it depends on the type.
    fn find(&self, tag: u32) -> Option<(u32, usize, &'a [u8])> {
        let entry = self
            .entries
            .chunks_exact(ENTRY)
            .find(|entry| number(entry, 0, u32::from_be_bytes) == Some(tag))?;
        let field = |at| number(entry, at, u32::from_be_bytes);
        let bytes = self.data.get(field(8)? as usize..)?;
        Some((field(4)?, field(12)? as usize, bytes))
    }

    /// The texts of an entry: one or an array of them.
    pub fn texts(&self, tag: u32) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (count, mut bytes) = match self.find(tag) {
            // A text, an array, texts in languages: the first is the untranslated one.
            Some((6, _, bytes)) => (1, bytes),
            Some((8 | 9, count, bytes)) => (count, bytes),
            _ => (0, &[][..]),
        };
        (0..count).map_while(move |_| {
            let end = bytes.iter().position(|byte| *byte == 0)?;
            let (text, rest) = bytes.split_at_checked(end)?;
            bytes = rest.get(1..)?;
            Some(text)
        })
    }

    /// The first text of an entry.
    pub fn text(&self, tag: u32) -> Option<String> {
        self.texts(tag)
            .next()
            .map(|text| String::from_utf8_lossy(text).into_owned())
    }

    /// The numbers of an entry; none when it is not there.
    pub fn numbers(&self, tag: u32) -> Numbers<'a> {
        let (kind, count, bytes) = self.find(tag).unwrap_or((2, 0, &[]));
        let width = match kind {
            1 | 2 => 1,
            3 => 2,
            4 => 4,
            5 => 8,
            _ => {
                return Numbers {
                    bytes: &[],
                    width: 1,
                };
            }
        };
        let length = count.saturating_mul(width);
        Numbers {
            bytes: bytes.get(..length).unwrap_or_default(),
            width,
        }
    }

    /// The first number of an entry.
    pub fn number(&self, tag: u32) -> Option<u64> {
        self.numbers(tag).at(0)
    }

    /// Whether it holds an entry of this number.
    pub fn has(&self, tag: u32) -> bool {
        self.find(tag).is_some()
    }

    /// Whether what the packager made has the digest that stands beside it, as rpm checks it: `None` where there is none.
    /// The digest can be forged with the rest; only the signature can not.
    pub fn is_intact(&self) -> Option<bool> {
        let (entries, data) = self.immutable()?;
        let numbers = [entries.len() / ENTRY, data.len()];
        let [count, length] =
            numbers.map(|number| u32::try_from(number).unwrap_or(0).to_be_bytes());
        let parts = [&FILE_MAGIC, &count[..], &length, entries, data];
        if let Some(stated) = self.text(tag::SHA256_HEADER) {
            let hasher = parts
                .iter()
                .fold(Sha256::new(), |hasher, part| hasher.chain_update(part));
            return Some(hex::encode(hasher.finalize()) == stated);
        }
        let stated = self.text(tag::SHA1_HEADER)?;
        let hasher = parts
            .iter()
            .fold(Sha1::new(), |hasher, part| hasher.chain_update(part));
        Some(hex::encode(hasher.finalize()) == stated)
    }

    /// The entries and bytes below the first entry, which says where they end (`hdrblobVerifyRegion` in `lib/header.c`).
    fn immutable(&self) -> Option<(&'a [u8], &'a [u8])> {
        let field = |bytes: &[u8], at| number(bytes, at, u32::from_be_bytes);
        if field(self.entries, 0)? != IMMUTABLE {
            return None;
        }
        let trailer = field(self.entries, 8)? as usize;
        let end = trailer.checked_add(ENTRY)?;
        let trailer = self.data.get(trailer..end)?;
        // The trailer holds the length of the entries, as a negative number.
        let length = field(trailer, 8)?.wrapping_neg() as usize;
        Some((self.entries.get(..length)?, self.data.get(..end)?))
    }
}
