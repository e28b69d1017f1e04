//! Names for the types of a kernel: each struct, union and enumeration has one of its own.
//!
//! C lets a struct have no name, and files of a kernel may have different structs of one name.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use super::SymbolsError;
use super::btf::{Btf, Id, Kind, Type};

/// Steps from a reference to the type at its end, or from a type to one in it. C code needs a dozen; more is a circle.
pub const MAX_STEPS: usize = 24;
/// Most structs, unions and enumerations. A distribution's kernel has some 15 000.
const MAX_NAMED: usize = 200_000;
/// Of a name that two have, so much goes into the new one of the second, in bytes.
const KEPT: usize = 64;
/// Words of the ISF itself, which no struct may take (`natives` in Volatility's `symbols/intermed.py`).
const RESERVED: &[&str] = &["array", "bitfield", "enum", "function", "pointer", "void"];

/// Which names may not meet: structs and unions have their own list in an ISF, enumerations another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Structs and unions.
    Aggregate,
    Enumeration,
}

/// Names by type and types by name.
#[derive(Debug, Default)]
pub struct Names<'a> {
    types: BTreeMap<(Space, Cow<'a, str>), Id>,
    /// Of those types alone whose name is not the one that BTF has.
    given: HashMap<Id, Cow<'a, str>>,
}

/// Types that could not have their own name: it is empty, or another has it.
type Left<'a> = BTreeMap<Id, (Space, &'a str)>;

impl<'a> Names<'a> {
    /// Names every type. One that is without a name takes that of its typedef, or one made of what it contains; of two
    /// with the same name the first keeps it.
    ///
    /// # Errors
    /// When the table contradicts itself, or has far too many.
    pub fn of(btf: &Btf<'a>) -> Result<Self, SymbolsError> {
        let mut names = Self::default();
        let mut left = names.take_own(btf)?;
        names.take_typedefs(btf, &mut left)?;
        names.make(btf, left)?;
        Ok(names)
    }

    /// The name of a type that BTF calls `own`.
    pub fn name<'n>(&'n self, id: Id, own: &'n str) -> &'n str {
        self.given.get(&id).map_or(own, AsRef::as_ref)
    }

    /// The struct, union or enumeration of this name.
    pub fn find(&self, space: Space, name: &str) -> Option<Id> {
        self.types.get(&(space, Cow::Borrowed(name))).copied()
    }

    /// All of a space, by name.
    pub fn all(&self, space: Space) -> impl Iterator<Item = (&str, Id)> {
        self.types
            .iter()
            .filter(move |((of, _), _)| *of == space)
            .map(|((_, name), id)| (name.as_ref(), *id))
    }

    /// Gives each its own name, and tells which are left without.
    fn take_own(&mut self, btf: &Btf<'a>) -> Result<Left<'a>, SymbolsError> {
        let (mut left, mut empty) = (BTreeMap::new(), Vec::new());
        for next in btf.iter() {
            let (id, declared) = next?;
            let Some(space) = space(&declared) else {
                continue;
            };
            if self.types.len() + left.len() + empty.len() == MAX_NAMED {
                return Err(SymbolsError::TooManyTypes(MAX_NAMED));
            }
            let name = declared.name;
            match declared.kind {
                _ if name.is_empty() || RESERVED.contains(&name) => {
                    left.insert(id, (space, name));
                }
                // `enum name;`, of which the values may come later.
                Kind::Enumeration(values) if values.is_empty() => empty.push((space, name, id)),
                _ if self.find(space, name).is_some() => {
                    left.insert(id, (space, name));
                }
                _ => self.insert(space, Cow::Borrowed(name), id),
            }
        }
        for (space, name, id) in empty {
            self.types.entry((space, Cow::Borrowed(name))).or_insert(id);
        }
        Ok(left)
    }

    /// `typedef struct { .. } name;`
    fn take_typedefs(&mut self, btf: &Btf<'a>, left: &mut Left<'a>) -> Result<(), SymbolsError> {
        for next in btf.iter() {
            let (_, declared) = next?;
            let Kind::Typedef(to) = declared.kind else {
                continue;
            };
            let (to, name) = (unmodified(btf, to)?, declared.name);
            let Some((space, "")) = left.get(&to) else {
                continue;
            };
            let free = !name.is_empty() && !RESERVED.contains(&name);
            if free && self.find(*space, name).is_none() {
                self.given.insert(to, Cow::Borrowed(name));
                self.insert(*space, Cow::Borrowed(name), to);
                left.remove(&to);
            }
        }
        Ok(())
    }

    /// Makes names for the rest.
    fn make(&mut self, btf: &Btf<'a>, left: Left<'a>) -> Result<(), SymbolsError> {
        // The next number for each name, or a flood of equal types would have us try all numbers for each.
        let mut numbers: HashMap<String, u32> = HashMap::new();
        for (id, (space, name)) in left {
            let digest = fingerprint(btf, id)?;
            let base = match name {
                "" => format!("unnamed_{digest}"),
                name => format!("{name:.KEPT$}_{digest}"),
            };
            let mut free = base.clone();
            let number = numbers.entry(base.clone()).or_insert(1);
            while self.find(space, &free).is_some() {
                *number += 1;
                free = format!("{base}_{number}");
            }
            self.given.insert(id, Cow::Owned(free.clone()));
            self.insert(space, Cow::Owned(free), id);
        }
        Ok(())
    }

    fn insert(&mut self, space: Space, name: Cow<'a, str>, id: Id) {
        self.types.insert((space, name), id);
    }
}

/// The type behind `const`, `volatile` and the like.
fn unmodified(btf: &Btf<'_>, from: Id) -> Result<Id, SymbolsError> {
    let mut id = from;
    for _ in 0..MAX_STEPS {
        match btf.get(id)?.kind {
            Kind::Modifier(to) => id = to,
            _ => return Ok(id),
        }
    }
    Err(SymbolsError::Circle(from))
}

fn space(declared: &Type<'_>) -> Option<Space> {
    match declared.kind {
        Kind::Struct(_) | Kind::Union(_) => Some(Space::Aggregate),
        Kind::Enumeration(_) => Some(Space::Enumeration),
        _ => None,
    }
}

/// 16 hex digits of what a type contains, so that a type has one name in all builds that did not change it.
fn fingerprint(btf: &Btf<'_>, id: Id) -> Result<String, SymbolsError> {
    let mut hash = Sha256::new();
    match btf.get(id)?.kind {
        Kind::Struct(of) | Kind::Union(of) => {
            hash.update(of.size.to_le_bytes());
            for member in btf.members(id, of) {
                let member = member?;
                hash.update(member.name);
                hash.update([0]);
                hash.update(member.bit_offset.to_le_bytes());
                hash.update(member.bit_size.to_le_bytes());
                hash.update(btf.get(member.type_id)?.name);
                hash.update([0]);
            }
        }
        Kind::Enumeration(of) => {
            hash.update(of.size.to_le_bytes());
            for value in btf.values(id, of) {
                let (name, value) = value?;
                hash.update(name);
                hash.update([0]);
                hash.update(value.to_le_bytes());
            }
        }
        _ => {}
    }
    let digest = hash.finalize();
    Ok(hex::encode(digest.get(..8).unwrap_or(&digest)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn names(table: &Table) -> Vec<(String, Id)> {
        let bytes = table.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        let names = Names::of(&btf).unwrap();
        let all = [Space::Aggregate, Space::Enumeration];
        all.into_iter()
            .flat_map(|space| names.all(space))
            .map(|(name, id)| {
                let own = btf.get(id).unwrap().name;
                assert_eq!(names.name(id, own), name);
                (name.to_owned(), id)
            })
            .collect()
    }

    #[test]
    fn the_first_keeps_a_name_and_a_typedef_gives_one() {
        let mut table = Table::new();
        let int = table.integer("int", 4, 1);
        table.composite(STRUCT, "ring", 4, &[("a", int, 0)]);
        table.composite(STRUCT, "ring", 4, &[("b", int, 0)]);
        let unnamed = table.composite(STRUCT, "", 4, &[("c", int, 0)]);
        let constant = table.plain(CONST, "", unnamed);
        table.plain(TYPEDEF, "caps", constant);
        table.plain(TYPEDEF, "other", unnamed);
        // The values of `color` come after a declaration without; and it may have the name of a struct.
        table.plain(ENUM, "ring", 4);
        table.plain(ENUM, "color", 4);
        let red = table.name("RED");
        table.add(ENUM, "color", 4, &[[red, 0]]);
        table.composite(STRUCT, "array", 4, &[]);
        let found = names(&table);
        assert!(found.iter().any(|(name, id)| name == "caps" && *id == 4));
        assert!(found.iter().any(|(name, id)| name == "color" && *id == 10));
        let starts: Vec<(&str, Id)> = found
            .iter()
            .map(|(name, id)| (name.get(..5).unwrap_or(name), *id))
            .collect();
        let want = [
            ("array", 11),
            ("caps", 4),
            ("ring", 2),
            ("ring_", 3),
            ("color", 10),
            ("ring", 8),
        ];
        assert_eq!(starts, want);
        assert_eq!(found[0].0.len(), "array_".len() + 16, "a word of the ISF");
    }

    #[test]
    fn a_name_that_is_made_depends_on_the_content_alone() {
        let made = |before: u32, member: &str| {
            let mut table = Table::new();
            let int = table.integer("int", 4, 1);
            for _ in 0..before {
                table.plain(PTR, "", int);
            }
            table.composite(UNION, "", 4, &[(member, int, 0)]);
            names(&table)[0].0.clone()
        };
        assert!(made(0, "x").starts_with("unnamed_"));
        assert_eq!(made(0, "x"), made(7, "x"));
        assert_ne!(made(0, "x"), made(0, "y"));
    }

    #[test]
    fn there_is_a_limit() {
        let mut table = Table::new();
        for _ in 0..=MAX_NAMED {
            table.plain(STRUCT, "", 0);
        }
        let bytes = table.bytes();
        let refused = Names::of(&Btf::parse(&bytes).unwrap());
        assert!(matches!(refused, Err(SymbolsError::TooManyTypes(_))));
    }

    #[test]
    fn a_flood_of_equal_types_ends() {
        let mut table = Table::new();
        for _ in 0..10_000 {
            table.plain(STRUCT, "", 0);
        }
        let found = names(&table);
        assert_eq!(found.len(), 10_000);
        assert!(found.iter().any(|(name, _)| name.ends_with("_10000")));
    }
}
