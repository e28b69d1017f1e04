//! Tables as a kernel gave them (`tests/fixtures/xtables`, where `rules.sh` says what was set), and tables that lie.
//! `BLESS=1` writes `expected` anew, to be read before it is committed.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use super::connections::connection;
use super::entries::Layout;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(FIXTURES).join("xtables").join(name)
}

const TABLES: &[&str] = &["ip-filter", "ip-nat", "ip6-filter", "ip6-nat", "arp-filter"];

/// A recorded table: its layout, its head, its entries.
fn recorded(table: &str) -> (&'static Layout, Vec<u8>, Vec<u8>) {
    let (family, _) = table.split_once('-').unwrap();
    let layout = Layout::ALL.iter().find(|layout| layout.family == family);
    let layout = layout.unwrap();
    let bytes = std::fs::read(fixture(table)).unwrap();
    let (info, entries) = bytes.split_at(layout.info_bytes());
    (layout, info.to_vec(), entries[40..].to_vec())
}

/// The rules of a table, as they are recorded, and whether all of it made sense.
fn rules(layout: &Layout, info: &[u8], entries: &[u8]) -> (Vec<Value>, bool) {
    let mut rules = Vec::new();
    let whole = super::rules::<()>(layout, info, entries, &mut |rule| {
        rules.push(serde_json::to_value(rule).unwrap());
        Ok(())
    });
    (rules, whole.unwrap())
}

#[test]
fn each_table_is_told_as_expected() {
    let mut told = String::new();
    for table in TABLES {
        let (layout, info, entries) = recorded(table);
        assert_eq!(layout.size(&info), Some(entries.len()));
        let (rules, whole) = rules(layout, &info, &entries);
        assert!(whole, "{table}");
        for mut rule in rules {
            rule.as_object_mut().unwrap().remove("raw").unwrap();
            writeln!(told, "{table} {rule}").unwrap();
        }
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(fixture("expected"), &told).unwrap();
    }
    let expected = std::fs::read_to_string(fixture("expected")).unwrap();
    for (got, want) in told.lines().zip(expected.lines()) {
        assert_eq!(got, want);
    }
    assert_eq!(told.lines().count(), expected.lines().count());
}

#[test]
fn a_cut_table_gives_what_came_before() {
    let (layout, info, entries) = recorded("ip-filter");
    let all = rules(layout, &info, &entries).0.len();
    // The last entry is no rule: it has the table's end, 176 bytes of it.
    for cut in 0..entries.len() {
        let (found, whole) = rules(layout, &info, &entries[..cut]);
        assert!(found.len() <= all && (!whole || found.len() < all || cut + 176 == entries.len()));
    }
    for cut in 0..info.len() - 8 {
        assert!(!rules(layout, &info[..cut], &entries).1);
    }
}

#[test]
fn a_table_that_lies_is_read_to_an_end() {
    for table in TABLES {
        let (layout, info, entries) = recorded(table);
        for at in 0..entries.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut lying = entries.clone();
                lying[at] = value;
                drop(rules(layout, &info, &lying));
            }
        }
        for at in 0..info.len() {
            let mut lying = info.clone();
            lying[at] = 0xFF;
            drop(rules(layout, &lying, &entries));
        }
    }
}

#[test]
fn a_chain_is_named_where_it_is_jumped_to() {
    let (layout, info, entries) = recorded("ip-filter");
    let (rules, _) = rules(layout, &info, &entries);
    let jump = rules.iter().find(|rule| rule["target"] == "EVIL").unwrap();
    assert_eq!(
        (
            &jump["chain"],
            &jump["source"],
            &jump["matches"][1]["comment"]
        ),
        (
            &"INPUT".into(),
            &"203.0.113.0/24".into(),
            &"planted rule".into()
        )
    );
    let dropped = rules.iter().find(|rule| rule["target"] == "DROP").unwrap();
    assert_eq!(
        (&dropped["chain"], &dropped["policy"]),
        (&"FORWARD".into(), &true.into())
    );
}

#[test]
fn a_rule_that_two_chains_share_is_told_of_both() {
    let (layout, mut info, entries) = recorded("ip-filter");
    let number = |info: &[u8], at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().unwrap());
    // FORWARD begins where INPUT does: hook_entry[2] and [1].
    let start = number(&info, 36 + 4).to_ne_bytes();
    info[36 + 8..36 + 12].copy_from_slice(&start);
    let (rules, _) = rules(layout, &info, &entries);
    assert_eq!(
        (&rules[0]["chain"], &rules[0]["offset"]),
        (&"INPUT,FORWARD".into(), &0.into())
    );
    assert!(rules.iter().any(|rule| rule["chain"] == "FORWARD"));
}

/// What a kernel answered for three connections, one of which is sent elsewhere.
fn tracked() -> Vec<Vec<u8>> {
    let path = PathBuf::from(FIXTURES).join("conntrack/connections.hex");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| hex::decode(line).unwrap())
        .collect()
}

#[test]
fn a_translated_connection_is_told_with_where_it_really_goes() {
    let told: Vec<Value> = tracked()
        .iter()
        .map(|body| serde_json::to_value(connection(body).unwrap()).unwrap())
        .collect();
    let translated = told
        .iter()
        .find(|told| told["original"]["destination_port"] == 80);
    let mut translated = translated.unwrap().clone();
    let object = translated.as_object_mut().unwrap();
    object.remove("raw").unwrap();
    object.remove("started_utc_ns").unwrap();
    assert_eq!(
        translated,
        serde_json::json!({
            "netns": 0, "family": "ip", "state": "ESTABLISHED", "timeout_s": 431_999,
            "status": ["seen-reply", "assured", "confirmed", "dst-nat", "src-nat-done", "dst-nat-done"],
            "original": {"source": "192.0.2.9", "destination": "192.0.2.9", "protocol": 6, "source_port": 43724,
                         "destination_port": 80, "packets": 3, "bytes": 264},
            "reply": {"source": "127.0.0.1", "destination": "192.0.2.9", "protocol": 6, "source_port": 31337,
                      "destination_port": 43724, "packets": 2, "bytes": 112},
        })
    );
    let six = told.iter().find(|told| told["family"] == "ip6").unwrap();
    assert_eq!(six["original"]["source"], "2001:db8::1");
    let datagram = told.iter().find(|told| told["original"]["protocol"] == 17);
    assert_eq!(
        datagram.unwrap()["status"],
        serde_json::json!(["confirmed", "src-nat-done", "dst-nat-done"])
    );
}

#[test]
fn a_cut_or_lying_connection_is_read_to_an_end() {
    for body in tracked() {
        for at in 0..body.len() {
            drop(connection(&body[..at]));
            let mut lying = body.clone();
            lying[at] = 0xFF;
            drop(connection(&lying));
        }
        assert_eq!(connection(&body[..4]), None);
    }
}
