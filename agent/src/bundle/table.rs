//! Tables: lines that are gathered in memory until they are worth a member of the tar.

use std::collections::BTreeMap;

/// Bytes of a table at which it is written, to keep memory bounded.
const PART_BYTES: usize = 2 << 20;

/// A piece of a table that is ready to be written.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) artifact: &'static str,
    pub(super) bytes: Vec<u8>,
}

struct Table {
    artifact: &'static str,
    bytes: Vec<u8>,
    parts: u32,
}

#[derive(Default)]
pub(super) struct Tables(BTreeMap<String, Table>);

impl Tables {
    /// Adds a line; the answer is a part that became full.
    pub(super) fn append(
        &mut self,
        name: &str,
        artifact: &'static str,
        line: &[u8],
    ) -> Option<Part> {
        let fresh = || Table {
            artifact,
            bytes: Vec::new(),
            parts: 0,
        };
        let table = self.0.entry(name.to_owned()).or_insert_with(fresh);
        table.bytes.extend_from_slice(line);
        table.bytes.push(b'\n');
        (table.bytes.len() >= PART_BYTES)
            .then(|| take(name, table))
            .flatten()
    }

    /// What is left of the tables of `artifact`.
    pub(super) fn take_of(&mut self, artifact: &str) -> Vec<Part> {
        let tables = self
            .0
            .iter_mut()
            .filter(|(_, table)| table.artifact == artifact);
        tables
            .filter_map(|(name, table)| take(name, table))
            .collect()
    }

    /// What is left of all tables.
    pub(super) fn take_all(&mut self) -> Vec<Part> {
        self.0
            .iter_mut()
            .filter_map(|(name, table)| take(name, table))
            .collect()
    }
}

fn take(name: &str, table: &mut Table) -> Option<Part> {
    if table.bytes.is_empty() {
        return None;
    }
    let number = table.parts;
    table.parts += 1;
    let name = match name.rsplit_once('.') {
        Some((stem, ending)) if number > 0 => format!("{stem}.{number:05}.{ending}"),
        _ => name.to_owned(),
    };
    Some(Part {
        name,
        artifact: table.artifact,
        bytes: std::mem::take(&mut table.bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_tables_are_written_in_parts_with_names_that_sort() {
        let mut tables = Tables::default();
        let line = vec![b'x'; PART_BYTES];
        let first = tables.append("live_response/a.jsonl", "a", &line).unwrap();
        let second = tables.append("live_response/a.jsonl", "a", &line).unwrap();
        assert!(tables.append("live_response/a.jsonl", "a", b"y").is_none());
        let rest = tables.take_of("a");
        let names: Vec<&str> = [&first, &second]
            .into_iter()
            .chain(&rest)
            .map(|part| part.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "live_response/a.jsonl",
                "live_response/a.00001.jsonl",
                "live_response/a.00002.jsonl"
            ]
        );
        assert!(tables.take_all().is_empty());
    }
}
