//! What each distribution keeps where is found there: trees laid out as its packages lay them out, with the artifact that
//! takes each file. Lines are `path artifact`, or `path artifact status` where the content is not taken.
//!
//! `EXHIBIT_WRITE_DISTRIBUTIONS=1` writes the lists anew, to be looked at before they are committed.

use std::collections::BTreeMap;
use std::path::Path;

use exhibit_tests::rig::agent::Agent;

use super::{collect, collection, folder};

const WRITE: &str = "EXHIBIT_WRITE_DISTRIBUTIONS";

/// Lays out the files of a list; each has its own path as content.
fn lay_out<'a>(root: &Path, paths: impl Iterator<Item = &'a str>) {
    for path in paths {
        let content = match path {
            "/etc/passwd" => "root:x:0:0::/root:/bin/sh\n".to_owned(),
            _ => format!("{path}\n"),
        };
        let path = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// The artifact that took each file of the root, and its status unless it was captured.
fn taken(root: &Path) -> BTreeMap<String, String> {
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let root = root.to_str().unwrap();
    let more = ["--root", root, "--exclude", "memory,executables,contained"];
    let ended = collect(&agent, to.path().to_str().unwrap(), &more);
    assert!([0, 3].contains(&ended.code), "{ended:?}");
    let inventory = collection::inventory(&folder(to.path(), &ended.prefix()));
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_owned();
    let lines = inventory.iter().filter_map(|line| {
        let path = line["path"].as_str()?.strip_prefix("[root]")?.to_owned();
        let (artifact, status) = (text(line, "artifact"), text(line, "status"));
        let taken = match status.as_str() {
            "captured" => artifact,
            _ => format!("{artifact} {status}"),
        };
        Some((path, taken))
    });
    lines.collect()
}

#[test]
fn what_each_distribution_keeps_is_found() {
    let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/flow/distributions");
    let mut seen = 0;
    for entry in std::fs::read_dir(&lists).unwrap() {
        let list = entry.unwrap().path();
        let expected = std::fs::read_to_string(&list).unwrap();
        let path = |line: &'_ str| line.split(' ').next().unwrap().to_owned();
        let paths: Vec<String> = expected.lines().map(path).collect();
        let root = tempfile::tempdir().unwrap();
        lay_out(root.path(), paths.iter().map(String::as_str));
        let taken = taken(root.path());
        let none = "-".to_owned();
        let line = |path: &String| format!("{path} {}\n", taken.get(path).unwrap_or(&none));
        let found: String = paths.iter().map(line).collect();
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&list, &found).unwrap();
        }
        let differ = found
            .lines()
            .zip(expected.lines())
            .filter(|(a, b)| a != b)
            .collect::<Vec<_>>();
        let name = list.file_stem().unwrap().to_string_lossy();
        assert!(
            differ.is_empty() || std::env::var_os(WRITE).is_some(),
            "{name}, found and expected: {differ:#?}"
        );
        seen += 1;
    }
    assert_eq!(seen, 13);
}
