//! The inventory: one JSON line for everything that was looked at, in the order of the tar.
//!
//! It says what tar can not: hashes, nanoseconds, extended attributes, names that are not UTF-8, and what was *not*
//! captured and why. The last member of the tar is [`NAME`]; a long inventory spills into [`part_name`]s before it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Name of the last member of the tar.
pub const NAME: &str = "inventory.jsonl";
/// Size at which the inventory so far is written as a part, in bytes, so that memory stays bounded.
pub const PART_BYTES: usize = 4 << 20;
/// Longest line that is read, in bytes.
pub const MAX_LINE: usize = 1 << 20;

/// Name of a part that comes before the last.
pub fn part_name(number: u32) -> String {
    format!("inventory/{number:05}.jsonl")
}

/// What became of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All bytes are in the tar.
    Captured,
    /// Only metadata was wanted: a directory, a device, a FIFO.
    Metadata,
    /// The first bytes are in the tar; a limit cut the rest.
    Truncated,
    /// The file shrank while it was read: zeros fill its place in the tar, `short_at` says from where.
    Shrank,
    /// Gone before it could be read, as processes are.
    Vanished,
    /// The kernel refused.
    Denied,
    /// Not answered in time.
    TimedOut,
    /// Another error.
    Failed,
    /// Left out by a rule, which `reason` names.
    Skipped,
}

impl Status {
    /// Whether something that was wanted is not in the tar.
    pub fn is_loss(self) -> bool {
        !matches!(self, Self::Captured | Self::Metadata | Self::Vanished)
    }
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileType {
    File,
    Symlink,
    Directory,
    Fifo,
    Socket,
    BlockDevice,
    CharDevice,
    Unknown,
}

/// Metadata of the original, as `statx(2)` gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// `st_mode`, type bits included, in octal.
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    /// Size that the kernel states, in bytes; 0 for most of `/proc`.
    pub size: u64,
    pub nlink: u32,
    pub inode: u64,
    /// `major:minor` of the file system.
    pub device: String,
    /// Times as `seconds.nanoseconds` since the epoch.
    pub atime: String,
    pub mtime: String,
    pub ctime: String,
    /// Birth time, where the file system keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub btime: Option<String>,
    /// Extended attributes, base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// A path as text, or as base64 when it is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    Path(String),
    PathB64(String),
}

impl Name {
    /// The name that stands for `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Path(text.to_owned()),
            Err(_) => Self::PathB64(BASE64.encode(bytes)),
        }
    }

    /// The bytes, when the name is well-formed and in its only form.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Path(text) => Some(text.clone().into_bytes()),
            Self::PathB64(text) => BASE64
                .decode(text)
                .ok()
                .filter(|bytes| std::str::from_utf8(bytes).is_err()),
        }
    }
}

/// One line of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the member in the tar, or the one that it would have.
    #[serde(flatten)]
    pub name: Name,
    /// The artifact that looked at it.
    pub artifact: String,
    #[serde(rename = "type")]
    pub file_type: FileType,
    pub status: Status,
    /// Why it is not captured, in words of ours or of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Name of the kernel's error, such as `EACCES`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// Where the content starts in the tar. Present exactly when the item is a member of the tar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Bytes of content in the tar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 of the content in the tar. Present for every regular member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Target of a symbolic link, as text or, when it is not UTF-8, as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Name>,
    /// For `shrank`: bytes that were really read; zeros fill the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_at: Option<u64>,
    /// Size that the file had grown to when the read ended; the bytes past `size` are not in the tar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grew_to: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// When it was read, as `seconds.nanoseconds` since the epoch by the host's clock.
    pub read_at: String,
}

/// Why a line is not an inventory entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error("not an inventory entry: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the line is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("its name is not well-formed base64 of a name that is not UTF-8")]
    Name,
    #[error("it is not in the form that the agent writes")]
    NotCanonical,
}

impl Entry {
    /// The line, with its newline.
    ///
    /// # Errors
    /// Never for entries that can be built: the error is serde's.
    pub fn to_line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// Reads a line without its newline.
    ///
    /// # Errors
    /// For anything that [`Entry::to_line`] does not write.
    pub fn parse(line: &[u8]) -> Result<Self, EntryError> {
        if line.len() > MAX_LINE {
            return Err(EntryError::TooLong);
        }
        let entry: Self = serde_json::from_slice(line)?;
        if entry.name.bytes().is_none()
            || entry
                .target
                .as_ref()
                .is_some_and(|target| target.bytes().is_none())
        {
            return Err(EntryError::Name);
        }
        if entry.to_line()?.strip_suffix(b"\n") != Some(line) {
            return Err(EntryError::NotCanonical);
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8]) -> Entry {
        Entry {
            name: Name::of(name),
            artifact: "files".to_owned(),
            file_type: FileType::File,
            status: Status::Captured,
            reason: None,
            errno: None,
            offset: Some(512),
            size: Some(3),
            sha256: Some(Digest::of(b"abc")),
            target: None,
            short_at: None,
            grew_to: None,
            metadata: Some(Metadata {
                mode: "100644".to_owned(),
                ..Metadata::default()
            }),
            read_at: "1.000000002".to_owned(),
        }
    }

    #[test]
    fn names_of_any_bytes_read_back() {
        for name in [
            b"[root]/etc/passwd".as_slice(),
            b"a\nb\x1b",
            b"\xff\xfe",
            "caf\u{e9}".as_bytes(),
        ] {
            let line = entry(name).to_line().unwrap();
            assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
            let read = Entry::parse(line.strip_suffix(b"\n").unwrap()).unwrap();
            assert_eq!(read.name.bytes().unwrap(), name);
        }
    }

    #[test]
    fn a_second_form_of_the_same_name_is_refused() {
        let line = String::from_utf8(entry(b"\xff").to_line().unwrap()).unwrap();
        let ascii_in_base64 = line.replace("/w==", "YWJj");
        assert!(matches!(
            Entry::parse(ascii_in_base64.trim_end().as_bytes()),
            Err(EntryError::Name)
        ));
        let spaced = line.trim_end().replace("\"size\":3", "\"size\": 3");
        assert!(matches!(
            Entry::parse(spaced.as_bytes()),
            Err(EntryError::NotCanonical)
        ));
        assert!(Entry::parse(b"{}").is_err());
        assert!(matches!(
            Entry::parse(&vec![b' '; MAX_LINE + 1]),
            Err(EntryError::TooLong)
        ));
    }
}
