//! BTF: the types of a kernel, as it shows them in `/sys/kernel/btf/vmlinux`.
//!
//! `include/uapi/linux/btf.h` has the format, `Documentation/bpf/btf.rst` its meaning, and `btf_check_*` of
//! `kernel/bpf/btf.c` the rules. All of it is checked once, by [`Btf::parse`]; whatever follows references must bound
//! its steps itself, since a hostile table may have circles.

mod record;

use record::{Record, sections, words};

/// Largest table, in bytes. A distribution's kernel has 4 to 8 MB.
const MAX_BYTES: usize = 64 << 20;
/// Most types: `BTF_MAX_TYPE`.
const MAX_TYPES: usize = 0x000f_ffff;
/// Longest name, in bytes. The kernel's own limit is 512 (`KSYM_NAME_LEN`).
const MAX_NAME: usize = 512;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::symbols::testing::*;

    /// One of each kind, and its number.
    fn one_of_each() -> Table {
        let mut table = Table::new();
        let int = table.integer("int", 4, 1);
        let pointer = table.plain(PTR, "", int);
        table.add(ARRAY, "", 0, &[[pointer, int, 3]]);
        table.composite(STRUCT | FLAG, "bits", 4, &[("low", int, 3 << 24 | 5)]);
        table.composite(UNION, "", 4, &[("whole", int, 0)]);
        let red = table.name("RED");
        table.add(ENUM | FLAG, "color", 4, &[[red, u32::MAX]]);
        table.plain(FWD | FLAG, "later", 0);
        table.plain(TYPEDEF, "number", int);
        table.plain(VOLATILE, "", int);
        table.plain(CONST, "", int);
        table.plain(RESTRICT, "", pointer);
        let argument = table.name("argument");
        let prototype = table.add(FUNC_PROTO, "", int, &[[argument, int], [0, 0]]);
        table.plain(FUNC, "main", prototype);
        let variable = table.add(VAR, "counter", int, &[[1]]);
        table.add(DATASEC, ".data", 4, &[[variable, 0, 4]]);
        table.plain(FLOAT, "double", 8);
        table.add(DECL_TAG, "tag", variable, &[[u32::MAX]]);
        table.plain(TYPE_TAG, "user", int);
        table.add(ENUM64, "wide", 8, &[[red, 1, 0x8000_0000]]);
        table
    }

    #[test]
    fn all_kinds() {
        let bytes = one_of_each().bytes();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.count(), 20);
        assert_eq!(btf.get(0).unwrap().kind, Kind::Void);
        assert!(btf.get(20).is_err());
        let kinds: Vec<(&str, String)> = btf
            .iter()
            .map(|next| {
                let (_, declared) = next.unwrap();
                let shown = format!("{:?}", declared.kind);
                let word = shown.split(['(', ' ']).next().unwrap().to_owned();
                (declared.name, word)
            })
            .collect();
        let names = kinds.iter().map(|(name, kind)| format!("{kind} {name}"));
        assert_eq!(
            names.collect::<Vec<_>>().join(","),
            "Integer int,Pointer ,Array ,Struct bits,Union ,Enumeration color,Forward later,Typedef number,\
             Modifier ,Modifier ,Modifier ,Prototype ,Function main,Variable counter,Section .data,Float double,\
             Tag tag,Modifier user,Enumeration wide"
        );
    }

    #[test]
    fn members_and_values() {
        let bytes = one_of_each().bytes();
        let btf = Btf::parse(&bytes).unwrap();
        let Kind::Struct(bits) = btf.get(4).unwrap().kind else {
            panic!("a struct");
        };
        let members: Vec<_> = btf.members(4, bits).map(Result::unwrap).collect();
        let low = Member {
            name: "low",
            type_id: 1,
            bit_offset: 5,
            bit_size: 3,
        };
        assert_eq!(members, [low]);
        for (id, value) in [(6, -1), (19, 1_i128 << 63 | 1)] {
            let Kind::Enumeration(of) = btf.get(id).unwrap().kind else {
                panic!("an enumeration");
            };
            let values: Vec<_> = btf.values(id, of).map(Result::unwrap).collect();
            assert_eq!(values, [("RED", value)]);
        }
    }

    #[test]
    fn cut_anywhere_is_an_error() {
        let bytes = one_of_each().bytes();
        for end in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn any_byte_may_be_wrong() {
        let bytes = one_of_each().bytes();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut wrong = bytes.clone();
                wrong[at] = value;
                drop(Btf::parse(&wrong));
            }
        }
    }

    #[test]
    fn what_no_compiler_makes_is_refused() {
        let parse = |table: &Table| Btf::parse(&table.bytes()).unwrap_err();
        let mut table = Table::new();
        table.plain(PTR, "", 2);
        assert_eq!(parse(&table), BtfError::Reference { id: 1, to: 2 });

        let mut table = Table::new();
        table.add(INT, "int", 4, &[[33]]);
        assert!(matches!(parse(&table), BtfError::Invalid { id: 1, .. }));

        let mut table = Table::new();
        table.plain(20, "", 0);
        assert_eq!(parse(&table), BtfError::Kind { id: 1, kind: 20 });

        let mut table = Table::new();
        table.add(STRUCT, "s", 4, &[[99, 0, 0]]);
        assert_eq!(parse(&table), BtfError::Name { id: 1, at: 99 });

        for name in ["a\u{1b}[m", &"x".repeat(MAX_NAME + 1)] {
            let mut table = Table::new();
            table.plain(FWD, name, 0);
            assert_eq!(parse(&table), BtfError::Name { id: 1, at: 1 });
        }

        // vlen says 65 535 members, and there are none.
        let mut table = Table::new();
        table.plain(STRUCT, "s", 4);
        let mut bytes = table.bytes();
        bytes[28..30].copy_from_slice(&[0xFF, 0xFF]);
        assert_eq!(Btf::parse(&bytes).unwrap_err(), BtfError::Cut("types"));
    }

    #[test]
    fn heads_that_are_not_ours() {
        let bytes = one_of_each().bytes();
        for (at, value, want) in [
            (0, 0x9E, BtfError::Magic),
            (2, 2, BtfError::Version(2)),
            (4, 23, BtfError::Cut("types")),
            (7, 0xFF, BtfError::Cut("types")),
            (20, 0xFF, BtfError::Cut("strings")),
        ] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            assert_eq!(Btf::parse(&wrong).unwrap_err(), want, "{at}");
        }
        assert_eq!(
            Btf::parse(&[0xEB, 0x9F, 1, 0]).unwrap_err(),
            BtfError::BigEndian
        );
    }
}
