//! The vectors as files: what a test reads of them.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses a part of this, and may fail loudly"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What a vector is expected to say; the same text is there for other implementations.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub about: String,
    pub verdict: String,
    pub problems: Vec<String>,
    /// Keys of segments that are whole, but stand beyond one that is missing.
    #[serde(default)]
    pub beyond_gap: Vec<String>,
    /// How far the seal can be relied on.
    #[serde(default = "unsealed")]
    pub seal: String,
    /// The key that the reader is told to trust, in the folder `keys`.
    #[serde(default)]
    pub key: Option<String>,
    /// `pass` when `packaging/verify.sh` can not see the flaw.
    pub shell: String,
}

fn unsealed() -> String {
    "unsealed".to_owned()
}

/// A vector on disk.
#[derive(Clone)]
pub struct Stored {
    pub name: String,
    pub collection: PathBuf,
    pub expected: Expected,
}

/// The folder of the vectors.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Path of a key of the vectors.
pub fn key(name: &str) -> PathBuf {
    folder().join("keys").join(name)
}

/// All vectors of a kind, `valid` or `hostile`.
pub fn stored(kind: &str) -> Vec<Stored> {
    let mut all: Vec<Stored> = fs::read_dir(folder().join(kind))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let expected = fs::read(path.join("expected.json")).unwrap();
            Stored {
                name: path.file_name().unwrap().to_string_lossy().into_owned(),
                collection: path.join("collection"),
                expected: serde_json::from_slice(&expected).unwrap(),
            }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!all.is_empty(), "there are no vectors of kind {kind}");
    all
}

/// Every file below `folder`, with its path relative to it; a symbolic link is read as its target.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let (path, kind) = entry.map(|e| (e.path(), e.file_type().unwrap())).unwrap();
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let content = match kind.is_symlink() {
                true => format!("-> {}", fs::read_link(&path).unwrap().display()).into_bytes(),
                false => fs::read(&path).unwrap(),
            };
            let key = path.strip_prefix(folder).unwrap().to_str().unwrap();
            files.insert(key.to_owned(), content);
        }
    }
    files
}
