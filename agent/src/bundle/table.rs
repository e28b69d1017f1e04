//! Tables: lines that are gathered in memory until they are worth a member of the tar.

use std::collections::BTreeMap;

use evidence::inventory::{Entry, FileType, Name};

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

/// A line of a bodyfile (The Sleuth Kit's `mactime`): `MD5|name|inode|mode|uid|gid|size|atime|mtime|ctime|crtime`.
///
/// mactime drops lines whose name holds a `|` without a word, so that and all that is not plain text is escaped.
pub(super) fn body_line(entry: &Entry) -> Option<Vec<u8>> {
    let metadata = entry.metadata.as_ref()?;
    let bytes = entry.name.bytes()?;
    let mut name = escaped(bytes.strip_prefix(super::ROOT.as_bytes())?);
    if let Some(target) = entry.target.as_ref().and_then(Name::bytes) {
        name = format!("{name} -> {}", escaped(&target));
    }
    let mode = u32::from_str_radix(&metadata.mode, 8).unwrap_or(0);
    let line = format!(
        "0|{name}|{}|{}|{}|{}|{}|{}|{}|{}|{}",
        metadata.inode,
        mode_text(entry.file_type, mode),
        metadata.uid,
        metadata.gid,
        metadata.size,
        metadata.atime,
        metadata.mtime,
        metadata.ctime,
        metadata.btime.as_deref().unwrap_or("0"),
    );
    Some(line.into_bytes())
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '|' | '\\' => text.push_str(&format!("\\x{:02x}", u32::from(character))),
                c if c.is_control() => c
                    .to_string()
                    .bytes()
                    .for_each(|b| text.push_str(&format!("\\x{b:02x}"))),
                c => text.push(c),
            }
        }
        chunk
            .invalid()
            .iter()
            .for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// As `ls -l`, with the type twice as The Sleuth Kit writes it.
fn mode_text(file_type: FileType, mode: u32) -> String {
    let kind = match file_type {
        FileType::File | FileType::Unknown => 'r',
        FileType::Symlink => 'l',
        FileType::Directory => 'd',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::BlockDevice => 'b',
        FileType::CharDevice => 'c',
    };
    let special = [(0o4000, 's', 'S'), (0o2000, 's', 'S'), (0o1000, 't', 'T')];
    let mut text = format!("{kind}/{kind}");
    for (index, (bit, with, without)) in special.into_iter().enumerate() {
        let three = mode >> (6 - 3 * index);
        text.push(if three & 4 != 0 { 'r' } else { '-' });
        text.push(if three & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & bit != 0, three & 1 != 0) {
            (true, true) => with,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
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

    #[test]
    fn names_that_mactime_would_drop_or_a_terminal_would_obey_are_escaped() {
        assert_eq!(
            escaped(b"a|b\\c\n\x1b[2J\xff\xc3\xa9"),
            "a\\x7cb\\x5cc\\x0a\\x1b[2J\\xff\u{e9}"
        );
        assert_eq!(escaped("\u{85}".as_bytes()), "\\xc2\\x85");
    }

    #[test]
    fn modes_are_written_as_the_sleuth_kit_does() {
        assert_eq!(mode_text(FileType::File, 0o104_755), "r/rrwsr-xr-x");
        assert_eq!(mode_text(FileType::Directory, 0o41_777), "d/drwxrwxrwt");
        assert_eq!(mode_text(FileType::File, 0o102_644), "r/rrw-r-Sr--");
    }
}
