//! Manifests that say something else than the segments.

use evidence::keys::Stream;
use evidence::manifest::StreamTotals;
use evidence::{Digest, Manifest};

use crate::build::{Archive, Collection, Object, Objects, Vector};
use crate::valid::lime;

pub fn all() -> Vec<Vector> {
    [texts(), values()].into_iter().flatten().collect()
}

fn texts() -> Vec<Vector> {
    vec![
        Vector::altered(
            "manifest-not-canonical",
            &["manifest"],
            "The same values with white space between them.",
            replaced(|text| text.replacen("{\"artifacts\"", "{ \"artifacts\"", 1)),
        ),
        Vector::altered(
            "manifest-ends-with-newline",
            &["manifest"],
            "The same text with a newline after it.",
            replaced(|text| format!("{text}\n")),
        ),
        Vector::altered(
            "manifest-reordered",
            &["manifest"],
            "The same values with two keys in another order.",
            replaced(|text| {
                text.replacen(
                    "\"reasons\":[],\"status\":\"complete\"",
                    "\"status\":\"complete\",\"reasons\":[]",
                    1,
                )
            }),
        ),
        Vector::altered(
            "manifest-unknown-field",
            &["manifest"],
            "A field that format 1 does not have.",
            replaced(|text| text.replacen("\"reasons\":[]", "\"readers\":[],\"reasons\":[]", 1)),
        ),
        Vector::altered(
            "manifest-unknown-field-inside",
            &["manifest"],
            "A field of a part that format 1 does not have.",
            replaced(|text| text.replacen("\"pid\":", "\"past\":0,\"pid\":", 1)),
        )
        .unseen_by_the_shell(),
        Vector::altered(
            "manifest-policy-of-policies",
            &["manifest"],
            "An object where what became of a class of secrets is due.",
            replaced(|text| {
                let policy = "\"sensitive\":{\"private_keys\":{\"hash\":{}}}";
                let case = "\"reason\":\"GuardDuty finding\"";
                text.replacen(case, &format!("{case},{policy}"), 1)
            }),
        ),
        Vector::altered(
            "manifest-field-twice",
            &["manifest"],
            "The status stands there twice, with two values.",
            replaced(|text| text.replacen("\"status\":", "\"status\":\"partial\",\"status\":", 1)),
        ),
        Vector::altered(
            "manifest-version",
            &["manifest"],
            "The manifest names format 2.",
            replaced(|text| text.replacen("\"format_version\":1", "\"format_version\":2", 1)),
        ),
        Vector::altered(
            "manifest-cut",
            &["manifest"],
            "The last byte of the manifest is gone.",
            replaced(|text| text[..text.len() - 1].to_owned()),
        ),
        Vector::altered(
            "manifest-empty",
            &["manifest"],
            "The manifest has no bytes.",
            replaced(|_| String::new()),
        ),
    ]
}

fn values() -> Vec<Vector> {
    let flaw = Digest::of(b"flaw");
    vec![
        Vector::altered(
            "manifest-complete-with-reasons",
            &["manifest"],
            "The status is complete, and a reason says what is missing.",
            edited(|manifest| manifest.reasons = vec!["memory: failed".to_owned()]),
        ),
        Vector::altered(
            "manifest-of-other-segments",
            &["mismatch"],
            "The manifest is that of another run of the same collection's name.",
            of_other_segments(),
        ),
        Vector::altered(
            "manifest-of-another-place",
            &["mismatch"],
            "The manifest names another collection.",
            edited(|manifest| manifest.case.prefix = "IR-2026-18/h-0/c".parse().unwrap()),
        ),
        Vector::altered(
            "manifest-chain-head",
            &["mismatch"],
            "The manifest states another chain head.",
            edited(|manifest| manifest.chain.head = flaw),
        ),
        Vector::altered(
            "manifest-chain-hash",
            &["mismatch"],
            "The manifest states another hash of CHAIN.",
            edited(|manifest| manifest.chain.sha256 = flaw),
        ),
        Vector::altered(
            "manifest-chain-records",
            &["mismatch"],
            "The manifest states another number of records.",
            edited(|manifest| manifest.chain.records += 1),
        ),
        Vector::altered(
            "manifest-raw-bytes",
            &["mismatch"],
            "The manifest states one more raw byte than there is.",
            edited(|manifest| manifest.streams[0].raw_bytes += 1),
        ),
        Vector::altered(
            "manifest-stored-bytes",
            &["mismatch"],
            "The manifest states another length of the segments.",
            edited(|manifest| manifest.streams[0].bytes += 1),
        ),
        Vector::altered(
            "manifest-segments",
            &["mismatch"],
            "The manifest states another number of segments.",
            edited(|manifest| manifest.streams[0].segments += 1),
        ),
        Vector::altered(
            "manifest-stream-extra",
            &["mismatch"],
            "The manifest states a stream of no bytes that the chain does not have.",
            edited(|manifest| {
                manifest.streams.push(StreamTotals {
                    stream: Stream::Memory,
                    segments: 0,
                    bytes: 0,
                    raw_bytes: 0,
                });
            }),
        ),
        Vector::altered(
            "manifest-stream-missing",
            &["mismatch"],
            "The manifest does not state the totals of a stream.",
            with_memory(|manifest| manifest.streams.truncate(1)),
        ),
        Vector::altered(
            "manifest-inventory-hash",
            &["mismatch"],
            "The manifest states another hash of the inventory.",
            edited(|manifest| manifest.inventory.sha256 = flaw),
        ),
        Vector::altered(
            "manifest-inventory-entries",
            &["mismatch"],
            "The manifest states another number of lines of the inventory.",
            edited(|manifest| manifest.inventory.entries -= 1),
        ),
        Vector::altered(
            "manifest-members",
            &["mismatch"],
            "The manifest states another number of members.",
            edited(|manifest| manifest.inventory.members += 1),
        ),
    ]
}

fn replaced(edit: impl FnOnce(&str) -> String) -> Objects {
    let archive = Archive::usual().end();
    let collection = Collection::of(&archive);
    let bytes = collection.manifest(archive.totals()).to_bytes().unwrap();
    let before = String::from_utf8(bytes).unwrap();
    let after = edit(&before);
    assert_ne!(before, after);
    let mut objects = collection.end(&archive);
    objects.insert(
        "manifest.json".to_owned(),
        Object::Bytes(after.into_bytes()),
    );
    objects
}

fn edited(edit: impl FnOnce(&mut Manifest)) -> Objects {
    let archive = Archive::usual().end();
    let collection = Collection::of(&archive);
    let mut manifest = collection.manifest(archive.totals());
    edit(&mut manifest);
    collection.end_with(&manifest)
}

fn of_other_segments() -> Objects {
    let archive = Archive::usual().end();
    let mut other = Archive::default();
    other.file(b"uac.log", b"exhibit 0.1.0, another time\n");
    let other = other.end();
    let manifest = Collection::of(&other).manifest(other.totals());
    Collection::of(&archive).end_with(&manifest)
}

/// As [`edited`], of a collection that has memory too.
fn with_memory(edit: impl FnOnce(&mut Manifest)) -> Objects {
    let archive = Archive::usual().end();
    let mut collection = Collection::of(&archive);
    collection.segment(Stream::Memory, &lime());
    let mut manifest = collection.manifest(archive.totals());
    edit(&mut manifest);
    collection.end_with(&manifest)
}
