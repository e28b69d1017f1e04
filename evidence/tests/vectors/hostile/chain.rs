//! CHAIN texts and links that were edited, each with a manifest that fits whatever can be made to fit.

use evidence::frame;
use evidence::keys::Stream;
use evidence::{Chain, Digest, segment};

use crate::build::{Archive, Collection, Object, Objects, PREFIX, Vector, pack};

const ELSEWHERE: &str = "IR-2026-17/i-0a1b2c3d4e5f60718/20260314T160000Z-0000";

pub fn all() -> Vec<Vector> {
    [texts(), links()].into_iter().flatten().collect()
}

fn texts() -> Vec<Vector> {
    vec![
        Vector::altered(
            "chain-record-edited",
            &["chain"],
            "A record states another hash for its segment.",
            edited(|lines| {
                lines[2] = lines[2].replace(lines[2].split(' ').next_back().unwrap(), &flaw())
            }),
        ),
        Vector::altered(
            "chain-last-record-edited",
            &["hash", "mismatch"],
            "The last record states another hash for its segment; no later record is there to notice.",
            edited(|lines| {
                lines[3] = lines[3].replace(lines[3].split(' ').next_back().unwrap(), &flaw())
            }),
        ),
        Vector::altered(
            "chain-record-removed",
            &["chain"],
            "A record in the middle is gone.",
            edited(|lines| drop(lines.remove(2))),
        ),
        Vector::altered(
            "chain-reordered",
            &["chain"],
            "Two records changed places.",
            edited(|lines| lines.swap(1, 2)),
        ),
        Vector::altered(
            "chain-tail-cut",
            &["extra", "mismatch", "tar"],
            "The last record is gone; its segment is there.",
            edited(|lines| drop(lines.pop())),
        ),
        Vector::altered(
            "chain-and-segments-tail-cut",
            &["mismatch", "tar"],
            "The last record and its segment are gone: only the manifest knows.",
            tail_cut(),
        ),
        Vector::altered(
            "chain-key-leaves-the-collection",
            &["chain"],
            "A record names a path outside of the collection.",
            edited(|lines| {
                lines[1] =
                    lines[1].replace("evidence/00000.tar.zst", "evidence/../../00000.tar.zst")
            }),
        ),
        Vector::altered(
            "chain-number-in-another-form",
            &["chain"],
            "A length has a leading zero, in the last record.",
            edited(|lines| lines[3] = lines[3].replacen("tar.zst ", "tar.zst 0", 1)),
        ),
        Vector::altered(
            "chain-without-last-newline",
            &["chain"],
            "The newline of the last record is gone.",
            replaced(|text| text.trim_end().to_owned()),
        ),
        Vector::altered(
            "chain-of-dos",
            &["chain"],
            "Lines end as they do in DOS.",
            replaced(|text| text.replace('\n', "\r\n")),
        ),
        Vector::altered(
            "chain-version",
            &["chain"],
            "The first line names format 2.",
            replaced(|text| text.replace("exhibit-chain 1", "exhibit-chain 2")),
        ),
        Vector::altered(
            "chain-empty",
            &["chain"],
            "CHAIN has no bytes.",
            replaced(|_| String::new()),
        ),
        Vector::altered(
            "chain-of-another-collection",
            &["link", "mismatch"],
            "CHAIN lists these segments, in a chain that starts at another place.",
            of_another_collection(),
        ),
        Vector::altered(
            "chain-and-manifest-of-another-collection",
            &["link"],
            "CHAIN and manifest agree on another place; the segments name this one.",
            moved_by_rewriting(),
        ),
    ]
}

fn links() -> Vec<Vector> {
    let head = |chain: &Chain| chain.head().to_string();
    vec![
        Vector::altered(
            "link-missing",
            &["link"],
            "A segment starts with its first frame, not with a link.",
            linked(|_| Vec::new()),
        ),
        Vector::altered(
            "link-cut",
            &["link"],
            "The link states more bytes than the segment has.",
            linked(|chain| {
                let mut link = right(chain);
                link[5] = 0x10;
                link
            }),
        ),
        Vector::altered(
            "link-names-another-collection",
            &["link"],
            "A link names a collection of the same host.",
            linked(|chain| replace(&right(chain), PREFIX, ELSEWHERE)),
        ),
        Vector::altered(
            "link-names-another-segment",
            &["link"],
            "A link names the number of the segment before it.",
            linked(|chain| replace(&right(chain), "00001.tar", "00000.tar")),
        ),
        Vector::altered(
            "link-carries-another-head",
            &["link"],
            "A link carries a head that the chain never had.",
            linked(move |chain| replace(&right(chain), &head(chain), &flaw())),
        ),
        Vector::altered(
            "link-carries-a-later-head",
            &["link"],
            "A link carries the first head, not the one before its segment.",
            linked(|chain| {
                let first = chain.records()[0].previous.to_string();
                replace(&right(chain), &chain.head().to_string(), &first)
            }),
        ),
        Vector::altered(
            "link-version",
            &["link"],
            "A link names format 2.",
            linked(|chain| replace(&right(chain), "exhibit-segment 1", "exhibit-segment 2")),
        ),
        Vector::altered(
            "link-in-another-skippable-frame",
            &["link"],
            "A link stands in a skippable frame with another magic number.",
            linked(|chain| {
                let mut link = right(chain);
                link[0] = 0x51;
                link
            }),
        ),
    ]
}

/// A digest of nothing in the collection.
fn flaw() -> String {
    Digest::of(b"flaw").to_string()
}

/// The usual collection with its CHAIN replaced, and nothing else.
fn replaced(edit: impl FnOnce(&str) -> String) -> Objects {
    let archive = Archive::usual().end();
    let collection = Collection::in_three(&archive);
    let text = edit(&collection.chain.to_text());
    let mut objects = collection.end(&archive);
    objects.insert("CHAIN".to_owned(), Object::Bytes(text.into_bytes()));
    objects
}

fn edited(edit: impl FnOnce(&mut Vec<String>)) -> Objects {
    replaced(|text| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        edit(&mut lines);
        lines.join("\n") + "\n"
    })
}

fn tail_cut() -> Objects {
    let mut objects = edited(|lines| drop(lines.pop()));
    objects.remove(&Stream::Evidence.segment_key(2)).unwrap();
    objects
}

/// The chain of `collection`'s segments as if it had been collected elsewhere.
fn elsewhere(collection: &Collection) -> Chain {
    let mut chain = Chain::new(ELSEWHERE.parse().unwrap());
    for record in collection.chain.records() {
        chain.append(record.stream, record.length, record.sha256);
    }
    chain
}

fn of_another_collection() -> Objects {
    let archive = Archive::usual().end();
    let collection = Collection::in_three(&archive);
    let text = elsewhere(&collection).to_text();
    let mut objects = collection.end(&archive);
    objects.insert("CHAIN".to_owned(), Object::Bytes(text.into_bytes()));
    objects
}

fn moved_by_rewriting() -> Objects {
    let archive = Archive::usual().end();
    let mut collection = Collection::in_three(&archive);
    collection.chain = elsewhere(&collection);
    collection.end(&archive)
}

fn right(chain: &Chain) -> Vec<u8> {
    frame::skippable(&segment::link(chain, Stream::Evidence))
}

fn replace(link: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (text, _) = frame::split_skippable(link).unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains(from));
    frame::skippable(&text.replace(from, to))
}

/// The usual collection whose second segment starts with these bytes; CHAIN and manifest fit.
fn linked(link: impl FnOnce(&Chain) -> Vec<u8>) -> Objects {
    let archive = Archive::usual().end();
    let mut collection = Collection::new();
    let mut link = Some(link);
    for (number, piece) in archive
        .raw
        .chunks(archive.raw.len().div_ceil(3))
        .enumerate()
    {
        if number == 1 {
            let start = link.take().unwrap()(&collection.chain);
            let bytes = [start, pack(piece)].concat();
            collection.bytes(Stream::Evidence, bytes, piece);
        } else {
            collection.segment(Stream::Evidence, piece);
        }
    }
    collection.end(&archive)
}
