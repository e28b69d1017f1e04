//! The bodyfile: a line for each name that the walk came by, for The Sleuth Kit's `mactime` and for timelines.

use std::fmt::Write as _;

use evidence::inventory::FileType;

use crate::host::Stat;

/// `MD5|name|inode|mode|uid|gid|size|atime|mtime|ctime|crtime` (The Sleuth Kit's body file, version 3).
///
/// mactime drops lines whose name holds a `|` without a word, so that and all that is not plain text is escaped.
pub(super) fn line(path: &[u8], stat: &Stat, target: Option<&[u8]>) -> Vec<u8> {
    let mut line = String::with_capacity(path.len() + 128);
    line.push_str("0|");
    escape(&mut line, path);
    if let Some(target) = target {
        line.push_str(" -> ");
        escape(&mut line, target);
    }
    let mode = mode_text(stat.file_type(), stat.mode);
    let (uid, gid, size, inode) = (stat.uid, stat.gid, stat.size, stat.inode);
    let _ = write!(
        line,
        "|{inode}|{mode}|{uid}|{gid}|{size}|{}|{}|{}|",
        stat.atime, stat.mtime, stat.ctime
    );
    let _ = match stat.btime {
        Some(time) => write!(line, "{time}"),
        None => line.write_char('0'),
    };
    line.into_bytes()
}

/// Appends `bytes` so that neither a reader of lines nor a terminal takes them for more than a name.
fn escape(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '|' | '\\' => {
                    let _ = write!(text, "\\x{:02x}", u32::from(character));
                }
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

    fn escaped(bytes: &[u8]) -> String {
        let mut text = String::new();
        escape(&mut text, bytes);
        text
    }

    #[test]
    fn a_line_has_eleven_fields_and_zero_for_an_unknown_birth() {
        let stat = Stat {
            mode: 0o120_777,
            inode: 7,
            ..Stat::default()
        };
        let line = String::from_utf8(line(b"/a|b", &stat, Some(b"c"))).unwrap();
        assert_eq!(line.split('|').count(), 11, "{line}");
        assert!(
            line.starts_with("0|/a\\x7cb -> c|7|l/lrwxrwxrwx|") && line.ends_with("|0"),
            "{line}"
        );
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
