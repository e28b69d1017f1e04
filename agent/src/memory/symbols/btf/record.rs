//! Records of BTF as they lie in its bytes.

use super::{BtfError, Composite, Enumeration, Id, Integer, Kind};

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xEB9F;
/// Bits of `btf_type.info` that mean something: vlen, kind, kind_flag.
const INFO_MASK: u32 = 0x9F00_FFFF;

/// `struct btf_type` with what follows it.
pub struct Record<'a> {
    /// Where its name is among the strings.
    pub name: u32,
    kind: u32,
    flag: bool,
    /// Size in bytes, or number of a type.
    size: u32,
    pub tail: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record of `bytes`, and the rest.
    pub fn read(id: Id, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BtfError> {
        let cut = BtfError::Cut("types");
        let Some(([name, info, size], rest)) = take::<3>(bytes) else {
            return Err(cut);
        };
        if info & !INFO_MASK != 0 {
            return Err(invalid(id, "flags"));
        }
        let (kind, length) = (info >> 24 & 0x1F, info & 0xFFFF);
        let (once, each) = match kind {
            1 | 14 | 17 => (4, 0),
            3 => (12, 0),
            4 | 5 | 15 | 19 => (0, 12),
            6 | 13 => (0, 8),
            2 | 7..=12 | 16 | 18 => (0, 0),
            _ => return Err(BtfError::Kind { id, kind }),
        };
        let tail = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_mul(each))
            .and_then(|bytes| bytes.checked_add(once));
        let Some((tail, rest)) = tail.and_then(|length| rest.split_at_checked(length)) else {
            return Err(cut);
        };
        let flag = info >> 31 == 1;
        Ok((
            Self {
                name,
                kind,
                flag,
                size,
                tail,
            },
            rest,
        ))
    }

    /// What it is.
    pub fn kind(&self, id: Id) -> Result<Kind<'a>, BtfError> {
        let composite = Composite {
            size: self.size,
            members: self.tail,
            flag: self.flag,
        };
        Ok(match self.kind {
            1 => Kind::Integer(self.integer(id)?),
            2 => Kind::Pointer(self.size),
            3 => {
                let Some(([element, index, count], _)) = take::<3>(self.tail) else {
                    return Err(BtfError::Cut("types"));
                };
                Kind::Array {
                    element,
                    index,
                    count,
                }
            }
            4 => Kind::Struct(composite),
            5 => Kind::Union(composite),
            6 | 19 => Kind::Enumeration(self.enumeration(id)?),
            7 => Kind::Forward { union: self.flag },
            8 => Kind::Typedef(self.size),
            9..=11 | 18 => Kind::Modifier(self.size),
            12 => Kind::Function(self.size),
            13 => Kind::Prototype(self.size),
            14 => Kind::Variable(self.size),
            15 => Kind::Section,
            16 if matches!(self.size, 2 | 4 | 8 | 12 | 16) => Kind::Float(self.size),
            16 => return Err(invalid(id, "a size")),
            17 => Kind::Tag(self.size),
            kind => return Err(BtfError::Kind { id, kind }),
        })
    }

    /// The word behind an integer: encoding in bits 24 to 27, offset in 16 to 23, bits in 0 to 7.
    fn integer(&self, id: Id) -> Result<Integer, BtfError> {
        let Some(([word], _)) = take::<1>(self.tail) else {
            return Err(BtfError::Cut("types"));
        };
        let integer = Integer {
            size: self.size,
            signed: word >> 24 & 1 == 1,
            char: word >> 24 & 2 == 2,
            bool: word >> 24 & 4 == 4,
            bit_offset: word >> 16 & 0xFF,
            bits: word & 0xFF,
        };
        let whole = self.size.saturating_mul(8);
        match self.size {
            1 | 2 | 4 | 8 | 16 if integer.bit_offset + integer.bits <= whole => Ok(integer),
            _ => Err(invalid(id, "a size")),
        }
    }

    fn enumeration(&self, id: Id) -> Result<Enumeration<'a>, BtfError> {
        match self.size {
            1 | 2 | 4 | 8 => Ok(Enumeration {
                size: self.size,
                signed: self.flag,
                values: self.tail,
                wide: self.kind == 19,
            }),
            _ => Err(invalid(id, "a size")),
        }
    }
}

fn invalid(id: Id, what: &'static str) -> BtfError {
    BtfError::Invalid { id, what }
}

/// Types and strings, as the header (`struct btf_header`) has them.
pub fn sections(bytes: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
    let Some(([magic_low, magic_high, version, _flags], rest)) = bytes.split_first_chunk() else {
        return Err(BtfError::Magic);
    };
    match u16::from_le_bytes([*magic_low, *magic_high]) {
        MAGIC => {}
        swapped if swapped == MAGIC.swap_bytes() => return Err(BtfError::BigEndian),
        _ => return Err(BtfError::Magic),
    }
    if *version != 1 {
        return Err(BtfError::Version(*version));
    }
    let Some(([header, type_at, type_length, string_at, string_length], _)) = take::<5>(rest)
    else {
        return Err(BtfError::Cut("header"));
    };
    let part = |at: u32, length: u32| {
        let start = usize::try_from(header.checked_add(at)?).ok()?;
        bytes
            .get(start..)?
            .get(..usize::try_from(length).ok()?)
            .filter(|_| header >= 24)
    };
    let types = part(type_at, type_length).ok_or(BtfError::Cut("types"))?;
    let strings = part(string_at, string_length)
        .filter(|strings| strings.first() == Some(&0) && strings.last() == Some(&0))
        .ok_or(BtfError::Cut("strings"))?;
    Ok((types, strings))
}

/// The first words of `bytes`, and the rest.
fn take<const N: usize>(bytes: &[u8]) -> Option<([u32; N], &[u8])> {
    let (mut words, mut rest) = ([0; N], bytes);
    for word in &mut words {
        let (next, behind) = rest.split_first_chunk()?;
        (*word, rest) = (u32::from_le_bytes(*next), behind);
    }
    Some((words, rest))
}

/// All whole groups of words.
pub fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u32; N]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (words, behind) = take(rest)?;
        rest = behind;
        Some(words)
    })
}
