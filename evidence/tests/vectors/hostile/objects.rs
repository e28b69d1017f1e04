//! Objects that are missing, surplus, exchanged or damaged.

use evidence::keys::Stream;

use crate::build::{Archive, Collection, Object, Objects, Vector};

pub fn all() -> Vec<Vector> {
    [damaged(), listed(), interrupted()]
        .into_iter()
        .flatten()
        .collect()
}

fn damaged() -> Vec<Vector> {
    vec![
        Vector::altered(
            "segment-cut",
            &["length"],
            "The last byte of a segment is gone.",
            edited(1, |bytes| {
                bytes.pop();
            }),
        ),
        Vector::altered(
            "segment-grown",
            &["length"],
            "A byte was appended to a segment.",
            edited(2, |bytes| bytes.push(0)),
        ),
        Vector::altered(
            "segment-emptied",
            &["length"],
            "A segment has no bytes.",
            edited(0, Vec::clear),
        ),
        Vector::altered(
            "bit-flipped",
            &["hash"],
            "One bit of a stored segment is another.",
            edited(1, |bytes| bytes[200] ^= 4),
        ),
        Vector::altered(
            "segments-swapped",
            &["length"],
            "Two segments changed places.",
            swapped(usual()),
        ),
    ]
}

fn listed() -> Vec<Vector> {
    let mut vectors = vec![
        Vector::altered(
            "segment-missing-first",
            &["missing"],
            "The first segment is gone.",
            without(usual(), &key(0)),
        ),
        Vector::altered(
            "segment-missing-middle",
            &["missing"],
            "A segment in the middle is gone.",
            without(usual(), &key(1)),
        ),
        Vector::altered(
            "segment-missing-last",
            &["missing"],
            "The last segment is gone.",
            without(usual(), &key(2)),
        ),
        Vector::altered(
            "segment-extra",
            &["extra"],
            "A segment continues the chain that CHAIN does not list.",
            segment_extra(),
        ),
        Vector::altered(
            "file-extra",
            &["extra"],
            "A file that belongs to no collection.",
            with("evidence/notes.txt", Object::Bytes(b"note\n".to_vec())),
        ),
        Vector::altered(
            "segment-is-symlink",
            &["unreadable"],
            "A symbolic link stands where a segment is due; its target has the right bytes.",
            segment_is_symlink(),
        ),
        Vector::altered(
            "chain-is-symlink",
            &["unreadable"],
            "A symbolic link stands where CHAIN is due.",
            with("CHAIN", Object::Link("manifest.json")),
        ),
        Vector::altered(
            "chain-missing",
            &["missing"],
            "The manifest is there, CHAIN is not.",
            without(usual(), "CHAIN"),
        ),
        Vector::altered(
            "segments-missing-all",
            &["missing"],
            "CHAIN and manifest are there, no segment is.",
            usual()
                .into_iter()
                .filter(|(key, _)| !key.contains('/'))
                .collect(),
        ),
    ];
    // A manifest that was removed and one that never was look the same.
    let mut manifest_missing = Vector::altered(
        "manifest-missing",
        &[],
        "CHAIN is there, the manifest is not: nothing says that the run ended.",
        without(usual(), "manifest.json"),
    );
    (manifest_missing.verdict, manifest_missing.shell) = ("interrupted", "pass");
    let mut not_a_collection = Vector::altered(
        "other-files",
        &[],
        "A folder with other files.",
        Objects::from([(
            "evidence/readme.txt".to_owned(),
            Object::Bytes(b"nothing\n".to_vec()),
        )]),
    );
    not_a_collection.verdict = "not-a-collection";
    vectors.extend([manifest_missing, not_a_collection]);
    vectors
}

fn interrupted() -> Vec<Vector> {
    vec![
        Vector::altered(
            "interrupted-segment-missing-first",
            &["link"],
            "Neither CHAIN nor manifest, and the first segment is gone.",
            without(cut(), &key(0)),
        ),
        Vector::altered(
            "interrupted-segment-missing-middle",
            &["link"],
            "Neither CHAIN nor manifest, and segment 1 of 0 to 2 is gone.",
            without(cut(), &key(1)),
        ),
        Vector::altered(
            "interrupted-segments-swapped",
            &["link"],
            "Neither CHAIN nor manifest, and two segments changed places.",
            swapped(cut()),
        ),
        Vector::altered(
            "interrupted-bit-flipped",
            &["frame", "link"],
            "Neither CHAIN nor manifest; the segment after the damaged one no longer continues it.",
            interrupted_bit_flipped(),
        ),
        Vector::altered(
            "interrupted-segment-of-another-run",
            &["link"],
            "Neither CHAIN nor manifest; the last segment is from another collection.",
            interrupted_segment_of_another_run(),
        ),
        Vector::altered(
            "interrupted-file-extra",
            &["extra"],
            "Neither CHAIN nor manifest, and a file that belongs to no collection.",
            cut()
                .into_iter()
                .chain([("core".to_owned(), Object::Bytes(Vec::new()))])
                .collect(),
        ),
    ]
}

fn key(number: u32) -> String {
    Stream::Evidence.segment_key(number)
}

/// A complete collection of three segments.
fn usual() -> Objects {
    let archive = Archive::usual().end();
    Collection::in_three(&archive).end(&archive)
}

/// The same, cut before CHAIN.
fn cut() -> Objects {
    Collection::in_three(&Archive::usual().end()).cut()
}

fn with(key: &str, object: Object) -> Objects {
    let mut objects = usual();
    objects.insert(key.to_owned(), object);
    objects
}

fn without(mut objects: Objects, key: &str) -> Objects {
    objects.remove(key).unwrap();
    objects
}

fn bytes<'a>(objects: &'a mut Objects, key: &str) -> &'a mut Vec<u8> {
    match objects.get_mut(key) {
        Some(Object::Bytes(bytes)) => bytes,
        other => unreachable!("{key} is {other:?}"),
    }
}

fn edited(number: u32, edit: impl FnOnce(&mut Vec<u8>)) -> Objects {
    let mut objects = usual();
    edit(bytes(&mut objects, &key(number)));
    objects
}

fn swapped(mut objects: Objects) -> Objects {
    let first = objects.remove(&key(0)).unwrap();
    let second = objects.insert(key(1), first).unwrap();
    objects.insert(key(0), second);
    objects
}

fn segment_extra() -> Objects {
    let archive = Archive::usual().end();
    let mut collection = Collection::in_three(&archive);
    let objects = collection.clone().end(&archive);
    collection.segment(Stream::Evidence, b"more");
    let more = collection.cut();
    more.into_iter().chain(objects).collect()
}

fn segment_is_symlink() -> Objects {
    let mut objects = usual();
    let segment = objects
        .insert(key(1), Object::Link("../SHA256SUMS"))
        .unwrap();
    objects.insert("SHA256SUMS".to_owned(), segment);
    objects
}

fn interrupted_bit_flipped() -> Objects {
    let mut objects = cut();
    bytes(&mut objects, &key(0))[200] ^= 4;
    objects
}

fn interrupted_segment_of_another_run() -> Objects {
    let archive = Archive::usual().end();
    let mut other = Collection::at("IR-2026-17/i-0a1b2c3d4e5f60718/20260314T160000Z-0000");
    for piece in archive.raw.chunks(archive.raw.len().div_ceil(3)) {
        other.segment(Stream::Evidence, piece);
    }
    let last = other.cut().remove(&key(2)).unwrap();
    let mut objects = cut();
    objects.insert(key(2), last);
    objects
}
