//! Packages and their files, with dpkg as the judge.

use std::collections::BTreeSet;
use std::process::Command;

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::skip_or_fail;

use super::{collect, collection, folder};

/// Paths that `dpkg -V` calls changed or missing; what it could not read is left out.
fn by_dpkg() -> Option<BTreeSet<String>> {
    let output = Command::new("dpkg").arg("-V").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let differs = text
        .lines()
        .filter(|line| line.starts_with("missing") || line.get(2..3) == Some("5"));
    let path = |line: &str| line.find(" /").map(|at| line[at + 1..].to_owned());
    Some(differs.filter_map(path).collect())
}

#[test]
fn files_differ_as_dpkg_says() {
    let Some(want) = by_dpkg() else {
        return skip_or_fail("dpkg is not installed");
    };
    let agent = Agent::built().expect("an agent");
    let to = tempfile::tempdir().unwrap();
    let more = ["--include", "installed,integrity", "--normal-priority"];
    let ended = collect(&agent, to.path().to_str().unwrap(), &more);
    let members = collection::members(&folder(to.path(), &ended.prefix()));
    let of_deb = |row: &&serde_json::Value| row["package"]["type"] == "deb";
    let rows = collection::table(&members, "live_response/packages/integrity.jsonl");
    let path =
        |row: &serde_json::Value| row["file"]["path"].as_str().unwrap_or_default().to_owned();
    let got: BTreeSet<String> = rows.iter().filter(of_deb).map(path).collect();
    // Through `/bin` and its like both name the same file.
    let real = |path: &String| match path.strip_prefix("/usr") {
        Some(rest) => rest.to_owned(),
        None => path.clone(),
    };
    let (got, want): (BTreeSet<String>, BTreeSet<String>) = (
        got.iter().map(real).collect(),
        want.iter().map(real).collect(),
    );
    let missed: Vec<&String> = want.difference(&got).collect();
    let invented: Vec<&String> = got.difference(&want).collect();
    assert!(
        missed.is_empty() && invented.is_empty(),
        "missed {missed:?}, invented {invented:?}"
    );
}
