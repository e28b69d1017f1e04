//! Journals of custody as files, each with what is to be said of it in `expected.json`.

use std::collections::BTreeMap;
use std::fs;

use evidence::custody::{Custody, CustodyError};
use serde_json::{Map, Value, json};

use crate::{WRITE, common};

const CASE: &str = "IR-2026-17";

fn event(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn valid() -> String {
    let mut custody = Custody::new(CASE.parse().unwrap());
    let collection = "IR-2026-17/i-0a1b2c3d4e5f60718/20260314T150926Z-5f3a";
    let acts = [
        (
            "2026-03-14T15:00:00Z",
            "j.doe",
            json!({"kind": "opened", "reason": "GuardDuty finding"}),
        ),
        (
            "2026-03-14T15:02:10.25Z",
            "arn:aws:sts::111122223333:assumed-role/responder/j.doe",
            json!({"kind": "collected", "collection": collection, "exit_code": 3, "lost": [null, {"b": -1, "a": true}]}),
        ),
        (
            "2026-03-14T16:20:00.5Z",
            "J\u{f6}rg \"\\\u{1f50f}\u{7f}",
            json!({"kind": "sealed", "collection": collection}),
        ),
        ("2026-03-14T16:20:00.5Z", "", json!({"kind": ""})),
    ];
    for (time, operator, act) in acts {
        custody.append(time, operator, event(&act)).unwrap();
    }
    custody.to_text().unwrap()
}

/// Journals by name, and the word for what is wrong with each.
fn journals() -> BTreeMap<&'static str, (String, &'static str)> {
    let text = valid();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let replaced = |from: &str, to: &str| {
        let edited = text.replacen(from, to, 1);
        assert_ne!(edited, text);
        edited
    };
    BTreeMap::from([
        ("valid", (text.clone(), "valid")),
        ("empty", (String::new(), "valid")),
        ("first-records-only", (lines[..2].concat(), "valid")),
        ("edited", (replaced("GuardDuty", "guardduty"), "previous")),
        (
            "reordered",
            ([lines[0], lines[2], lines[1], lines[3]].concat(), "number"),
        ),
        ("removed-first", (lines[1..].concat(), "number")),
        (
            "removed-middle",
            ([lines[0], lines[2], lines[3]].concat(), "number"),
        ),
        ("twice", ([lines[0], lines[0]].concat(), "number")),
        (
            "number-edited",
            (replaced("\"number\":1,", "\"number\":2,"), "number"),
        ),
        (
            "other-case",
            (
                text.replace("\"case\":\"IR-2026-17\"", "\"case\":\"IR-2026-18\""),
                "case",
            ),
        ),
        ("cut", (text[..text.len() - 20].to_owned(), "torn")),
        ("cut-newline", (text.trim_end().to_owned(), "torn")),
        ("cut-first", (lines[0][..9].to_owned(), "torn")),
        (
            "edited-and-cut",
            (
                replaced("GuardDuty", "guardduty").trim_end().to_owned(),
                "previous",
            ),
        ),
        (
            "white-space",
            (replaced("\"number\":0", "\"number\": 0"), "record"),
        ),
        ("not-ascii", (replaced("\\u00f6", "\u{f6}"), "record")),
        (
            "upper-case-escape",
            (replaced("\\u00f6", "\\u00F6"), "record"),
        ),
        (
            "fraction",
            (replaced("\"exit_code\":3", "\"exit_code\":3.0"), "record"),
        ),
        (
            "time-with-offset",
            (replaced("15:00:00Z", "15:00:00+00:00"), "record"),
        ),
        (
            "without-kind",
            (replaced("\"kind\":\"opened\",", ""), "record"),
        ),
        (
            "unknown-field",
            (replaced("{\"case\"", "{\"also\":1,\"case\""), "record"),
        ),
        ("empty-line", (replaced("\n", "\n\n"), "record")),
        ("of-dos", (text.replace('\n', "\r\n"), "record")),
    ])
}

fn word(result: &Result<Custody, CustodyError>) -> &'static str {
    match result {
        Ok(_) => "valid",
        Err(CustodyError::Record { .. }) => "record",
        Err(CustodyError::Case { .. }) => "case",
        Err(CustodyError::Number { .. }) => "number",
        Err(CustodyError::Previous { .. }) => "previous",
        Err(CustodyError::Torn { .. }) => "torn",
    }
}

/// What `expected.json` says of a journal: the word, and the head or the bytes that are whole where there are such.
fn judged(journal: &[u8]) -> Value {
    let result = Custody::parse(CASE.parse().unwrap(), journal);
    let mut judged = json!({"answer": word(&result)});
    match result {
        Ok(custody) => {
            judged["records"] = json!(custody.next_number());
            judged["head"] = json!(custody.head());
        }
        Err(CustodyError::Torn { valid_bytes }) => judged["valid_bytes"] = json!(valid_bytes),
        Err(_) => (),
    }
    judged
}

#[test]
fn journals_of_custody_are_reproducible_and_judged_as_they_should() {
    let folder = common::folder().join("custody");
    let journals = journals();
    if std::env::var_os(WRITE).is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let mut expected = Map::new();
        for (name, (text, _)) in &journals {
            fs::write(folder.join(format!("{name}.jsonl")), text).unwrap();
            expected.insert(format!("{name}.jsonl"), judged(text.as_bytes()));
        }
        let expected = serde_json::to_string_pretty(&expected).unwrap() + "\n";
        fs::write(folder.join("expected.json"), expected).unwrap();
    }
    let mut files = common::files(&folder);
    let expected = files.remove("expected.json").unwrap();
    let expected: BTreeMap<String, Value> = serde_json::from_slice(&expected).unwrap();
    assert_eq!(files.len(), journals.len());
    for (name, (text, answer)) in journals {
        let file = format!("{name}.jsonl");
        assert!(
            files[&file] == text.as_bytes(),
            "{name}: {WRITE}=1 writes it anew"
        );
        assert_eq!(expected[&file], judged(text.as_bytes()), "{name}");
        assert_eq!(expected[&file]["answer"], answer, "{name}");
    }
}
