//! Refuses unnamed types that contain themselves or far too much: whoever reads the file lifts their members into the type
//! around them, and would not end.

use std::collections::HashMap;

use super::SymbolsError;
use super::btf::{Id, Kind};
use super::names::MAX_STEPS;
use super::shapes::Shapes;

/// Most members of a type, with those of the unnamed types in it: a reader of the file lifts them into it. The largest
/// struct of a distribution's kernel has some 500.
const MAX_FIELDS: u64 = 100_000;

/// The types that were checked.
#[derive(Default)]
pub struct Depth {
    /// What is known by type; `None` while it is counted.
    known: HashMap<Id, Option<Lifted>>,
}

/// What is lifted out of the unnamed types of a type.
#[derive(Clone, Copy)]
struct Lifted {
    fields: u64,
    /// How often a type is in a type.
    depth: usize,
}

impl Depth {
    /// Checks a struct or union.
    ///
    /// # Errors
    /// [`SymbolsError::Circle`] or [`SymbolsError::Crowded`].
    pub fn check(&mut self, shapes: &Shapes<'_, '_>, id: Id) -> Result<(), SymbolsError> {
        self.lifted(shapes, id, MAX_STEPS).map(drop)
    }

    fn lifted(
        &mut self,
        shapes: &Shapes<'_, '_>,
        id: Id,
        left: usize,
    ) -> Result<Lifted, SymbolsError> {
        let circle = || SymbolsError::Circle(id);
        match self.known.get(&id) {
            Some(known) => return known.ok_or_else(circle),
            None => self.known.insert(id, None),
        };
        let left = left.checked_sub(1).ok_or_else(circle)?;
        let mut sum = Lifted {
            fields: 1,
            depth: 0,
        };
        if let Kind::Struct(of) | Kind::Union(of) = shapes.btf.get(id)?.kind {
            for member in shapes.btf.members(id, of) {
                let member = member?;
                if member.name.is_empty() {
                    let inner = self.lifted(shapes, shapes.bare(member.type_id)?, left)?;
                    sum.fields = sum.fields.saturating_add(inner.fields);
                    sum.depth = sum.depth.max(inner.depth + 1);
                } else {
                    sum.fields = sum.fields.saturating_add(1);
                }
            }
        }
        if sum.fields > MAX_FIELDS {
            return Err(SymbolsError::Crowded(id));
        }
        if sum.depth > MAX_STEPS {
            return Err(circle());
        }
        self.known.insert(id, Some(sum));
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::super::btf::Btf;
    use super::super::testing::*;
    use super::*;

    fn depth(table: &Table, id: Id) -> Result<(), SymbolsError> {
        let bytes = table.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        let shapes = Shapes::of(&btf).unwrap();
        let mut depth = Depth::default();
        (1..=id).try_for_each(|id| depth.check(&shapes, id))
    }

    #[test]
    fn types_that_contain_themselves_or_too_much_are_refused() {
        let mut table = Table::new();
        table.composite(STRUCT, "", 4, &[("", 2, 0)]);
        table.composite(UNION, "", 4, &[("", 1, 0)]);
        assert!(matches!(depth(&table, 2), Err(SymbolsError::Circle(_))));

        // Each contains the one before it: in this order nothing is ever deep.
        let mut table = Table::new();
        for _ in 0..=MAX_STEPS + 1 {
            let before = table.last();
            table.composite(STRUCT, "", 4, &[("", before, 0)]);
        }
        let last = table.last();
        assert!(matches!(depth(&table, last), Err(SymbolsError::Circle(_))));

        // Each contains the one before it twice.
        let mut table = Table::new();
        for _ in 0..20 {
            let before = table.last();
            table.composite(STRUCT, "", 4, &[("", before, 0), ("", before, 0)]);
        }
        assert!(matches!(depth(&table, 20), Err(SymbolsError::Crowded(_))));
    }
}
