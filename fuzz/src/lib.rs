//! What is fuzzed: every function that reads bytes which a suspect host, or whoever holds the store, could have written.
//!
//! Beyond not to panic, most have a second promise: one text for one value. What is accepted is written again, and must
//! be the same bytes.

mod agent;

use std::collections::BTreeMap;

use evidence::custody::CustodyError;
use evidence::frame::{Unpacker, skippable};
use evidence::inventory::Entry;
use evidence::keys::Stream;
use evidence::lime::{HEADER_BYTES, LimeError, Piece, Walker};
use evidence::member::{END_OF_ARCHIVE, Reader, padding};
use evidence::segment::{Builder, TARGET_BYTES, read_link};
use evidence::verify::{Limits, Verdict, verify};
use evidence::{Chain, Custody, Manifest, PublicKey, Receipt, Statement, Sums, TimeStamp};

/// A target: its name in Cargo.toml, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Targets of the format.
pub const TARGETS: &[Target] = &[
    ("chain", |bytes| {
        same(Chain::parse(bytes).map(|chain| chain.to_text()), bytes)
    }),
    ("contents", contents),
    ("custody", custody),
    ("entry", |bytes| {
        same(
            Entry::parse(bytes).map(|entry| line(entry.to_line())),
            bytes,
        )
    }),
    ("frame", frames),
    ("lime", lime),
    ("link", link),
    ("manifest", |bytes| {
        same(
            Manifest::parse(bytes).map(|manifest| manifest.to_bytes().unwrap()),
            bytes,
        )
    }),
    ("public_key", |bytes| {
        if let Ok(key) = PublicKey::from_pem(bytes) {
            let again = PublicKey::from_der(&key.to_der().unwrap());
            assert_eq!(again, Ok(key));
        }
    }),
    ("receipt", |bytes| {
        same(
            Receipt::parse(bytes).map(|receipt| line(receipt.to_line())),
            bytes,
        )
    }),
    ("signature", |bytes| {
        let key = PublicKey::from_pem(SEALER).unwrap();
        assert!(key.verify(b"nobody signed this", bytes).is_err());
    }),
    ("statement", |bytes| {
        same(
            Statement::parse(bytes).map(|statement| statement.to_line().unwrap()),
            bytes,
        )
    }),
    ("sums", |bytes| {
        same(Sums::parse(bytes).map(|sums| sums.to_text()), bytes)
    }),
    ("tar", tar),
    ("time_stamp", time_stamp),
    ("verify", objects),
];

/// A key of the vectors.
const SEALER: &[u8] = include_bytes!("../../evidence/vectors/keys/sealer.pub.pem");

/// Runs the target of this name.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS
        .iter()
        .chain(agent::TARGETS)
        .find(|(known, _)| *known == name);
    target.expect("a target of this name is in TARGETS").1(bytes);
}

/// Whatever the pieces, the same ranges are found, and each is where its header says.
fn lime(bytes: &[u8]) {
    let walk = |size: usize| {
        let (mut walker, mut content) = (Walker::default(), 0);
        for mut piece in bytes.chunks(size) {
            while let Some(piece) = walker.step(&mut piece)? {
                if let Piece::Bytes { bytes, .. } = piece {
                    content += bytes.len();
                }
            }
        }
        Ok::<_, LimeError>((walker.ranges().to_vec(), walker.finish().err(), content))
    };
    let (whole, in_pieces) = (walk(bytes.len().max(1)), walk(7));
    assert_eq!(whole, in_pieces);
    if let Ok((ranges, None, content)) = whole {
        assert_eq!(bytes.len(), content + ranges.len() * HEADER_BYTES);
    }
}

/// An answer has one end: what is taken is not taken with a byte less or more, and states one time.
fn time_stamp(bytes: &[u8]) {
    let Ok(stamp) = TimeStamp::parse(bytes) else {
        return;
    };
    assert!(TimeStamp::parse(&bytes[..bytes.len() - 1]).is_err());
    assert!(TimeStamp::parse(&[bytes, &[0]].concat()).is_err());
    assert!(stamp.time.ends_with('Z') && stamp.time.len() >= 20);
}

fn same<T: AsRef<[u8]>, E>(written: Result<T, E>, read: &[u8]) {
    if let Ok(written) = written {
        assert_eq!(written.as_ref(), read);
    }
}

fn line<T: Into<Vec<u8>>, E: std::fmt::Debug>(line: Result<T, E>) -> Vec<u8> {
    let mut line: Vec<u8> = line.unwrap().into();
    assert_eq!(line.pop(), Some(b'\n'));
    line
}

fn frames(bytes: &[u8]) {
    let (mut unpacker, mut at) = (Unpacker::new().unwrap(), 0);
    while at < bytes.len() {
        let Ok(next) = unpacker.unpack(bytes, at) else {
            return;
        };
        assert!(next > at);
        at = next;
    }
}

fn link(bytes: &[u8]) {
    let key = Stream::Evidence.segment_key(0);
    if let Some(link) = read_link(bytes, &key) {
        let text = format!(
            "exhibit-segment 1 {}/{key} {}\n",
            link.prefix, link.previous
        );
        assert!(bytes.starts_with(&skippable(&text)));
    }
}

/// What is read is written again, and of a journal that a crash cut the whole lines are.
fn custody(bytes: &[u8]) {
    let read = |bytes| Custody::parse("IR-2026-17".parse().unwrap(), bytes);
    let (whole, custody) = match read(bytes) {
        Ok(custody) => (bytes, custody),
        Err(CustodyError::Torn { valid_bytes }) => {
            let whole = &bytes[..valid_bytes as usize];
            (whole, read(whole).unwrap())
        }
        Err(_) => return,
    };
    same(custody.to_text(), whole);
}

fn tar(bytes: &[u8]) {
    let (mut reader, mut written) = (Reader::new(bytes), Vec::new());
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(_) => return,
        };
        written.extend(entry.member.to_blocks().unwrap());
        assert_eq!(written.len() as u64, entry.offset);
        if reader
            .content(&entry, |piece| written.extend_from_slice(piece))
            .is_err()
        {
            return;
        }
        written.extend_from_slice(padding(entry.member.size()));
    }
    written.extend_from_slice(&END_OF_ARCHIVE);
    assert_eq!(written, bytes);
}

/// Limits that keep a single input fast.
fn limits() -> Limits {
    Limits {
        raw_bytes: 64 << 20,
        members: 10_000,
        ..Limits::default()
    }
}

/// The raw bytes of an evidence stream, in a run that was cut: past every hash, right into tar and inventory.
fn contents(bytes: &[u8]) {
    let mut chain = Chain::new("c/h/1".parse().unwrap());
    let mut segment = Builder::new(&chain, Stream::Evidence, TARGET_BYTES);
    let mut packer = evidence::frame::Packer::new(1).unwrap();
    let mut frame = Vec::new();
    for block in bytes.chunks(1 << 20) {
        packer.pack(block, &mut frame).unwrap();
        segment.push(&frame);
    }
    let segment = segment.seal(&mut chain);
    let objects = BTreeMap::from([(segment.key, segment.bytes)]);
    let report = verify(&objects, &limits(), &|_| {}).unwrap();
    assert!(matches!(
        report.verdict,
        Verdict::Interrupted | Verdict::Altered
    ));
}

/// Keys that the first byte of an object chooses from.
const KEYS: [&str; 12] = [
    "CHAIN",
    "manifest.json",
    "evidence/00000.tar.zst",
    "evidence/00001.tar.zst",
    "evidence/00002.tar.zst",
    "memory/00000.lime.zst",
    "SHA256SUMS",
    "evidence/notes.txt",
    "SHA256SUMS.sig",
    "pubkey.pem",
    "custody/000000.json",
    "SHA256SUMS.tsr",
];

/// A whole collection: for each object a byte for its key, two for its length (little-endian), then its bytes.
fn objects(mut bytes: &[u8]) {
    let mut objects = BTreeMap::new();
    while let Some(([key, low, high], rest)) = bytes.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (content, rest) = rest.split_at(length);
        objects.insert(
            KEYS[usize::from(*key) % KEYS.len()].to_owned(),
            content.to_vec(),
        );
        bytes = rest;
    }
    if let Ok(report) = verify(&objects, &limits(), &|_| {}) {
        assert_eq!(
            report.verdict == Verdict::Altered,
            !report.problems.is_empty()
        );
    }
}
