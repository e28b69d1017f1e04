//! What programs read: every field that `--json` prints stands in `docs/json.md`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Bench;
use super::snapshot::Disks;

const DOCUMENT: &str = include_str!("../../../docs/json.md");

/// Names of fields, but for those that are data: a file's path, a member's name.
fn names(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                into.insert(name.clone());
                names(value, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, into)),
        _ => {}
    }
}

fn undocumented(what: &str, value: &Value) -> Vec<String> {
    let mut found = BTreeSet::new();
    names(value, &mut found);
    let missing = found
        .into_iter()
        .filter(|name| !DOCUMENT.contains(&format!("`{name}`")));
    missing.map(|name| format!("{what}: {name}")).collect()
}

#[test]
fn every_field_of_every_output_is_documented() {
    let Some(mut disks) = Disks::start() else {
        return;
    };
    let instance = disks.bench.instance(&[], |runner| runner);
    let bench: &Bench = &disks.bench;
    let mut missing = Vec::new();
    let mut run = |arguments: &[&str], code: i32| {
        let ended = bench.run(arguments).expect(code);
        missing.extend(undocumented(&arguments.join(" "), &ended.json()));
        for line in ended.stderr.lines() {
            if let Ok(value) = serde_json::from_str(line) {
                missing.extend(undocumented(
                    &format!("{} (progress)", arguments.join(" ")),
                    &value,
                ));
            }
        }
    };
    run(&["doctor", "--instance", &instance], 43);
    run(&["case", "open", "IR-7", "--reason", "GuardDuty 1234"], 0);
    let collect = ["collect", "--case", "IR-7", "--instance", &instance];
    run(&[&collect[..], &["--dry-run"]].concat(), 0);
    run(&collect, 0);
    let snapshot = disks.arguments("IR-7");
    run(&[&snapshot[..], &["--dry-run"]].concat(), 0);
    run(&snapshot, 0);
    run(&["resume", "IR-7", "--dry-run"], 0);
    run(&["cancel", "IR-7", "--dry-run"], 0);
    run(&["status", "IR-7"], 0);
    run(&["verify", "IR-7"], 0);
    run(&["verify", "IR-7", "--deep"], 0);
    run(&["seal", "IR-7"], 0);
    run(&["fetch", "IR-7", "--to", "copy", "--dry-run"], 0);
    run(&["fetch", "IR-7", "--to", "copy"], 0);
    run(&["verify", "--offline", "copy"], 0);
    run(&["case", "export", "IR-7", "--to", "bag", "--dry-run"], 0);
    run(&["case", "export", "IR-7", "--to", "bag"], 0);
    run(
        &[
            "case", "release", "IR-7", "--to", "J. Doe", "--reason", "closed",
        ],
        0,
    );
    run(&["case", "list"], 0);
    run(&["case", "show", "IR-7"], 0);
    missing.sort();
    missing.dedup();
    assert!(missing.is_empty(), "docs/json.md lacks {missing:#?}");
}
