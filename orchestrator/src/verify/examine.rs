//! The judgement: what S3 says of each object against chain, manifest and receipt. No I/O.

use std::collections::BTreeMap;

use evidence::chain::{Chain, Record};
use evidence::manifest::Completeness;
use evidence::seal::STATEMENT;
use evidence::signature::PublicKey;
use evidence::sums::{PUBLIC_KEY, SHA256SUMS, SIGNATURE, Sums};
use evidence::timestamp::{self, TIME_STAMP, TimeStamp};
use evidence::verify::Verdict;
use evidence::{Digest, Exit, Manifest, Receipt, Stream, keys, segment};
use time::OffsetDateTime;

use super::gather::Gathered;
use super::{Checked, Held, Problem, SealedAs};
use crate::aws::s3::Version;
use crate::failure::Failure;

/// Problems of one collection that are listed.
const MAX_PROBLEMS: usize = 1000;

/// Judges.
///
/// # Errors
/// When what is there is no collection.
pub(super) fn examine(
    prefix: &str,
    gathered: &Gathered,
    receipt: Option<&Receipt>,
    trust: &Trust<'_>,
    now: OffsetDateTime,
) -> Result<Checked, Failure> {
    let mut examination = Examination {
        prefix,
        gathered,
        now,
        problems: Vec::new(),
        unlocked: Vec::new(),
        held: Vec::new(),
        time_stamp: None,
    };
    let manifest = examination.manifest(receipt, trust.released);
    let (chain, beyond) = examination.chain(manifest.as_ref().map(|(manifest, _)| manifest))?;
    examination.segments(&chain, &beyond);
    for key in [keys::MANIFEST, keys::CHAIN] {
        examination.text(key);
    }
    examination.others(&chain, &beyond);
    examination.seal(trust.sealed.map(|sealed| sealed.key));
    examination.time_stamp(trust.sealed.and_then(|sealed| sealed.time_stamp));
    let verdict = match manifest.as_ref().map(|(manifest, _)| manifest.status) {
        _ if !examination.problems.is_empty() => Verdict::Altered,
        Some(Completeness::Complete) => Verdict::Complete,
        Some(Completeness::Partial) => Verdict::Partial,
        None => Verdict::Interrupted,
    };
    let sha256 = manifest.as_ref().map(|(_, sha256)| *sha256);
    Ok(Checked {
        prefix: prefix.to_owned(),
        verdict,
        deep: false,
        unlocked: examination.unlocked,
        manifest_sha256: sha256,
        bound_by_receipt: sha256.is_some()
            && receipt.and_then(|receipt| receipt.manifest_sha256) == sha256,
        segments: chain.records().len() as u64,
        stored_bytes: chain.records().iter().map(|record| record.length).sum(),
        beyond_gap: beyond,
        reasons: manifest
            .map(|(manifest, _)| manifest.reasons)
            .unwrap_or_default(),
        sealed: gathered.sums.is_some(),
        time_stamp: examination.time_stamp,
        objects: examination.held,
        problems: examination.problems,
    })
}

/// What is known from elsewhere than the bucket.
pub(super) struct Trust<'a> {
    /// Agents that may have run.
    pub(super) released: &'a [Digest],
    /// The seal that the journal says there is.
    pub(super) sealed: Option<&'a SealedAs<'a>>,
}

struct Examination<'a> {
    prefix: &'a str,
    gathered: &'a Gathered,
    now: OffsetDateTime,
    problems: Vec<Problem>,
    unlocked: Vec<String>,
    held: Vec<Held>,
    time_stamp: Option<String>,
}

impl Examination<'_> {
    fn problem(&mut self, code: &'static str, message: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { code, message });
        }
    }

    fn manifest(
        &mut self,
        receipt: Option<&Receipt>,
        released: &[Digest],
    ) -> Option<(Manifest, Digest)> {
        let stated = receipt.and_then(|receipt| receipt.manifest_sha256);
        let Some(text) = &self.gathered.manifest else {
            if let Some(stated) = stated {
                self.problem(
                    "missing",
                    format!(
                        "manifest.json is missing; the receipt names one with SHA-256 {stated}"
                    ),
                );
            }
            return None;
        };
        let sha256 = Digest::of(&text.bytes);
        if let Some(stated) = stated.filter(|stated| *stated != sha256) {
            self.problem("receipt", format!("manifest.json has SHA-256 {sha256}; the receipt, which came by way of SSM, states {stated}"));
        }
        let manifest = match Manifest::parse(&text.bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.problem("manifest", error.to_string());
                return None;
            }
        };
        if manifest.case.prefix.to_string() != self.prefix {
            self.problem(
                "mismatch",
                format!("the manifest is of {}", manifest.case.prefix),
            );
        }
        match manifest.tool.sha256 {
            Some(tool) if released.contains(&tool) => {}
            Some(tool) => self.problem("agent", format!("the agent that ran has SHA-256 {tool}, which is not on the release list (agent.sha256, agent.also_released)")),
            None => self.problem("agent", "the manifest does not say which agent ran".to_owned()),
        }
        Some((manifest, sha256))
    }

    /// The chain, as written or as the segments' links tell it, and what stands beyond a gap.
    fn chain(&mut self, manifest: Option<&Manifest>) -> Result<(Chain, Vec<String>), Failure> {
        if let Some(text) = &self.gathered.chain {
            match Chain::parse(&text.bytes) {
                Ok(chain) => {
                    self.compare(&chain, &text.bytes, manifest);
                    return Ok((chain, Vec::new()));
                }
                Err(error) => self.problem("chain", error.to_string()),
            }
        } else if manifest.is_some() {
            self.problem("missing", "CHAIN is missing".to_owned());
        }
        let place = self
            .prefix
            .parse()
            .map_err(|error| Failure::new(Exit::NotACollection, error))?;
        let (chain, left) = self.linked(Chain::new(place));
        let beyond = self.beyond_gap(&chain, &left);
        Ok((chain, beyond))
    }

    fn compare(&mut self, chain: &Chain, bytes: &[u8], manifest: Option<&Manifest>) {
        if chain.prefix().to_string() != self.prefix {
            self.problem("mismatch", format!("CHAIN is of {}", chain.prefix()));
        }
        let Some(manifest) = manifest else { return };
        let found = Digest::of(bytes);
        if (manifest.chain.sha256, manifest.chain.head) != (found, chain.head()) {
            self.problem(
                "mismatch",
                format!(
                    "the manifest states another CHAIN: SHA-256 {} where {found} is found",
                    manifest.chain.sha256
                ),
            );
        }
    }

    /// Follows the links as far as they go.
    fn linked(&self, mut chain: Chain) -> (Chain, BTreeMap<String, Record>) {
        let place = self.prefix.to_owned();
        let records = self.gathered.links.iter().filter_map(|(key, bytes)| {
            let link =
                segment::read_link(bytes, key).filter(|link| link.prefix.to_string() == place)?;
            let (stream, number) = Stream::of_key(key)?;
            let stored = self
                .oldest(key)
                .and_then(|version| self.stored(key, version))?;
            let record = Record {
                previous: link.previous,
                stream,
                number,
                length: stored.size,
                sha256: stored.sha256?,
            };
            Some((key.clone(), record))
        });
        let mut left: BTreeMap<String, Record> = records.collect();
        while let Some(key) = Stream::ALL
            .into_iter()
            .map(|stream| stream.segment_key(chain.next_number(stream)))
            .find(|key| {
                left.get(key)
                    .is_some_and(|record| record.previous == chain.head())
            })
        {
            if let Some(record) = left.remove(&key) {
                chain.append(record.stream, record.length, record.sha256);
            }
        }
        (chain, left)
    }

    /// Of the segments that the chain does not reach, those that a run which was cut may leave.
    fn beyond_gap(&mut self, chain: &Chain, left: &BTreeMap<String, Record>) -> Vec<String> {
        let segments: Vec<String> = self
            .gathered
            .versions
            .keys()
            .filter(|key| Stream::of_key(key).is_some())
            .cloned()
            .collect();
        let mut beyond = Vec::new();
        for key in segments {
            let Some((stream, number)) = Stream::of_key(&key) else {
                continue;
            };
            let due = chain.next_number(stream);
            if number < due {
                continue;
            }
            let may_be =
                number > due && number < due + segment::MAX_UNDER_WAY && left.contains_key(&key);
            if may_be {
                beyond.push(key);
            } else {
                self.problem("link", format!("{key} does not continue the segment before it, or S3 states no SHA-256 of it"));
            }
        }
        beyond
    }

    fn segments(&mut self, chain: &Chain, beyond: &[String]) {
        for record in chain.records() {
            let key = record.key();
            self.object(&key, Some((record.length, record.sha256)));
        }
        for key in beyond {
            self.object(key, None);
        }
    }

    fn text(&mut self, key: &str) {
        let text = match key {
            keys::MANIFEST => &self.gathered.manifest,
            _ => &self.gathered.chain,
        };
        let stated = text
            .as_ref()
            .map(|text| (text.bytes.len() as u64, Digest::of(&text.bytes)));
        if self.gathered.versions.contains_key(key) {
            self.object(key, stated);
        }
    }

    /// Judges one object: which of its versions is the run's, and what became of it.
    fn object(&mut self, key: &str, stated: Option<(u64, Digest)>) {
        let versions = self
            .gathered
            .versions
            .get(key)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let sha256 = |version: &Version| self.stored(key, version).and_then(|stored| stored.sha256);
        let matching = stated.and_then(|(_, digest)| {
            versions
                .iter()
                .rfind(|version| sha256(version) == Some(digest))
        });
        let Some(version) = matching.or(self.oldest(key)) else {
            let what = if versions.is_empty() {
                "is missing"
            } else {
                "is deleted, and no version of it is left"
            };
            return self.problem("missing", format!("{key} {what}"));
        };
        let version = version.clone();
        let latest = versions.iter().find(|version| version.latest);
        let covered = match latest {
            Some(latest) if latest.size.is_none() => Some((
                "deleted",
                format!(
                    "{key} is covered by the marker of a deletion; version {} is still there",
                    version.id
                ),
            )),
            Some(latest) if latest.id != version.id => Some((
                "replaced",
                format!(
                    "{key} was replaced by version {}; the run's is {}",
                    latest.id, version.id
                ),
            )),
            _ if versions.len() > 1 => Some((
                "replaced",
                format!(
                    "{key} has {} versions; the run wrote one, {}",
                    versions.len(),
                    version.id
                ),
            )),
            _ => None,
        };
        if let Some((code, message)) = covered {
            self.problem(code, message);
        }
        self.version(key, &version, stated);
    }

    fn version(&mut self, key: &str, version: &Version, stated: Option<(u64, Digest)>) {
        let Some(stored) = self.stored(key, version).cloned() else {
            return self.problem("unreadable", format!("S3 says nothing of {key}"));
        };
        match (stored.sha256, stated) {
            (None, _) => self.problem(
                "unstated",
                format!(
                    "S3 states no SHA-256 of {key}: it was not put by the agent; `--deep` reads it"
                ),
            ),
            (Some(found), Some((_, sha256))) if found != sha256 => self.problem(
                "hash",
                format!("{key} has SHA-256 {found} where {sha256} is stated"),
            ),
            (_, Some((length, _))) if length != stored.size => self.problem(
                "length",
                format!("{key} has {} bytes where {length} are stated", stored.size),
            ),
            _ => {}
        }
        if !stored.legal_hold && stored.retain_until.is_none_or(|until| until <= self.now) {
            self.unlocked.push(key.to_owned());
        }
        self.held.push(Held {
            key: key.to_owned(),
            version: version.id.clone(),
            stored,
        });
    }

    /// What neither the run nor a seal can have put there.
    fn others(&mut self, chain: &Chain, beyond: &[String]) {
        let known = |key: &str| {
            key == keys::MANIFEST
                || key == keys::CHAIN
                || keys::is_of_the_seal(key)
                || beyond.iter().any(|other| other == key)
        };
        let listed: std::collections::BTreeSet<String> =
            chain.records().iter().map(Record::key).collect();
        let linked = self.gathered.chain.is_none();
        let extra = self.gathered.versions.keys().filter(|key| {
            !(known(key) || listed.contains(*key) || linked && Stream::of_key(key).is_some())
        });
        for key in extra.cloned().collect::<Vec<_>>() {
            let shown: String = key
                .chars()
                .take(200)
                .flat_map(char::escape_default)
                .collect();
            self.problem(
                "extra",
                format!("{shown} is there, but the chain does not list it"),
            );
        }
    }

    /// The seal: by the trusted key, where there has to be one, and about these objects.
    fn seal(&mut self, trusted: Option<&PublicKey>) {
        for key in [SHA256SUMS, SIGNATURE, TIME_STAMP, PUBLIC_KEY, STATEMENT] {
            if self.gathered.versions.contains_key(key) {
                self.object(key, None);
            }
        }
        let Some(sums) = &self.gathered.sums else {
            if trusted.is_some() {
                self.problem(
                    "missing",
                    "SHA256SUMS is missing: the journal says that the collection is sealed"
                        .to_owned(),
                );
            }
            return;
        };
        let signature = self
            .gathered
            .signature
            .as_ref()
            .map_or(&[][..], |text| &text.bytes);
        if trusted.is_some_and(|key| key.verify(&sums.bytes, signature).is_err()) {
            self.problem(
                "signature",
                "SHA256SUMS.sig does not fit SHA256SUMS and the trusted key".to_owned(),
            );
        }
        match Sums::parse(&sums.bytes) {
            Ok(sums) => self.listed(&sums),
            Err(error) => self.problem("sums", error.to_string()),
        }
    }

    /// The time stamp, if there is one: over this seal, and of the time that the journal says.
    fn time_stamp(&mut self, recorded: Option<&str>) {
        let Some(sums) = &self.gathered.sums else {
            return;
        };
        if let Some(text) = &self.gathered.time_stamp {
            match TimeStamp::over(&sums.bytes, &text.bytes) {
                Ok(stamp) => self.time_stamp = Some(stamp.time),
                Err(error) => self.problem("time-stamp", error.to_string()),
            }
        } else if self.oldest(TIME_STAMP).is_some() {
            let limit = timestamp::MAX_BYTES;
            let text = format!("{TIME_STAMP} is longer than {limit} bytes");
            self.problem("unreadable", text);
        } else if let Some(time) = recorded {
            let text = format!("{TIME_STAMP} is missing: the journal says that it states {time}");
            return self.problem("missing", text);
        }
        if let (Some(stated), Some(recorded)) = (self.time_stamp.clone(), recorded)
            && stated != recorded
        {
            let text = format!("{TIME_STAMP} states {stated}, the journal says {recorded}");
            self.problem("time-stamp", text);
        }
    }

    fn listed(&mut self, sums: &Sums) {
        for (key, stated) in sums.iter() {
            let stored = self
                .oldest(key)
                .and_then(|version| self.stored(key, version));
            if stored.and_then(|stored| stored.sha256) != Some(stated) {
                self.problem(
                    "hash",
                    format!("{key} is another than SHA256SUMS states: {stated}"),
                );
            }
        }
    }

    fn oldest(&self, key: &str) -> Option<&Version> {
        self.gathered
            .versions
            .get(key)?
            .iter()
            .rfind(|version| version.size.is_some())
    }

    fn stored(&self, key: &str, version: &Version) -> Option<&crate::aws::s3::Stored> {
        self.gathered
            .stored
            .get(&(key.to_owned(), version.id.clone()))
    }
}
