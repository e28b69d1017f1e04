//! Small tables of types, made by hand.

use super::btf::Id;

pub const INT: u32 = 1;
pub const PTR: u32 = 2;
pub const ARRAY: u32 = 3;
pub const STRUCT: u32 = 4;
pub const UNION: u32 = 5;
pub const ENUM: u32 = 6;
pub const FWD: u32 = 7;
pub const TYPEDEF: u32 = 8;
pub const VOLATILE: u32 = 9;
pub const CONST: u32 = 10;
pub const RESTRICT: u32 = 11;
pub const FUNC: u32 = 12;
pub const FUNC_PROTO: u32 = 13;
pub const VAR: u32 = 14;
pub const DATASEC: u32 = 15;
pub const FLOAT: u32 = 16;
pub const DECL_TAG: u32 = 17;
pub const TYPE_TAG: u32 = 18;
pub const ENUM64: u32 = 19;
/// `kind_flag`, to be added to a kind.
pub const FLAG: u32 = 1 << 7;

/// Words that a type has once, behind its header; the others are so many to each of vlen.
const ONCE: &[u32] = &[INT, ARRAY, VAR, DECL_TAG];

/// A table that grows.
pub struct Table {
    types: Vec<u8>,
    pub strings: Vec<u8>,
    count: Id,
}

impl Table {
    pub fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            count: 0,
        }
    }

    /// Where the strings have this name.
    pub fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    /// A type with the words that follow its header, in groups.
    pub fn add<const N: usize>(
        &mut self,
        kind: u32,
        name: &str,
        size: u32,
        groups: &[[u32; N]],
    ) -> Id {
        let length = match ONCE.contains(&(kind & 0x1F)) {
            true => 0,
            false => groups.len() as u32,
        };
        let name = self.name(name);
        for word in [name, kind << 24 | length, size]
            .iter()
            .chain(groups.as_flattened())
        {
            self.types.extend(word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    /// A type that has no words but its header.
    pub fn plain(&mut self, kind: u32, name: &str, size: u32) -> Id {
        self.add::<0>(kind, name, size, &[])
    }

    /// An integer; encoding as `BTF_INT_SIGNED` and its like.
    pub fn integer(&mut self, name: &str, size: u32, encoding: u32) -> Id {
        self.add(INT, name, size, &[[(encoding << 24) | (size * 8)]])
    }

    /// A struct or union of members: name, type, offset.
    pub fn composite(
        &mut self,
        kind: u32,
        name: &str,
        size: u32,
        members: &[(&str, Id, u32)],
    ) -> Id {
        let groups: Vec<[u32; 3]> = members
            .iter()
            .map(|(name, id, offset)| [self.name(name), *id, *offset])
            .collect();
        self.add(kind, name, size, &groups)
    }

    /// The number of the last type; 0 when there is none.
    pub fn last(&self) -> Id {
        self.count
    }

    pub fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut bytes = vec![0x9F, 0xEB, 1, 0];
        for word in [24, 0, types, types, strings] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }
}
