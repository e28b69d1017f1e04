//! The same document twice, whatever hosts call themselves, and every name that is used described.

use std::path::Path;

use evidence::custody::Custody;
use evidence::digest::Digest;
use evidence::manifest;
use evidence::objects::{Directory, Objects as _, read_whole};
use evidence::verify::{Limits, verify};

use super::*;
use crate::case::{Act, DiskRequest, Event};

const HOSTILE: &str = "\"}],\"@context\":\"http://127.0.0.1/\",\u{2028}\n\u{0}<x>";

/// A case with one collection of the vectors.
struct World {
    case: Case,
    custody: Custody,
    copy: Copy,
    runs: BTreeMap<String, Run>,
    payload: Vec<Entry>,
}

impl World {
    fn new(vector: &str) -> Self {
        let place = Path::new(env!("CARGO_MANIFEST_DIR"));
        let objects = Directory::new(
            &place
                .join("../evidence/vectors/valid")
                .join(vector)
                .join("collection"),
        );
        let report = verify(&objects, &Limits::default(), &|_| {}).unwrap();
        let prefix = report.prefix.clone().unwrap();
        let place = format!("{}/{}", prefix.host, prefix.collection);
        let mut custody = Custody::new(prefix.case.clone());
        let events = [
            Event::Opened {
                reason: HOSTILE.into(),
            },
            Event::Sealing {
                prefix: prefix.to_string(),
            },
            Event::Sealed {
                prefix: prefix.to_string(),
                sums_sha256: Digest::of(b""),
                key: Digest::of(b""),
                objects: 3,
                time_stamp: None,
            },
            Event::Exported { to: "bag".into() },
        ];
        for event in events {
            let event = serde_json::to_value(event).unwrap();
            let event = event.as_object().unwrap().clone();
            custody
                .append("2026-03-14T15:09:26Z", HOSTILE, event)
                .unwrap();
        }
        let bytes = read_whole(&objects, "manifest.json", manifest::MAX_BYTES).unwrap();
        let mut run = Run::from(Manifest::parse(&bytes).unwrap());
        run.host.hostname = Some(HOSTILE.into());
        let keys = objects
            .list()
            .unwrap()
            .into_iter()
            .map(|key| format!("{place}/{key}"));
        let records = custody.records().iter().map(Record::key);
        let mut paths: Vec<String> = keys.chain(records).collect();
        paths.sort();
        let entry = |path: String| Entry {
            path,
            bytes: u64::MAX,
            sha256: Digest::of(b""),
        };
        Self {
            case: Case::of(custody.records()).unwrap(),
            custody,
            copy: Copy {
                absent: Vec::new(),
                problems: vec![HOSTILE.into()],
                collections: vec![(place.clone(), report)],
            },
            runs: BTreeMap::from([(place, run)]),
            payload: paths.into_iter().map(entry).collect(),
        }
    }

    fn text(self) -> String {
        let told = Told {
            case: &self.case,
            records: self.custody.records(),
            copy: &self.copy,
            runs: self.runs,
            payload: &self.payload,
        };
        let mut out = Vec::new();
        write(&told, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }
}

/// Names that are described, and names that are used.
fn names(value: &Value, described: &mut Vec<String>, used: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values
            .iter()
            .for_each(|value| names(value, described, used)),
        Value::Object(fields) => {
            if let Some(name) = fields.get("@id").and_then(Value::as_str) {
                match fields.len() {
                    1 => drop(used.insert(name.to_owned())),
                    _ => described.push(name.to_owned()),
                }
            }
            fields
                .values()
                .for_each(|value| names(value, described, used));
        }
        _ => {}
    }
}

#[test]
fn the_same_case_gives_the_same_document() {
    let text = World::new("sealed").text();
    assert_eq!(text, World::new("sealed").text());
    assert_eq!(
        text.lines().count(),
        text.matches("\n{").count() + 2,
        "a node is not a line"
    );
}

#[test]
fn every_name_is_described_once() {
    let document: Value = serde_json::from_str(&World::new("sealed").text()).unwrap();
    let (mut described, mut used) = (Vec::new(), BTreeSet::new());
    names(&document["@graph"], &mut described, &mut used);
    let once: BTreeSet<String> = described.iter().cloned().collect();
    assert_eq!(once.len(), described.len());
    assert!(used.is_subset(&once), "{:?}", used.difference(&once));
}

#[test]
fn what_others_call_themselves_stays_a_value() {
    let document: Value = serde_json::from_str(&World::new("sealed").text()).unwrap();
    assert_eq!(document.as_object().unwrap().len(), 2);
    let graph = document["@graph"].as_array().unwrap();
    let of = |kind: &str| graph.iter().find(|node| node["@type"] == kind).unwrap();
    assert_eq!(of("uco-identity:Identity")["uco-core:name"], HOSTILE);
    assert_eq!(
        of("case-investigation:Investigation")["uco-core:description"],
        HOSTILE
    );
    let host = of("uco-observable:ObservableObject");
    let facets = host["uco-core:hasFacet"].as_array().unwrap();
    assert!(
        facets
            .iter()
            .any(|facet| facet["uco-observable:hostname"] == HOSTILE)
    );
}

#[test]
fn a_seal_results_in_its_files() {
    let document: Value = serde_json::from_str(&World::new("sealed").text()).unwrap();
    let graph = document["@graph"].as_array().unwrap();
    let act = |name: &str| {
        graph
            .iter()
            .find(|node| node["uco-core:name"] == name)
            .unwrap()
    };
    assert_eq!(
        act("sealed")["uco-action:result"].as_array().unwrap().len(),
        5
    );
    assert_eq!(
        act("exported")["uco-action:result"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_ne!(
        act("exported")["uco-action:instrument"],
        act("sealed")["uco-action:instrument"]
    );
}

#[test]
fn a_collection_without_an_object_is_told_as_one_that_is_gone() {
    let mut world = World::new("sealed");
    world.copy.collections.clear();
    world.runs.clear();
    world
        .payload
        .retain(|entry| entry.path.starts_with("custody/"));
    let text = world.text();
    assert!(text.contains("nothing of it is in the bucket"));
}

#[test]
fn what_was_done_with_disks_was_done_to_their_instance() {
    let mut world = World::new("sealed");
    let request = DiskRequest {
        id: "0a0b0c0d".into(),
        account: "web".into(),
        account_id: "222222222222".into(),
        region: "r".into(),
        instance: "i-0d15c".into(),
        forensic_account: "333333333333".into(),
        forensic_region: "r".into(),
        volumes: Vec::new(),
        uncovered: Vec::new(),
    };
    let events = [
        Event::DisksRequested(Box::new(request)),
        Event::Snapshot {
            request: "0a0b0c0d".into(),
            act: Act::Retried,
        },
    ];
    for event in events {
        let event = serde_json::to_value(event).unwrap();
        let event = event.as_object().unwrap().clone();
        world
            .custody
            .append("2026-03-14T15:09:27Z", "ana", event)
            .unwrap();
    }
    world.case = Case::of(world.custody.records()).unwrap();
    let document: Value = serde_json::from_str(&world.text()).unwrap();
    let graph = document["@graph"].as_array().unwrap();
    let named = |name: &str| {
        let mut nodes = graph.iter();
        nodes.find(|node| node["uco-core:name"] == name).unwrap()
    };
    let host = &named("i-0d15c")["@id"];
    for act in ["disks-requested", "snapshot"] {
        assert_eq!(&named(act)["uco-action:object"][0]["@id"], host, "{act}");
    }
}
