//! Facts of every kind are planted on this machine, in layers and namespaces of their own, and all are found.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::{skip_or_fail, tool};
use serde_json::Value;

use super::{Ended, collection, folder, run, verify};

const PLANT: &str = include_str!("ground/plant.py");

/// Whether `value` has all of `want`: each key of an object, each element of an array somewhere.
fn has(value: &Value, want: &Value) -> bool {
    match (value, want) {
        (Value::Object(value), Value::Object(want)) => want
            .iter()
            .all(|(key, want)| value.get(key).is_some_and(|value| has(value, want))),
        (Value::Array(value), Value::Array(want)) => want
            .iter()
            .all(|want| value.iter().any(|value| has(value, want))),
        _ => value == want,
    }
}

/// A collection, to look facts up in.
struct Found {
    members: BTreeMap<Vec<u8>, Vec<u8>>,
    tables: BTreeMap<String, Vec<Value>>,
    inventory: Vec<Value>,
}

impl Found {
    fn of(folder: &Path) -> Self {
        Self {
            members: collection::members(folder),
            tables: BTreeMap::new(),
            inventory: collection::inventory(folder),
        }
    }

    fn rows(&mut self, table: &str) -> &[Value] {
        let rows = || collection::table(&self.members, table);
        self.tables.entry(table.to_owned()).or_insert_with(rows)
    }

    fn is_content(&self, member: &[u8], sha256: &Value) -> bool {
        let content = self.members.get(member);
        content.is_some_and(|content| {
            hex::encode(<sha2::Sha256 as sha2::Digest>::digest(content)) == *sha256
        })
    }

    /// Whether the fact is in the collection, by its bytes.
    fn holds(&mut self, fact: &Value) -> bool {
        let text = |key: &str| fact[key].as_str();
        let bytes = |key: &str| text(key).map(|text| STANDARD.decode(text).unwrap());
        if let Some(member) = bytes("member") {
            self.is_content(&member, &fact["sha256"])
        } else if let Some(member) = text("within") {
            let stem = member.strip_suffix(".txt").unwrap_or(member);
            let part = bytes("part").unwrap();
            self.members.iter().any(|(name, content)| {
                (name == member.as_bytes() || name.starts_with(format!("{stem}.0").as_bytes()))
                    && collection::contains(content, &part)
            })
        } else if let Some(table) = text("table") {
            self.rows(table).iter().any(|row| has(row, &fact["has"]))
        } else if fact["recovered"].is_object() {
            let rows = self.rows("live_response/process/recovered.jsonl");
            let of = rows.iter().filter(|row| has(row, &fact["recovered"]));
            let members: Vec<String> = of
                .filter_map(|row| row["member"].as_str().map(str::to_owned))
                .collect();
            members
                .iter()
                .any(|member| self.is_content(member.as_bytes(), &fact["sha256"]))
        } else {
            self.inventory
                .iter()
                .any(|row| has(row, &fact["inventory"]))
        }
    }
}

#[test]
fn facts_of_every_kind_are_found_by_their_bytes() {
    if !super::manners::is_root() {
        return skip_or_fail("planting needs root");
    }
    for name in [
        "python3",
        "unshare",
        "ip",
        "tc",
        "iptables-legacy",
        "iptables-nft",
    ] {
        if tool(name).is_none() {
            return skip_or_fail(&format!("{name} is missing"));
        }
    }
    let agent = Agent::built().unwrap();
    let to = tempfile::tempdir().unwrap();
    let (facts, plant) = (to.path().join("facts.json"), to.path().join("plant.py"));
    std::fs::write(&plant, PLANT).unwrap();
    let ended: Ended = run(Command::new("unshare")
        .args(["--mount", "--propagation", "private", "python3"])
        .args([&plant, agent.program(), to.path(), &facts]));
    assert!(ended.code == 0 || ended.code == 3, "{ended:?}");
    let facts: Vec<Value> = serde_json::from_slice(&std::fs::read(facts).unwrap()).unwrap();
    assert!(facts.len() >= 60, "only {} facts", facts.len());

    let folder = folder(to.path(), &ended.prefix());
    let mut found = Found::of(&folder);
    let lost: Vec<&Value> = facts.iter().filter(|fact| !found.holds(fact)).collect();
    assert!(
        lost.is_empty(),
        "{} of {}: {lost:#?}",
        lost.len(),
        facts.len()
    );
    let hash_of_a_password = b"$y$j9T$planted";
    let members = found.members.iter();
    let leaks: Vec<_> = members
        .filter(|(_, content)| collection::contains(content, hash_of_a_password))
        .collect();
    assert!(
        leaks.is_empty(),
        "{:?}",
        leaks.first().map(|leak| leak.0.escape_ascii().to_string())
    );
    assert_eq!(verify(&agent, folder.to_str().unwrap()).0.code, ended.code);
}
