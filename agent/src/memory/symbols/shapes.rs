//! Types as an ISF describes them (`schemas/schema-6.2.0.json` of volatility3).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde::{Serialize, Serializer};

use super::SymbolsError;
use super::btf::{Btf, Enumeration, Id, Integer, Kind, Member};
use super::names::{MAX_STEPS, Names, Space};

/// A reference to a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Shape<'s> {
    Base {
        name: &'s str,
    },
    Struct {
        name: &'s str,
    },
    Union {
        name: &'s str,
    },
    Enum {
        name: &'s str,
    },
    Pointer {
        subtype: Box<Shape<'s>>,
    },
    Array {
        count: u32,
        subtype: Box<Shape<'s>>,
    },
    Function,
    Bitfield {
        bit_position: u32,
        bit_length: u32,
        #[serde(rename = "type")]
        unit: Box<Shape<'s>>,
    },
}

/// What has no type.
pub const VOID: Shape<'static> = Shape::Base { name: "void" };

/// A type that is made of no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Base {
    /// In bytes.
    pub size: u32,
    pub signed: bool,
    pub kind: &'static str,
    pub endian: &'static str,
}

/// A struct or union.
#[derive(Debug, Serialize)]
pub struct Aggregate<'s> {
    pub kind: &'static str,
    /// In bytes.
    pub size: u32,
    #[serde(serialize_with = "map")]
    pub fields: Vec<(Cow<'s, str>, Field<'s>)>,
}

/// A member.
#[derive(Debug, Serialize)]
pub struct Field<'s> {
    /// In bytes.
    pub offset: u32,
    #[serde(rename = "type")]
    pub shape: Shape<'s>,
    /// Whether its members are used as if they were those of the type around it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
}

/// An enumeration.
#[derive(Debug, Serialize)]
pub struct Values<'s> {
    /// In bytes.
    pub size: u32,
    /// Name of its base type.
    pub base: &'static str,
    #[serde(serialize_with = "map")]
    pub constants: Vec<(&'s str, i128)>,
}

fn map<K: Serialize, V: Serialize, S: Serializer>(
    pairs: &[(K, V)],
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

/// All types of a kernel.
pub struct Shapes<'b, 'a> {
    pub btf: &'b Btf<'a>,
    pub names: Names<'a>,
    bases: BTreeMap<&'a str, Base>,
}

impl<'b, 'a> Shapes<'b, 'a> {
    /// Names all types.
    ///
    /// # Errors
    /// When the table contradicts itself.
    pub fn of(btf: &'b Btf<'a>) -> Result<Self, SymbolsError> {
        let names = Names::of(btf)?;
        let mut bases: BTreeMap<&'a str, Base> = PLAIN
            .iter()
            .map(|(name, size, signed, kind)| (*name, base(*size, *signed, kind)))
            .collect();
        for next in btf.iter() {
            let (_, declared) = next?;
            match declared.kind {
                Kind::Integer(integer) if integer.size != 8 && is_long(declared.name) => {
                    return Err(SymbolsError::Narrow);
                }
                Kind::Integer(integer) => {
                    let kind = match integer {
                        Integer { bool: true, .. } => "bool",
                        Integer { size: 1, .. } => "char",
                        _ => "int",
                    };
                    let own = base(integer.size, integer.signed, kind);
                    let known = bases.entry(declared.name).or_insert(own);
                    // The kernel says whether its `char` has a sign; the sizes of C are not its to say.
                    if known.size == own.size && known.kind == own.kind {
                        known.signed = own.signed;
                    }
                }
                Kind::Float(size) => {
                    bases
                        .entry(declared.name)
                        .or_insert(base(size, true, "float"));
                }
                _ => {}
            }
        }
        Ok(Self { btf, names, bases })
    }

    /// All base types, by name.
    pub fn bases(&self) -> impl Iterator<Item = (&'a str, &Base)> {
        self.bases.iter().map(|(name, base)| (*name, base))
    }

    /// How a reference to this type is written.
    ///
    /// # Errors
    /// When it leads round in a circle.
    pub fn shape(&self, id: Id) -> Result<Shape<'_>, SymbolsError> {
        self.nested(id, MAX_STEPS)?.ok_or(SymbolsError::Circle(id))
    }

    /// `None` when there are more steps than `left` on the way.
    fn nested(&self, id: Id, left: usize) -> Result<Option<Shape<'_>>, SymbolsError> {
        let Some(left) = left.checked_sub(1) else {
            return Ok(None);
        };
        let declared = self.btf.get(id)?;
        let name = || self.names.name(id, declared.name);
        let inner = |to| Ok::<_, SymbolsError>(self.nested(to, left)?.map(Box::new));
        Ok(Some(match declared.kind {
            Kind::Integer(integer) => self.integer(declared.name, integer),
            Kind::Float(_) => Shape::Base {
                name: declared.name,
            },
            Kind::Struct(_) | Kind::Forward { union: false } => Shape::Struct { name: name() },
            Kind::Union(_) | Kind::Forward { union: true } => Shape::Union { name: name() },
            Kind::Enumeration(_) => Shape::Enum { name: name() },
            Kind::Typedef(to) | Kind::Modifier(to) | Kind::Variable(to) => {
                return self.nested(to, left);
            }
            Kind::Pointer(to) => match inner(to)? {
                Some(subtype) => Shape::Pointer { subtype },
                None => return Ok(None),
            },
            Kind::Array { element, count, .. } => match inner(element)? {
                Some(subtype) => Shape::Array { count, subtype },
                None => return Ok(None),
            },
            Kind::Function(_) | Kind::Prototype(_) => Shape::Function,
            Kind::Void | Kind::Section | Kind::Tag(_) => VOID,
        }))
    }

    /// The struct, union, enumeration or base type of this name.
    pub fn named(&self, name: &str) -> Result<Option<Shape<'_>>, SymbolsError> {
        let aggregate = self.names.find(Space::Aggregate, name);
        if let Some(id) = aggregate.or_else(|| self.names.find(Space::Enumeration, name)) {
            return self.shape(id).map(Some);
        }
        let base = self.bases.get_key_value(name);
        Ok(base.map(|(name, _)| Shape::Base { name }))
    }

    /// What the typedef of this name names.
    pub fn typedef(&self, name: &str) -> Result<Option<Shape<'_>>, SymbolsError> {
        for next in self.btf.iter() {
            let (_, declared) = next?;
            match declared.kind {
                Kind::Typedef(to) if declared.name == name => return self.shape(to).map(Some),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Size of the struct or union of this name, in bytes.
    pub fn size(&self, name: &str) -> Result<Option<u32>, SymbolsError> {
        let Some(id) = self.names.find(Space::Aggregate, name) else {
            return Ok(None);
        };
        Ok(self.aggregate(id)?.map(|aggregate| aggregate.size))
    }

    fn integer(&self, name: &'a str, integer: Integer) -> Shape<'_> {
        let known = self.bases.get(name);
        let name = match known.is_some_and(|known| known.size == integer.size) {
            true => name,
            false => plain(integer.size, integer.signed),
        };
        Shape::Base { name }
    }

    /// A struct or union with its members; `None` for any other type.
    ///
    /// # Errors
    /// When it contains itself, or too much.
    pub fn aggregate(&self, id: Id) -> Result<Option<Aggregate<'_>>, SymbolsError> {
        let (kind, composite) = match self.btf.get(id)?.kind {
            Kind::Struct(composite) => ("struct", composite),
            Kind::Union(composite) => ("union", composite),
            _ => return Ok(None),
        };
        let (mut fields, mut seen, mut unnamed) = (Vec::new(), HashSet::new(), 0_u32);
        for member in self.btf.members(id, composite) {
            let member = member?;
            let mut field = self.field(&member)?;
            let name = match member.name {
                "" if matches!(field.shape, Shape::Struct { .. } | Shape::Union { .. }) => {
                    field.anonymous = true;
                    unnamed += 1;
                    Cow::Owned(format!("unnamed_field_{}", unnamed - 1))
                }
                // The padding of bit fields.
                "" => continue,
                name => Cow::Borrowed(name),
            };
            if seen.insert(name.clone()) {
                fields.push((name, field));
            }
        }
        Ok(Some(Aggregate {
            kind,
            size: composite.size,
            fields,
        }))
    }

    /// An enumeration with its values; `None` for any other type.
    ///
    /// # Errors
    /// When the table contradicts itself.
    pub fn enumeration(&self, id: Id) -> Result<Option<Values<'_>>, SymbolsError> {
        let Kind::Enumeration(of) = self.btf.get(id)?.kind else {
            return Ok(None);
        };
        let (mut constants, mut seen) = (Vec::new(), HashSet::new());
        for value in self.btf.values(id, of) {
            let (name, value) = value?;
            if seen.insert(name) {
                constants.push((name, value));
            }
        }
        Ok(Some(Values {
            size: of.size,
            base: plain(of.size, of.signed),
            constants,
        }))
    }

    fn field(&self, member: &Member<'a>) -> Result<Field<'_>, SymbolsError> {
        let whole = |shape| Field {
            offset: member.bit_offset / 8,
            shape,
            anonymous: false,
        };
        let (size, shape) = match self.btf.get(self.bare(member.type_id)?)?.kind {
            Kind::Integer(integer) if member.bit_size != 0 => {
                (integer.size, self.unit(member.type_id, integer)?)
            }
            Kind::Enumeration(Enumeration { size, .. }) if member.bit_size != 0 => {
                (size, self.shape(member.type_id)?)
            }
            // Until pahole 1.13 a bit field had an integer type of its own.
            Kind::Integer(integer) if integer.bits < integer.size * 8 => {
                let at = member.bit_offset.saturating_add(integer.bit_offset);
                let shape = self.unit(member.type_id, integer)?;
                return Ok(bits(at, integer.bits, integer.size, shape));
            }
            _ => return Ok(whole(self.shape(member.type_id)?)),
        };
        Ok(bits(member.bit_offset, member.bit_size, size, shape))
    }

    /// What is read to get at a bit field. A `_Bool` is read as a number, since all that a `_Bool` tells of it is
    /// whether any of its bits is set.
    fn unit(&self, id: Id, integer: Integer) -> Result<Shape<'_>, SymbolsError> {
        match integer.bool {
            true => Ok(Shape::Base {
                name: plain(integer.size, false),
            }),
            false => self.shape(id),
        }
    }

    /// The type behind typedefs and modifiers.
    ///
    /// # Errors
    /// When they lead round in a circle.
    pub fn bare(&self, from: Id) -> Result<Id, SymbolsError> {
        let mut id = from;
        for _ in 0..MAX_STEPS {
            match self.btf.get(id)?.kind {
                Kind::Typedef(to) | Kind::Modifier(to) => id = to,
                _ => return Ok(id),
            }
        }
        Err(SymbolsError::Circle(from))
    }
}

/// Integers that Volatility asks for by name, and what stands in for others: a compiler other than GCC has its own names.
const PLAIN: &[(&str, u32, bool, &str)] = &[
    ("void", 0, false, "void"),
    ("pointer", 8, false, "int"),
    ("_Bool", 1, false, "bool"),
    ("char", 1, true, "char"),
    ("signed char", 1, true, "char"),
    ("unsigned char", 1, false, "char"),
    ("short int", 2, true, "int"),
    ("short unsigned int", 2, false, "int"),
    ("int", 4, true, "int"),
    ("unsigned int", 4, false, "int"),
    ("long int", 8, true, "int"),
    ("long unsigned int", 8, false, "int"),
    ("long long int", 8, true, "int"),
    ("long long unsigned int", 8, false, "int"),
    ("__int128", 16, true, "int"),
    ("__int128 unsigned", 16, false, "int"),
];

/// The plain integer of this size, in bytes.
fn plain(size: u32, signed: bool) -> &'static str {
    match (size, signed) {
        (1, true) => "signed char",
        (1, false) => "unsigned char",
        (2, true) => "short int",
        (2, false) => "short unsigned int",
        (4, true) => "int",
        (4, false) => "unsigned int",
        (8, true) => "long int",
        (8, false) => "long unsigned int",
        (_, true) => "__int128",
        (_, false) => "__int128 unsigned",
    }
}

/// Whether this is the integer that is as wide as a pointer: BTF does not tell how wide that is.
fn is_long(name: &str) -> bool {
    matches!(name, "long unsigned int" | "unsigned long")
}

fn base(size: u32, signed: bool, kind: &'static str) -> Base {
    Base {
        size,
        signed,
        kind,
        endian: "little",
    }
}

/// A bit field: the unit of `size` bytes that it is in, and where it is there. One that is across two units, as in a
/// packed struct, is read from its first byte on.
fn bits(at: u32, length: u32, size: u32, unit: Shape<'_>) -> Field<'_> {
    let width = size.saturating_mul(8).max(8);
    let (position, byte) = (at % width, at / width * size);
    if position + length <= width {
        return Field {
            offset: byte,
            shape: Shape::Bitfield {
                bit_position: position,
                bit_length: length,
                unit: Box::new(unit),
            },
            anonymous: false,
        };
    }
    let wide = [2, 4, 8, 16]
        .into_iter()
        .find(|size| at % 8 + length <= size * 8);
    Field {
        offset: at / 8,
        shape: Shape::Bitfield {
            bit_position: at % 8,
            bit_length: length,
            unit: Box::new(Shape::Base {
                name: plain(wide.unwrap_or(16), false),
            }),
        },
        anonymous: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use serde_json::{Value, json};

    fn aggregate(table: &Table, name: &str) -> Value {
        let bytes = table.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        let shapes = Shapes::of(&btf).unwrap();
        let id = shapes.names.find(Space::Aggregate, name).unwrap();
        serde_json::to_value(shapes.aggregate(id).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn references_are_followed_through_what_has_no_place_in_an_isf() {
        let mut table = Table::new();
        let char = table.integer("char", 1, 0);
        let constant = table.plain(CONST, "", char);
        let text = table.plain(TYPEDEF, "text", constant);
        let array = table.add(ARRAY, "", 0, &[[text, char, 16]]);
        let prototype = table.plain(FUNC_PROTO, "", 0);
        let call = table.plain(PTR, "", prototype);
        let later = table.plain(FWD | FLAG, "later", 0);
        let to_later = table.plain(PTR, "", later);
        let void = table.plain(PTR, "", 0);
        let members = [
            ("comm", array, 0),
            ("call", call, 128),
            ("later", to_later, 192),
            ("void", void, 256),
        ];
        table.composite(STRUCT, "task", 40, &members);
        let pointer = |to: Value| json!({"kind": "pointer", "subtype": to});
        assert_eq!(
            aggregate(&table, "task"),
            json!({"kind": "struct", "size": 40, "fields": {
                "comm": {"offset": 0, "type": {"kind": "array", "count": 16,
                    "subtype": {"kind": "base", "name": "char"}}},
                "call": {"offset": 16, "type": pointer(json!({"kind": "function"}))},
                "later": {"offset": 24, "type": pointer(json!({"kind": "union", "name": "later"}))},
                "void": {"offset": 32, "type": pointer(json!({"kind": "base", "name": "void"}))},
            }})
        );
    }

    #[test]
    fn bit_fields() {
        let mut table = Table::new();
        let int = table.integer("unsigned int", 4, 0);
        let bool = table.integer("_Bool", 1, 4);
        // An old encoding: bits 2 to 4 of an integer.
        let old = table.add(INT, "unsigned int", 4, &[[2 << 16 | 3]]);
        let at = |offset: u32, bits: u32| bits << 24 | offset;
        let members = [
            ("a", int, at(33, 7)),
            ("", int, at(40, 5)),
            ("flag", bool, at(71, 1)),
            // Packed: across the words at 8 and 12.
            ("across", int, at(94, 4)),
            ("whole", int, at(128, 0)),
        ];
        table.composite(STRUCT | FLAG, "new", 20, &members);
        table.composite(STRUCT, "old", 8, &[("b", old, 32)]);
        let field = |offset, position, length, unit: &str| {
            json!({"offset": offset, "type": {"kind": "bitfield", "bit_position": position, "bit_length": length,
                "type": {"kind": "base", "name": unit}}})
        };
        assert_eq!(
            aggregate(&table, "new")["fields"],
            json!({
                "a": field(4, 1, 7, "unsigned int"),
                "flag": field(8, 7, 1, "unsigned char"),
                "across": field(11, 6, 4, "short unsigned int"),
                "whole": {"offset": 16, "type": {"kind": "base", "name": "unsigned int"}},
            })
        );
        assert_eq!(
            aggregate(&table, "old")["fields"],
            json!({"b": field(4, 2, 3, "unsigned int")})
        );
    }

    #[test]
    fn unnamed_members_are_marked() {
        let mut table = Table::new();
        let int = table.integer("int", 4, 1);
        let inner = table.composite(UNION, "", 4, &[("x", int, 0), ("y", int, 0)]);
        let members = [("", inner, 0), ("z", int, 32), ("z", int, 64)];
        table.composite(STRUCT, "outer", 12, &members);
        let fields = &aggregate(&table, "outer")["fields"];
        let unnamed = &fields["unnamed_field_0"];
        assert_eq!(unnamed["anonymous"], true);
        let name = unnamed["type"]["name"].as_str().unwrap();
        assert_eq!(aggregate(&table, name)["fields"]["y"]["offset"], 0);
        assert_eq!(fields["z"]["offset"], 4, "the first of two");
    }

    #[test]
    fn circles_end() {
        // A typedef of itself, by way of another.
        let mut table = Table::new();
        table.plain(TYPEDEF, "a", 2);
        table.plain(TYPEDEF, "b", 1);
        table.composite(STRUCT, "s", 4, &[("m", 1, 0)]);
        let bytes = table.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        let shapes = Shapes::of(&btf).unwrap();
        assert!(matches!(shapes.shape(1), Err(SymbolsError::Circle(1))));
        assert!(matches!(shapes.aggregate(3), Err(SymbolsError::Circle(_))));

        // A const of itself stops the naming.
        let mut table = Table::new();
        table.plain(CONST, "", 1);
        table.plain(TYPEDEF, "a", 1);
        let bytes = table.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        assert!(matches!(Shapes::of(&btf), Err(SymbolsError::Circle(1))));
    }

    #[test]
    fn integers_of_other_compilers_do_not_hide_those_that_are_asked_for() {
        let mut table = Table::new();
        table.integer("unsigned long", 8, 0);
        table.integer("int", 2, 1);
        table.composite(STRUCT, "s", 16, &[("a", 1, 0), ("b", 2, 64)]);
        let fields = &aggregate(&table, "s")["fields"];
        assert_eq!(fields["a"]["type"]["name"], "unsigned long");
        assert_eq!(fields["b"]["type"]["name"], "short int");
        let bytes = table.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        let shapes = Shapes::of(&btf).unwrap();
        let sizes: Vec<u32> = ["unsigned long", "long unsigned int", "int", "pointer"]
            .iter()
            .map(|name| shapes.bases[name].size)
            .collect();
        assert_eq!(sizes, [8, 8, 4, 8]);

        let mut table = Table::new();
        table.integer("long unsigned int", 4, 0);
        let bytes = table.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        assert!(matches!(Shapes::of(&btf), Err(SymbolsError::Narrow)));
    }
}
