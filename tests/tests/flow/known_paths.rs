//! What any public list of paths names is in the inventory, by a second opinion on what matches.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use exhibit_tests::rig::{skip_or_fail, tool};
use serde_json::Value;

use super::collection;

const MATCH: &str = include_str!("known_paths/match.py");
const KNOWN: &str = include_str!("../../../agent/src/capture/files/known_paths.txt");

/// Fails unless each file of this host that matches a known glob is in the inventory of the collection in `folder`, whose run
/// began at `began`, in seconds since 1970.
pub fn are_listed(folder: &Path, began: u64) {
    if tool("python3").is_none() {
        return skip_or_fail("python3 is missing");
    }
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), KNOWN).unwrap();
    let output = Command::new("python3")
        .args(["-c", MATCH])
        .arg(list.path())
        .arg(began.to_string())
        .output()
        .unwrap();
    let names: Vec<String> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let matching = names.iter().map(|name| STANDARD.decode(name).unwrap());
    let matching: BTreeSet<Vec<u8>> = matching.collect();
    assert!(matching.len() > 100, "{matching:?}");

    let inventory = collection::inventory(folder);
    let path = |line: &Value| match line["path"].as_str() {
        Some(path) => path.as_bytes().to_vec(),
        None => STANDARD.decode(line["path_b64"].as_str().unwrap()).unwrap(),
    };
    let listed: BTreeSet<Vec<u8>> = inventory.iter().map(path).collect();
    let missing: Vec<String> = matching
        .iter()
        .filter(|path| !listed.contains(&[b"[root]", path.as_slice()].concat()))
        .map(|path| path.escape_ascii().to_string())
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {}: {missing:?}",
        missing.len(),
        matching.len()
    );
}
