//! Thousands of changes to the valid vectors: verification never panics, and never passes what was changed.
//!
//! The changes are pseudo-random and the same in each run. Fuzzing (`fuzz/`) goes further, and is no part of `cargo test`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is a test: it may fail loudly"
)]

mod common;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use evidence::keys::{CHAIN, MANIFEST, Stream, is_of_the_seal};
use evidence::verify::{Limits, NotVerified, Report, SealState, Verdict, verify, verify_sealed};
use evidence::{Digest, Manifest, PublicKey};

type Objects = BTreeMap<String, Vec<u8>>;

const CHANGES_OF_EACH: u64 = 400;

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `limit`, or 0.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit.max(1)
    }
}

/// Changes one thing, and says what. The seal is left alone unless `sealed`.
fn change(objects: &mut Objects, random: &mut Random, sealed: bool) -> String {
    let keys: Vec<String> = objects
        .keys()
        .filter(|key| sealed || !is_of_the_seal(key))
        .cloned()
        .collect();
    if keys.is_empty() {
        return "nothing is left".to_owned();
    }
    let key = &keys[random.below(keys.len())];
    let other = &keys[random.below(keys.len())];
    let donor = objects[other].clone();
    let bytes = objects.get_mut(key).unwrap();
    let at = random.below(bytes.len());
    let kind = random.below(11);
    match kind {
        0..=2 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        3 if !bytes.is_empty() => bytes[at] = b"0\x00\xff\n\"9aZ"[random.below(8)],
        4 => bytes.truncate(at),
        5 => {
            let piece = bytes[at..(at + 1 + random.below(64)).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        6 => {
            let from = random.below(donor.len());
            bytes.splice(at.., donor[from..].iter().copied());
        }
        7 => {
            let end = (at + 1 + random.below(64)).min(bytes.len());
            bytes.drain(at..end);
        }
        8 => {
            objects.remove(key);
        }
        9 => {
            let own = objects.insert(other.clone(), objects[key].clone()).unwrap();
            objects.insert(key.clone(), own);
        }
        _ => {
            let number = u32::try_from(random.below(6)).unwrap();
            let stream = Stream::ALL[random.below(2)];
            objects.insert(stream.segment_key(number), donor);
        }
    }
    format!("{kind} at {at} of {key} with {other}")
}

fn judge(objects: &Objects) -> Option<Report> {
    match verify(objects, &Limits::default(), &|_| {}) {
        Ok(report) => Some(report),
        Err(NotVerified::NotACollection) => {
            let mut keys = objects.keys();
            assert!(keys.all(|k| k != CHAIN && k != MANIFEST && Stream::of_key(k).is_none()));
            None
        }
        Err(NotVerified::List(_)) => unreachable!("memory can be listed"),
    }
}

/// The manifest without what nothing in the collection fixes. Only the receipt and the seal fix the rest.
fn bound(bytes: &[u8]) -> impl PartialEq + use<> {
    let manifest = Manifest::parse(bytes).unwrap();
    (
        manifest.case.prefix,
        manifest.streams,
        manifest.chain,
        manifest.inventory,
    )
}

fn without_manifest(objects: &Objects) -> Vec<(&String, &Vec<u8>)> {
    objects.iter().filter(|(key, _)| *key != MANIFEST).collect()
}

/// Whether a verdict about a changed collection is right.
fn is_right(original: &Objects, changed: &Objects, report: &Report) -> bool {
    match report.verdict {
        Verdict::Altered => !report.problems.is_empty(),
        // All that is left unchecked by the collection itself is what the manifest says of host and run.
        Verdict::Complete | Verdict::Partial => {
            without_manifest(original) == without_manifest(changed)
                && bound(&original[MANIFEST]) == bound(&changed[MANIFEST])
        }
        // Whoever removes the manifest and a tail, or all but a few segments of a tail, gets a shorter run that was cut, but
        // none with another content. The last segment of a chain without CHAIN has no hash: only its frames' checksums. What
        // stands beyond a gap has none either; it is named, and is no part of what is verified.
        Verdict::Interrupted => {
            let differ = changed
                .iter()
                .filter(|(key, bytes)| *key != CHAIN && original.get(*key) != Some(bytes))
                .filter(|(key, _)| !report.beyond_gap.contains(key))
                .count();
            !changed.contains_key(MANIFEST) && differ <= usize::from(!changed.contains_key(CHAIN))
        }
    }
}

#[test]
fn no_change_goes_unnoticed() {
    let (mut changes, mut accepted) = (0, 0);
    for (seed, vector) in (1..).zip(common::stored("valid")) {
        let original = common::files(&vector.collection);
        let manifest = original.get(MANIFEST).map(|bytes| Digest::of(bytes));
        let mut random = Random(seed);
        for _ in 0..CHANGES_OF_EACH {
            let mut changed = original.clone();
            let count = 1 + random.below(3);
            let what: Vec<String> = (0..count)
                .map(|_| change(&mut changed, &mut random, false))
                .collect();
            let told = || format!("{}: {}", vector.name, what.join(", then "));
            let report = catch_unwind(AssertUnwindSafe(|| judge(&changed)));
            assert!(report.is_ok(), "panic: {}", told());
            let Some(mut report) = report.unwrap().filter(|_| changed != original) else {
                continue;
            };
            changes += 1;
            assert!(
                is_right(&original, &changed, &report),
                "{:?}: {}",
                report.verdict,
                told()
            );
            accepted += u64::from(report.verdict != Verdict::Altered);
            if let Some(manifest) = manifest {
                report.compare_receipt(manifest);
                assert_eq!(report.verdict, Verdict::Altered, "{}", told());
            }
        }
    }
    // The changes are worth something: most are there, and few are of the kind that only a receipt shows.
    assert!(
        changes > 5000 && accepted * 5 < changes,
        "{accepted} of {changes}"
    );
}

/// Who has the key notices every change, also of a run that was cut, and of the seal.
#[test]
fn no_change_goes_unnoticed_by_who_has_the_key() {
    let pem = std::fs::read(common::key("sealer.pub.pem")).unwrap();
    let key = PublicKey::from_pem(&pem).unwrap();
    let mut changes = 0;
    let sealed = common::stored("valid").into_iter();
    for (seed, vector) in (1000..).zip(sealed.filter(|v| v.expected.seal != "unsealed")) {
        let original = common::files(&vector.collection);
        let mut random = Random(seed);
        for _ in 0..CHANGES_OF_EACH {
            let mut changed = original.clone();
            let what = change(&mut changed, &mut random, true);
            let limits = Limits::default();
            let told = || format!("{}: {what}", vector.name);
            let report = catch_unwind(AssertUnwindSafe(|| {
                verify_sealed(&changed, &limits, Some(&key), &|_| {}, &mut ())
            }));
            assert!(report.is_ok(), "panic: {}", told());
            let Ok(report) = report.unwrap() else {
                continue;
            };
            // The key beside has more than one text, and nobody here checks who signed the time stamp.
            let signed = |objects: &Objects| {
                let mut objects = objects.clone();
                objects.retain(|key, _| key != "pubkey.pem" && key != "SHA256SUMS.tsr");
                objects
            };
            if report.verdict != Verdict::Altered {
                assert_eq!(report.seal.state, SealState::Trusted);
                assert!(signed(&changed) == signed(&original), "{}", told());
                continue;
            }
            changes += 1;
        }
    }
    assert!(changes > 1500, "{changes}");
}
