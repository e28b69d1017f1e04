//! BTF: the types of a kernel, as it shows them in `/sys/kernel/btf/vmlinux`.
//!
//! `include/uapi/linux/btf.h` has the format, `Documentation/bpf/btf.rst` its meaning, and `btf_check_*` of
//! `kernel/bpf/btf.c` the rules. All of it is checked once, by [`Btf::parse`]; whatever follows references must bound
//! its steps itself, since a hostile table may have circles.

/// Largest table, in bytes. A distribution's kernel has 4 to 8 MB.
const MAX_BYTES: usize = 64 << 20;
/// Most types: `BTF_MAX_TYPE`.
const MAX_TYPES: usize = 0x000f_ffff;
/// Longest name, in bytes. The kernel's own limit is 512 (`KSYM_NAME_LEN`).
const MAX_NAME: usize = 512;
const MAGIC: u16 = 0xEB9F;
/// Bits of `btf_type.info` that mean something: vlen, kind, kind_flag.
const INFO_MASK: u32 = 0x9F00_FFFF;

/// Number of a type; 0 is `void`.
pub type Id = u32;

/// Why bytes are no BTF that we read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    #[error("BTF of {0} bytes: more than {MAX_BYTES} is not read")]
    TooLarge(usize),
    #[error("no BTF: it does not begin with 9f eb")]
    Magic,
    #[error("BTF of a big-endian kernel: only little-endian is read")]
    BigEndian,
    #[error("BTF of version {0}: only 1 is known")]
    Version(u8),
    #[error("BTF is cut or damaged: its {0} do not fit into it")]
    Cut(&'static str),
    #[error("BTF has more than {MAX_TYPES} types")]
    TooManyTypes,
    #[error("BTF type {id}: kind {kind} is not known")]
    Kind { id: Id, kind: u32 },
    #[error("BTF type {id}: {what} that no compiler makes")]
    Invalid { id: Id, what: &'static str },
    #[error("BTF type {id}: refers to type {to}, which is not there")]
    Reference { id: Id, to: Id },
    #[error(
        "BTF type {id}: no name at {at} of the strings, or one that is too long or not printable"
    )]
    Name { id: Id, at: u32 },
}

/// A table that was checked: each reference is to a type, and each name is printable ASCII.
#[derive(Debug)]
pub struct Btf<'a> {
    /// Where each type from 1 on begins, in bytes of `types`.
    starts: Vec<u32>,
    types: &'a [u8],
    strings: &'a [u8],
}

/// A type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type<'a> {
    /// Empty where it has none.
    pub name: &'a str,
    pub kind: Kind<'a>,
}

/// What a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    Void,
    Integer(Integer),
    Pointer(Id),
    Array {
        element: Id,
        index: Id,
        count: u32,
    },
    Struct(Composite<'a>),
    Union(Composite<'a>),
    Enumeration(Enumeration<'a>),
    /// A struct, or a union, of which there is a name alone.
    Forward {
        union: bool,
    },
    Typedef(Id),
    /// `volatile`, `const`, `restrict`, or a type tag.
    Modifier(Id),
    Function(Id),
    /// Prototype: what it returns. Its parameters are checked, not kept.
    Prototype(Id),
    Variable(Id),
    /// Section of variables; they are checked, not kept.
    Section,
    /// Size in bytes.
    Float(u32),
    /// Declaration tag.
    Tag(Id),
}

/// `BTF_KIND_INT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer {
    /// In bytes: 1, 2, 4, 8 or 16.
    pub size: u32,
    pub signed: bool,
    pub char: bool,
    pub bool: bool,
    /// Where its bits begin, and how many there are: less than its size in old encodings of bit fields.
    pub bit_offset: u32,
    pub bits: u32,
}

/// `BTF_KIND_STRUCT` and `BTF_KIND_UNION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Composite<'a> {
    /// In bytes.
    pub size: u32,
    members: &'a [u8],
    /// `kind_flag`: the offset of a member tells the size of its bit field, too.
    flag: bool,
}

/// A member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Empty where it has none.
    pub name: &'a str,
    pub type_id: Id,
    /// From the beginning of the struct, in bits.
    pub bit_offset: u32,
    /// In bits; 0 for what is no bit field.
    pub bit_size: u32,
}

/// `BTF_KIND_ENUM` and `BTF_KIND_ENUM64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumeration<'a> {
    /// In bytes: 1, 2, 4 or 8.
    pub size: u32,
    pub signed: bool,
    values: &'a [u8],
    wide: bool,
}

impl Enumeration<'_> {
    /// Whether there are no values: `enum name;`.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl<'a> Btf<'a> {
    /// Reads a table and checks all of it.
    ///
    /// # Errors
    /// [`BtfError`] says what is wrong, and where.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        if bytes.len() > MAX_BYTES {
            return Err(BtfError::TooLarge(bytes.len()));
        }
        let (types, strings) = sections(bytes)?;
        let mut table = Self {
            starts: Vec::new(),
            types,
            strings,
        };
        let mut rest = types;
        while !rest.is_empty() {
            if table.starts.len() == MAX_TYPES {
                return Err(BtfError::TooManyTypes);
            }
            let id = table.count();
            let start = types.len().saturating_sub(rest.len());
            table
                .starts
                .push(u32::try_from(start).map_err(|_| BtfError::TooManyTypes)?);
            rest = Record::read(id, rest)?.1;
        }
        (1..table.count()).try_for_each(|id| table.check(id))?;
        Ok(table)
    }

    /// Number of types, `void` with them: ids are below it.
    pub fn count(&self) -> Id {
        // At most MAX_TYPES + 1.
        u32::try_from(self.starts.len()).map_or(Id::MAX, |count| count.saturating_add(1))
    }

    /// The type of this number.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, id: Id) -> Result<Type<'a>, BtfError> {
        let Some(index) = id.checked_sub(1) else {
            return Ok(Type {
                name: "",
                kind: Kind::Void,
            });
        };
        let record = self.record(id, index)?;
        Ok(Type {
            name: self.name(id, record.name)?,
            kind: record.kind(id)?,
        })
    }

    /// All types from 1 on, by number.
    pub fn iter(&self) -> impl Iterator<Item = Result<(Id, Type<'a>), BtfError>> {
        (1..self.count()).map(|id| Ok((id, self.get(id)?)))
    }

    /// Members of a struct or union, in the order of their declaration.
    pub fn members(
        &self,
        id: Id,
        of: Composite<'a>,
    ) -> impl Iterator<Item = Result<Member<'a>, BtfError>> {
        words::<3>(of.members).map(move |[name, type_id, offset]| {
            Ok(Member {
                name: self.name(id, name)?,
                type_id,
                bit_offset: if of.flag {
                    offset & 0x00FF_FFFF
                } else {
                    offset
                },
                bit_size: if of.flag { offset >> 24 } else { 0 },
            })
        })
    }

    /// Names and values of an enumeration, in the order of their declaration.
    pub fn values(
        &self,
        id: Id,
        of: Enumeration<'a>,
    ) -> impl Iterator<Item = Result<(&'a str, i128), BtfError>> {
        let narrow = words::<2>(if of.wide { &[] } else { of.values });
        let wide = words::<3>(if of.wide { of.values } else { &[] });
        let narrow = narrow.map(move |[name, value]| match of.signed {
            true => (name, i128::from(value.cast_signed())),
            false => (name, i128::from(value)),
        });
        let wide = wide.map(move |[name, low, high]| {
            let value = u64::from(high) << 32 | u64::from(low);
            match of.signed {
                true => (name, i128::from(value.cast_signed())),
                false => (name, i128::from(value)),
            }
        });
        narrow
            .chain(wide)
            .map(move |(name, value)| Ok((self.name(id, name)?, value)))
    }

    fn name(&self, id: Id, at: u32) -> Result<&'a str, BtfError> {
        let text = usize::try_from(at)
            .ok()
            .and_then(|at| self.strings.get(at..))
            .and_then(|rest| {
                let near = rest.get(..=MAX_NAME).unwrap_or(rest);
                near.get(..near.iter().position(|byte| *byte == 0)?)
            });
        text.filter(|text| text.iter().all(|byte| matches!(byte, b' '..=b'~')))
            .and_then(|text| std::str::from_utf8(text).ok())
            .ok_or(BtfError::Name { id, at })
    }

    /// Whether all that a type refers to is there.
    fn check(&self, id: Id) -> Result<(), BtfError> {
        let refer = |to: Id| match to < self.count() {
            true => Ok(()),
            false => Err(BtfError::Reference { id, to }),
        };
        match self.get(id)?.kind {
            Kind::Void | Kind::Integer(_) | Kind::Forward { .. } | Kind::Float(_) => Ok(()),
            Kind::Pointer(to) | Kind::Typedef(to) | Kind::Modifier(to) => refer(to),
            Kind::Function(to) | Kind::Variable(to) | Kind::Tag(to) => refer(to),
            Kind::Array { element, index, .. } => refer(element).and(refer(index)),
            Kind::Struct(composite) | Kind::Union(composite) => self
                .members(id, composite)
                .try_for_each(|member| refer(member?.type_id)),
            Kind::Enumeration(values) => self
                .values(id, values)
                .try_for_each(|value| value.map(drop)),
            Kind::Prototype(to) => {
                refer(to)?;
                words::<2>(self.tail(id)?).try_for_each(|[name, of]| {
                    refer(of)?;
                    self.name(id, name).map(drop)
                })
            }
            Kind::Section => words::<3>(self.tail(id)?).try_for_each(|[of, ..]| refer(of)),
        }
    }

    /// What follows the header of a type.
    fn tail(&self, id: Id) -> Result<&'a [u8], BtfError> {
        let record = id.checked_sub(1).map(|index| self.record(id, index));
        record.map_or(Ok(&[][..]), |record| Ok(record?.tail))
    }

    fn record(&self, id: Id, index: u32) -> Result<Record<'a>, BtfError> {
        let start = usize::try_from(index)
            .ok()
            .and_then(|index| self.starts.get(index));
        let bytes = start.and_then(|start| self.types.get(usize::try_from(*start).ok()?..));
        let bytes = bytes.ok_or(BtfError::Reference { id, to: id })?;
        Ok(Record::read(id, bytes)?.0)
    }
}

/// `struct btf_type` with what follows it.
struct Record<'a> {
    name: u32,
    kind: u32,
    flag: bool,
    /// Size in bytes, or number of a type.
    size: u32,
    tail: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record of `bytes`, and the rest.
    fn read(id: Id, bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BtfError> {
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

    fn kind(&self, id: Id) -> Result<Kind<'a>, BtfError> {
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
fn sections(bytes: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
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
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u32; N]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (words, behind) = take(rest)?;
        rest = behind;
        Some(words)
    })
}
