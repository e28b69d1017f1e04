//! Verification: every hash recomputed, nothing extracted, nothing believed.
//!
//! Memory is bounded by one segment, one frame and the members between two parts of the inventory; all sizes, counts
//! and ratios have limits, so a hostile collection costs no more than an honest one of the same stored size allows.

mod contents;
mod memory;
mod problem;
mod seal;
mod stream;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::chain::{self, Chain, Record};
use crate::digest::Digest;
use crate::exit::Exit;
use crate::keys::{self, Prefix, Stream};
use crate::lime::{Piece, Range};
use crate::manifest::{self, Completeness, Manifest, StreamTotals};
use crate::objects::{Objects, read_whole};
use crate::segment;
use crate::signature::PublicKey;
use crate::sums::SHA256SUMS;
use memory::Memory;
pub use problem::Problem;
pub use seal::{Seal, SealState, seal};
use stream::RawStream;

/// What a verification may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most raw bytes of a stream.
    pub raw_bytes: u64,
    /// Most raw bytes for each stored byte of a stream, counted from [`Limits::RATIO_FROM`] on.
    pub ratio: u64,
    /// Most members of the tar.
    pub members: u64,
}

impl Limits {
    /// Raw bytes below which the ratio is not looked at.
    pub const RATIO_FROM: u64 = 64 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            raw_bytes: 64 << 40,
            ratio: 25_000,
            members: 20_000_000,
        }
    }
}

/// The answer to "is this what the agent wrote, and is it all?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Intact, and the agent captured all that was planned.
    Complete,
    /// Intact, and the manifest names what is missing.
    Partial,
    /// There is no manifest; the segments up to the first that is missing are intact and in order.
    Interrupted,
    /// Not what the agent wrote.
    Altered,
}

impl Verdict {
    /// The exit code that stands for the verdict.
    pub fn exit(self) -> Exit {
        match self {
            Self::Complete => Exit::Complete,
            Self::Partial => Exit::Partial,
            Self::Interrupted => Exit::Interrupted,
            Self::Altered => Exit::Altered,
        }
    }
}

/// What a verification found.
#[derive(Debug, Serialize)]
pub struct Report {
    pub verdict: Verdict,
    pub problems: Vec<Problem>,
    pub prefix: Option<Prefix>,
    pub manifest_sha256: Option<Digest>,
    pub chain_head: Option<Digest>,
    pub segments: u64,
    pub stored_bytes: u64,
    pub raw_bytes: u64,
    pub members: u64,
    /// Ranges of physical memory that start in the memory stream.
    pub memory: Vec<Range>,
    /// Bytes that the last of them lacks, because the stream was cut.
    pub memory_missing: u64,
    /// What the manifest says is missing.
    pub reasons: Vec<String>,
    /// Segments behind one that never arrived: each whole on its own, none of them counted or looked into above.
    pub beyond_gap: Vec<String>,
    /// Objects of a seal that was never finished, into which nobody looked.
    pub unchecked: Vec<String>,
    pub seal: Seal,
    /// SHA-256 of each object of the run that was read: what a seal lists. It has all of them when there is no problem.
    #[serde(skip)]
    pub sha256: BTreeMap<String, Digest>,
    #[serde(skip)]
    has_sums: bool,
}

impl Report {
    /// Compares the manifest with the hash that the receipt carried by another channel.
    pub fn compare_receipt(&mut self, stated: Digest) {
        let found = self
            .manifest_sha256
            .map_or_else(|| "none".to_owned(), |found| found.to_string());
        if let Some(problem) = Problem::mismatch("manifest SHA-256 (by the receipt)", stated, found)
        {
            self.problems.push(problem);
            self.verdict = Verdict::Altered;
        }
    }
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum NotVerified {
    #[error("this is not a collection: it has neither segments nor CHAIN nor manifest.json")]
    NotACollection,
    #[error("the objects can not be listed: {0}")]
    List(#[source] std::io::Error),
}

/// Is handed what a verification reads, while it reads it. What it was handed counts only when the report says so.
pub trait Tap {
    /// A member of the tar starts: true to be handed its content.
    fn member(&mut self, _name: &[u8]) -> bool {
        false
    }

    /// The next bytes of that member.
    fn content(&mut self, _bytes: &[u8]) {}

    /// A piece of the memory stream.
    fn memory(&mut self, _piece: &Piece<'_>) {}
}

/// Takes nothing.
impl Tap for () {}

/// Verifies the collection in `objects`; `progress` is told the stored bytes read so far.
///
/// # Errors
/// When there is nothing to verify. All that is wrong with a collection stands in the report.
pub fn verify(
    objects: &dyn Objects,
    limits: &Limits,
    progress: &dyn Fn(u64),
) -> Result<Report, NotVerified> {
    verify_with(objects, limits, progress, &mut ())
}

/// As [`verify`], with somebody who is handed the content.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(
    objects: &dyn Objects,
    limits: &Limits,
    progress: &dyn Fn(u64),
    tap: &mut dyn Tap,
) -> Result<Report, NotVerified> {
    verify_sealed(objects, limits, None, progress, tap)
}

/// As [`verify_with`], where the collection must be sealed with the `trusted` key, if there is one.
///
/// # Errors
/// As [`verify`].
pub fn verify_sealed(
    objects: &dyn Objects,
    limits: &Limits,
    trusted: Option<&PublicKey>,
    progress: &dyn Fn(u64),
    tap: &mut dyn Tap,
) -> Result<Report, NotVerified> {
    let mut report = verify_run(objects, limits, progress, tap)?;
    let (seal, problems) = seal::seal(objects, &report, trusted);
    if !problems.is_empty() {
        report.verdict = Verdict::Altered;
    }
    report.problems.extend(problems);
    report.seal = seal;
    if report.has_sums {
        report.unchecked.clear();
    }
    Ok(report)
}

/// What the agent wrote, without the seal.
fn verify_run(
    objects: &dyn Objects,
    limits: &Limits,
    progress: &dyn Fn(u64),
    tap: &mut dyn Tap,
) -> Result<Report, NotVerified> {
    let mut listed: BTreeSet<String> = objects
        .list()
        .map_err(NotVerified::List)?
        .into_iter()
        .collect();
    let has_segments = listed.iter().any(|key| Stream::of_key(key).is_some());
    if !has_segments && !listed.contains(keys::CHAIN) && !listed.contains(keys::MANIFEST) {
        return Err(NotVerified::NotACollection);
    }
    let mut run = Run {
        objects,
        limits,
        progress,
        tap,
        problems: Vec::new(),
        read: 0,
        sha256: BTreeMap::new(),
    };
    let ended = listed.remove(keys::MANIFEST);
    let manifest = ended.then(|| run.manifest()).flatten();
    let sealing = listed.remove(keys::CHAIN);
    let written = sealing.then(|| run.chain()).flatten();
    if ended && !sealing {
        let key = keys::CHAIN.to_owned();
        run.problems.push(Problem::Missing { key });
    }
    // The links of the segments say the same as CHAIN, which a run that was cut does not have.
    let linked = written.is_none();
    let (chain, beyond) = match written {
        Some(chain) => (Some(chain), Vec::new()),
        None => run.chain_of_links(&listed, !ended && !sealing),
    };
    let unchecked: Vec<String> = listed
        .iter()
        .filter(|key| keys::is_of_the_seal(key))
        .cloned()
        .collect();
    listed.retain(|key| !keys::is_of_the_seal(key));

    let records = chain.as_ref().map_or(&[][..], Chain::records);
    for record in records {
        listed.remove(&record.key());
    }
    // Without CHAIN, a segment that is not in the chain has been named as one that does not continue it.
    listed.retain(|key| !linked || Stream::of_key(key).is_none());
    run.problems
        .extend(listed.iter().map(|key| Problem::extra(key)));

    let sealed = manifest.as_ref().map(|(manifest, _)| manifest);
    let totals = chain
        .as_ref()
        .map(|chain| run.streams(chain, sealed))
        .unwrap_or_default();
    let stored_bytes = run.read;
    if let Some(chain) = &chain {
        let records = beyond.iter().collect();
        run.stream(chain, records, None, |raw, _| raw.drain());
    }
    Ok(Report {
        verdict: verdict(&run.problems, sealed),
        problems: run.problems,
        prefix: chain.as_ref().map(|chain| chain.prefix().clone()),
        manifest_sha256: manifest.as_ref().map(|(_, sha256)| *sha256),
        chain_head: chain.as_ref().map(Chain::head),
        segments: records.len() as u64,
        stored_bytes,
        raw_bytes: totals.raw_bytes,
        members: totals.members,
        memory: totals.memory,
        memory_missing: totals.memory_missing,
        reasons: manifest
            .map(|(manifest, _)| manifest.reasons)
            .unwrap_or_default(),
        beyond_gap: beyond.iter().map(Record::key).collect(),
        has_sums: unchecked.iter().any(|key| key == SHA256SUMS),
        unchecked,
        seal: Seal::default(),
        sha256: run.sha256,
    })
}

fn verdict(problems: &[Problem], manifest: Option<&Manifest>) -> Verdict {
    match manifest.map(|manifest| manifest.status) {
        _ if !problems.is_empty() => Verdict::Altered,
        Some(Completeness::Complete) => Verdict::Complete,
        Some(Completeness::Partial) => Verdict::Partial,
        None => Verdict::Interrupted,
    }
}

fn words(streams: impl Iterator<Item = Stream>) -> String {
    let words: Vec<String> = streams.map(|stream| format!("{stream:?}")).collect();
    words.join(" and ").to_lowercase()
}

/// Sums over the streams of a collection.
#[derive(Default)]
struct Totals {
    raw_bytes: u64,
    members: u64,
    memory: Vec<Range>,
    memory_missing: u64,
}

struct Run<'a> {
    objects: &'a dyn Objects,
    limits: &'a Limits,
    progress: &'a dyn Fn(u64),
    tap: &'a mut dyn Tap,
    problems: Vec<Problem>,
    read: u64,
    sha256: BTreeMap<String, Digest>,
}

impl Run<'_> {
    fn whole(&mut self, key: &str, limit: u64) -> Option<Vec<u8>> {
        let result = read_whole(self.objects, key, limit);
        result
            .map_err(|error| self.problems.push(Problem::unreadable(key, &error)))
            .ok()
    }

    fn hashed(&mut self, key: &str, bytes: &[u8]) -> Digest {
        let sha256 = Digest::of(bytes);
        self.sha256.insert(key.to_owned(), sha256);
        sha256
    }

    fn manifest(&mut self) -> Option<(Manifest, Digest)> {
        let bytes = self.whole(keys::MANIFEST, manifest::MAX_BYTES)?;
        let sha256 = self.hashed(keys::MANIFEST, &bytes);
        let parsed =
            Manifest::parse(&bytes).map_err(|error| self.problems.push(Problem::manifest(&error)));
        Some((parsed.ok()?, sha256))
    }

    fn chain(&mut self) -> Option<Chain> {
        let bytes = self.whole(keys::CHAIN, chain::MAX_BYTES)?;
        self.hashed(keys::CHAIN, &bytes);
        Chain::parse(&bytes)
            .map_err(|error| self.problems.push(Problem::chain(&error)))
            .ok()
    }

    /// The chain of a run that was cut before it wrote CHAIN, from the links inside its segments, and the segments that
    /// stand beyond a gap, if the run may lack some.
    fn chain_of_links(
        &mut self,
        listed: &BTreeSet<String>,
        may_lack: bool,
    ) -> (Option<Chain>, Vec<Record>) {
        let mut prefix = None;
        let mut linked = HashMap::new();
        for (stream, number) in listed.iter().filter_map(|key| Stream::of_key(key)) {
            let key = stream.segment_key(number);
            let Some(bytes) = self.whole(&key, segment::MAX_BYTES) else {
                continue;
            };
            let link = segment::read_link(&bytes, &key)
                .filter(|link| link.prefix == *prefix.get_or_insert_with(|| link.prefix.clone()));
            let Some(link) = link else {
                self.problems.push(Problem::Link { key });
                continue;
            };
            let record = Record {
                previous: link.previous,
                stream,
                number,
                length: bytes.len() as u64,
                sha256: Digest::of(&bytes),
            };
            linked.insert((record.previous, stream, number), record);
        }
        let Some(mut chain) = prefix.map(Chain::new) else {
            return (None, Vec::new());
        };
        while let Some(next) = Stream::ALL
            .into_iter()
            .find_map(|stream| linked.remove(&(chain.head(), stream, chain.next_number(stream))))
        {
            chain.append(next.stream, next.length, next.sha256);
        }
        let left = linked.into_values().map(|r| ((r.stream, r.number), r));
        let beyond = self.beyond_gap(&left.collect(), listed, may_lack);
        (Some(chain), beyond)
    }

    /// Of the segments that the chain does not reach, those beyond a gap that a run which was cut may leave: as wide as
    /// what may be under way. All others are problems.
    fn beyond_gap(
        &mut self,
        left: &BTreeMap<(Stream, u32), Record>,
        listed: &BTreeSet<String>,
        may_lack: bool,
    ) -> Vec<Record> {
        let mut beyond = Vec::new();
        for stream in Stream::ALL {
            let missing = |number: &u32| !listed.contains(&stream.segment_key(*number));
            let gap = (0..).find(missing).filter(|_| may_lack);
            let gap = gap.unwrap_or(u32::MAX);
            let end = gap.saturating_add(segment::MAX_UNDER_WAY);
            let mut wider = false;
            for record in left.values().filter(|record| record.stream == stream) {
                // Neighbours beyond the gap still follow each other in the chain.
                let before = left.get(&(stream, record.number.wrapping_sub(1)));
                let follows = before.is_none_or(|before| before.hash() == record.previous);
                if record.number >= end {
                    wider = true;
                } else if record.number > gap && follows {
                    beyond.push(record.clone());
                } else {
                    let key = record.key();
                    self.problems.push(Problem::Link { key });
                }
            }
            if wider {
                let key = stream.segment_key(gap);
                self.problems.push(Problem::Missing { key });
            }
        }
        beyond
    }

    fn streams(&mut self, chain: &Chain, manifest: Option<&Manifest>) -> Totals {
        let mut totals = Totals::default();
        if let Some(manifest) = manifest {
            self.compare_chain(chain, manifest);
        }
        for stream in Stream::ALL {
            let stated =
                manifest.and_then(|m| m.streams.iter().find(|totals| totals.stream == stream));
            let records: Vec<&Record> = chain
                .records()
                .iter()
                .filter(|r| r.stream == stream)
                .collect();
            if records.is_empty()
                && stated.is_none()
                && (manifest.is_none() || stream == Stream::Memory)
            {
                continue;
            }
            let limits = self.limits;
            let (mut contents, mut memory) = (None, Memory::default());
            totals.raw_bytes += self.stream(chain, records, stated, |raw, tap| match stream {
                Stream::Evidence => contents = Some(contents::check(raw, limits, manifest, tap)),
                Stream::Memory => memory = memory::check(raw, manifest, tap),
            });
            if let Some(contents) = contents {
                totals.members = contents.members;
                self.problems.extend(contents.problems);
            }
            self.problems.extend(memory.problems);
            totals.memory.extend(memory.ranges);
            totals.memory_missing += memory.missing;
        }
        totals
    }

    /// Reads the segments of `records` one after the other, in the way of `read`; the answer is their raw bytes.
    fn stream(
        &mut self,
        chain: &Chain,
        records: Vec<&Record>,
        stated: Option<&StreamTotals>,
        read: impl FnOnce(&mut RawStream<'_>, &mut dyn Tap),
    ) -> u64 {
        let mut raw = RawStream::new(
            self.objects,
            chain.prefix(),
            records,
            self.limits,
            stated,
            self.progress,
            self.read,
        );
        read(&mut raw, self.tap);
        let end = raw.finish();
        self.read = end.read;
        self.problems.extend(end.problems);
        self.sha256.extend(end.sha256);
        end.raw_bytes
    }

    fn compare_chain(&mut self, chain: &Chain, manifest: &Manifest) {
        let found = [
            (
                "prefix",
                manifest.case.prefix.to_string(),
                chain.prefix().to_string(),
            ),
            (
                "streams",
                words(manifest.streams.iter().map(|totals| totals.stream)),
                words(Stream::ALL.into_iter().filter(|stream| {
                    chain
                        .records()
                        .iter()
                        .any(|record| record.stream == *stream)
                })),
            ),
            (
                "chain head",
                manifest.chain.head.to_string(),
                chain.head().to_string(),
            ),
            (
                "chain records",
                manifest.chain.records.to_string(),
                chain.records().len().to_string(),
            ),
            (
                "CHAIN hash",
                manifest.chain.sha256.to_string(),
                Digest::of(chain.to_text().as_bytes()).to_string(),
            ),
        ];
        self.problems.extend(
            found
                .into_iter()
                .filter_map(|(what, stated, found)| Problem::mismatch(what, stated, found)),
        );
    }
}
