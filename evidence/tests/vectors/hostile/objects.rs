//! Objects that are missing, surplus, exchanged or damaged.

use evidence::keys::Stream;
use evidence::manifest::Completeness;

use crate::build::{Archive, Collection, Object, Objects, Vector, pack};

pub fn all() -> Vec<Vector> {
    [damaged(), listed(), interrupted(), gaps()]
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
            swapped(usual(), 0, 1),
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
            "interrupted-segments-swapped",
            &["link"],
            "Neither CHAIN nor manifest, and two segments changed places.",
            swapped(cut(), 0, 1),
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

fn gaps() -> Vec<Vector> {
    let evidence = Stream::Evidence;
    vec![
        // One that was removed and one that never arrived look the same.
        Vector::with_gap(
            "interrupted-segment-missing-first",
            evidence,
            &[1, 2],
            "Neither CHAIN nor manifest, and the first segment is gone.",
            without(cut(), &key(0)),
        ),
        Vector::with_gap(
            "interrupted-segment-missing-middle",
            evidence,
            &[2],
            "Neither CHAIN nor manifest, and segment 1 of 0 to 2 is gone.",
            without(cut(), &key(1)),
        ),
        Vector::altered(
            "interrupted-gap-too-wide",
            &["missing"],
            "Neither CHAIN nor manifest, and there is a segment that would have waited for the missing one.",
            Collection::in_pieces(&Archive::usual().end(), 6).cut_without(evidence, &[1, 2, 3, 4]),
        ),
        Vector::altered(
            "interrupted-gap-before-a-bit-flipped",
            &["frame"],
            "Neither CHAIN nor manifest; beyond a missing segment stands a damaged one.",
            gap_edited(2, |bytes| bytes[200] ^= 4),
        ),
        Vector::altered(
            "interrupted-gap-before-a-segment-cut",
            &["frame"],
            "Neither CHAIN nor manifest; beyond a missing segment stands one without its last byte.",
            gap_edited(2, |bytes| {
                bytes.pop();
            }),
        ),
        Vector::altered(
            "interrupted-gap-before-a-segment-without-link",
            &["link"],
            "Neither CHAIN nor manifest; beyond a missing segment stands one without its link.",
            gap_edited(2, |bytes| *bytes = pack(b"no link")),
        ),
        Vector::altered(
            "interrupted-gap-before-another-run",
            &["link"],
            "Neither CHAIN nor manifest; beyond a missing segment stands one of another collection.",
            without(interrupted_segment_of_another_run(), &key(1)),
        ),
        Vector::altered(
            "interrupted-gap-before-segments-swapped",
            &["link"],
            "Neither CHAIN nor manifest; beyond a missing segment two changed places.",
            without(swapped(cut(), 1, 2), &key(0)),
        ),
        Vector::altered(
            "interrupted-gap-before-a-segment-exchanged",
            &["link"],
            "Neither CHAIN nor manifest; beyond a missing segment one has other frames, and the one after it tells.",
            without(with_frame_after(cut(), 1), &key(0)),
        ),
        Vector::altered(
            "chain-without-a-segment",
            &["missing"],
            "CHAIN is there, the manifest is not: all segments were stored before it, and one is gone.",
            without(without(usual(), "manifest.json"), &key(1)),
        ),
        Vector::altered(
            "segment-missing-unshipped",
            &["missing"],
            "A segment is gone that the manifest says was not stored when it was written.",
            without(unshipped(), &key(1)),
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

fn swapped(mut objects: Objects, one: u32, other: u32) -> Objects {
    let first = objects.remove(&key(one)).unwrap();
    let second = objects.insert(key(other), first).unwrap();
    objects.insert(key(one), second);
    objects
}

/// Segment 1 never arrived, and the one of this number was edited.
fn gap_edited(number: u32, edit: impl FnOnce(&mut Vec<u8>)) -> Objects {
    let mut objects = without(cut(), &key(1));
    edit(bytes(&mut objects, &key(number)));
    objects
}

fn with_frame_after(mut objects: Objects, number: u32) -> Objects {
    bytes(&mut objects, &key(number)).extend(pack(b"more"));
    objects
}

/// A complete run whose store had failed, and whose spool was shipped later.
fn unshipped() -> Objects {
    let archive = Archive::usual().end();
    let collection = Collection::in_three(&archive);
    let mut manifest = collection.manifest(archive.totals());
    manifest.status = Completeness::Partial;
    manifest.reasons = vec!["the store failed: 503".to_owned()];
    manifest.objects[1].shipped = false;
    collection.end_with(&manifest)
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
        .insert(key(1), Object::Link("../pubkey.pem"))
        .unwrap();
    objects.insert("pubkey.pem".to_owned(), segment);
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
