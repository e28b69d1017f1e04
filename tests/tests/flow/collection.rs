//! Reads a collection with stock tools' means alone: segments, zstd, tar, JSON lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// All members of the tar of the collection in `folder`, by name.
pub fn members(folder: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut archive = tar::Archive::new(std::io::Cursor::new(raw_tar(folder)));
    let mut members = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path_bytes().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert!(
            members.insert(name.clone(), content).is_none(),
            "{} is there twice",
            name.escape_ascii()
        );
    }
    members
}

/// The segments of the evidence, in their order.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("evidence")).unwrap();
    let mut segments: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    segments
}

/// Whether `content` has `part` somewhere.
pub fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}

/// The tar that `cat evidence/* | zstd -d` makes.
pub fn raw_tar(folder: &Path) -> Vec<u8> {
    let whole: Vec<u8> = segments(folder)
        .iter()
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect();
    zstd::decode_all(whole.as_slice()).unwrap()
}

/// The lines of the whole inventory, without the rest in memory.
pub fn inventory(folder: &Path) -> Vec<Value> {
    let files = segments(folder)
        .into_iter()
        .map(|path| File::open(path).unwrap());
    let whole = files.fold(
        Box::new(std::io::empty()) as Box<dyn Read>,
        |whole, file| Box::new(whole.chain(file)),
    );
    let mut archive = tar::Archive::new(zstd::Decoder::new(whole).unwrap());
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        if entry.path_bytes().starts_with(b"inventory") {
            let text = BufReader::new(entry).lines();
            lines.extend(text.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()));
        }
    }
    lines
}

/// The lines of a table, all parts of it.
pub fn table(members: &BTreeMap<Vec<u8>, Vec<u8>>, name: &str) -> Vec<Value> {
    let stem = name.strip_suffix(".jsonl").unwrap();
    let is_part = |member: &&Vec<u8>| {
        let member = String::from_utf8_lossy(member).into_owned();
        let rest = member
            .strip_prefix(stem)
            .and_then(|rest| rest.strip_suffix(".jsonl"))
            .map(str::to_owned);
        rest.is_some_and(|rest| {
            rest.is_empty()
                || rest
                    .strip_prefix(['.', '/'])
                    .is_some_and(|n| n.parse::<u32>().is_ok())
        })
    };
    let parts = members.keys().filter(is_part);
    parts
        .flat_map(|part| members[part].split(|b| *b == b'\n'))
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// The manifest in `folder`.
pub fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

/// The report on one artifact.
pub fn artifact<'a>(manifest: &'a Value, name: &str) -> &'a Value {
    let artifacts = manifest["artifacts"].as_array().unwrap();
    artifacts
        .iter()
        .find(|artifact| artifact["name"] == name)
        .unwrap_or_else(|| panic!("no artifact {name}"))
}
