//! Builds small collections step by step, so that each hostile one can go wrong in exactly one of the steps.

use std::collections::BTreeMap;

use evidence::frame::{self, Packer};
use evidence::inventory::{self, Entry, FileType, Metadata, Name, Status};
use evidence::keys::Stream;
use evidence::manifest::{
    ArtifactReport, Case, ChainTotals, Clock, Completeness, Host, Impact, Instant, InventoryTotals,
    Outcome, Store, StoredObject, StreamTotals, Tool,
};
use evidence::member::{END_OF_ARCHIVE, Kind, Member, padding};
use evidence::{Chain, Digest, Manifest, segment};

/// Place of every collection here, unless it says otherwise.
pub const PREFIX: &str = "IR-2026-17/i-0a1b2c3d4e5f60718/20260314T150926Z-5f3a";
const START_S: u64 = 1_773_500_966;

/// An object as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Bytes(Vec<u8>),
    /// A symbolic link where a file is due.
    Link(&'static str),
}

/// A collection as it is stored.
pub type Objects = BTreeMap<String, Object>;

/// A vector: a collection and what is to be said of it.
pub struct Vector {
    pub name: &'static str,
    pub about: &'static str,
    pub verdict: &'static str,
    pub problems: Vec<&'static str>,
    pub beyond_gap: Vec<String>,
    pub seal: &'static str,
    /// The key that the reader is told to trust.
    pub key: Option<&'static str>,
    pub shell: &'static str,
    pub objects: Objects,
}

impl Vector {
    /// A collection in which nothing is wrong.
    pub fn valid(
        name: &'static str,
        verdict: &'static str,
        about: &'static str,
        objects: Objects,
    ) -> Self {
        Self {
            name,
            about,
            verdict,
            problems: Vec::new(),
            beyond_gap: Vec::new(),
            seal: "unsealed",
            key: None,
            shell: "pass",
            objects,
        }
    }

    /// A collection with a flaw that has these codes.
    pub fn altered(
        name: &'static str,
        problems: &[&'static str],
        about: &'static str,
        objects: Objects,
    ) -> Self {
        Self {
            name,
            about,
            verdict: "altered",
            problems: problems.to_vec(),
            beyond_gap: Vec::new(),
            seal: "unsealed",
            key: None,
            shell: "fail",
            objects,
        }
    }

    /// A run that was cut, where these segments of a stream stand beyond one that is missing.
    pub fn with_gap(
        name: &'static str,
        stream: Stream,
        beyond: &[u32],
        about: &'static str,
        objects: Objects,
    ) -> Self {
        let mut vector = Self::valid(name, "interrupted", about, objects);
        let keys = beyond.iter().map(|number| stream.segment_key(*number));
        vector.beyond_gap = keys.collect();
        vector
    }

    /// The same, with this said of the seal.
    pub fn with_seal(mut self, state: &'static str) -> Self {
        self.seal = state;
        self
    }

    /// The same, for a reader that trusts this key.
    pub fn trusting(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    /// The same, where the flaw is out of reach of `verify.sh`.
    pub fn unseen_by_the_shell(mut self) -> Self {
        self.shell = "pass";
        self
    }

    /// The text of `expected.json`.
    pub fn expected(&self) -> String {
        let text = |value: &str| serde_json::to_string(value).unwrap();
        let problems: Vec<String> = self.problems.iter().map(|code| text(code)).collect();
        let beyond: Vec<String> = self.beyond_gap.iter().map(|key| text(key)).collect();
        let beyond = match beyond.as_slice() {
            [] => String::new(),
            keys => format!("  \"beyond_gap\": [{}],\n", keys.join(", ")),
        };
        let optional = |name: &str, value: Option<&str>| match value {
            Some(value) => format!("  \"{name}\": {},\n", text(value)),
            None => String::new(),
        };
        let seal = optional("seal", Some(self.seal).filter(|seal| *seal != "unsealed"));
        let key = optional("key", self.key);
        format!(
            "{{\n  \"about\": {},\n  \"verdict\": {},\n  \"problems\": [{}],\n{beyond}{seal}{key}  \"shell\": {}\n}}\n",
            text(self.about),
            text(self.verdict),
            problems.join(", "),
            text(self.shell)
        )
    }
}

/// A tar under construction, and the inventory of it.
#[derive(Clone, Default)]
pub struct Archive {
    pub raw: Vec<u8>,
    /// Lines that are not in the tar yet.
    pub lines: Vec<u8>,
    pub entries: u64,
    pub members: u64,
    parts: u32,
    inventory: Option<Digest>,
}

/// The entry of an item that is not in the tar.
pub fn item(name: &[u8], file_type: FileType, status: Status) -> Entry {
    Entry {
        name: Name::of(name),
        artifact: "files".to_owned(),
        file_type,
        status,
        reason: None,
        errno: None,
        offset: None,
        size: None,
        sha256: None,
        target: None,
        short_at: None,
        grew_to: None,
        metadata: None,
        read_at: format!("{START_S}.000000001"),
    }
}

/// What `statx` says of a small file of root's.
pub fn metadata(size: u64) -> Metadata {
    Metadata {
        mode: "100644".to_owned(),
        size,
        nlink: 1,
        inode: 131_074,
        device: "259:1".to_owned(),
        atime: format!("{START_S}.000000000"),
        mtime: "1770000000.123456789".to_owned(),
        ctime: "1770000000.123456789".to_owned(),
        ..Metadata::default()
    }
}

impl Archive {
    /// The usual content: a log, a file of the host, a link, a table.
    pub fn usual() -> Self {
        let mut archive = Self::default();
        archive.file(b"uac.log", b"exhibit 0.1.0\n");
        archive.file(b"[root]/etc/hostname", b"web-1\n");
        archive.link(b"[root]/proc/1/exe", b"/usr/lib/systemd/systemd");
        archive.file(
            b"live_response/process/processes.jsonl",
            b"{\"pid\":1,\"name\":\"systemd\"}\n",
        );
        archive
    }

    /// Adds a regular member and its line.
    pub fn file(&mut self, name: &[u8], content: &[u8]) {
        let entry = self.member(name, content);
        self.enter(&entry);
    }

    /// Adds a symbolic link and its line.
    pub fn link(&mut self, name: &[u8], target: &[u8]) {
        let kind = Kind::Symlink {
            target: target.into(),
        };
        self.header(name, kind);
        let mut entry = item(name, FileType::Symlink, Status::Captured);
        entry.offset = Some(self.raw.len() as u64);
        entry.target = Some(Name::of(target));
        self.enter(&entry);
    }

    /// Adds a regular member; the answer is the line that is due.
    pub fn member(&mut self, name: &[u8], content: &[u8]) -> Entry {
        let size = content.len() as u64;
        self.header(name, Kind::File { size });
        self.content(name, content)
    }

    /// Adds the content of a member whose header was written; the answer is the line that is due.
    pub fn content(&mut self, name: &[u8], content: &[u8]) -> Entry {
        let size = content.len() as u64;
        let mut entry = item(name, FileType::File, Status::Captured);
        entry.offset = Some(self.raw.len() as u64);
        entry.size = Some(size);
        entry.sha256 = Some(Digest::of(content));
        if name.starts_with(b"[root]/") {
            entry.metadata = Some(metadata(size));
        }
        self.raw.extend_from_slice(content);
        self.raw.extend_from_slice(padding(size));
        entry
    }

    /// Adds a line.
    pub fn enter(&mut self, entry: &Entry) {
        self.entries += 1;
        self.lines.extend(entry.to_line().unwrap());
    }

    /// Adds header blocks as they are.
    pub fn blocks(&mut self, blocks: &[u8]) {
        self.members += 1;
        self.raw.extend_from_slice(blocks);
    }

    fn header(&mut self, name: &[u8], kind: Kind) {
        let member = Member {
            name: name.into(),
            kind,
            ..Member::own("any", 0, START_S)
        };
        self.blocks(&member.to_blocks().unwrap());
    }

    /// Writes the lines so far as a part of the inventory.
    pub fn spill(&mut self) {
        let name = inventory::part_name(self.parts);
        self.parts += 1;
        let lines = std::mem::take(&mut self.lines);
        self.file(name.as_bytes(), &lines);
    }

    /// Writes the last part of the inventory, but not the end of the archive.
    pub fn inventory(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        self.inventory = Some(Digest::of(&lines));
        self.member(inventory::NAME.as_bytes(), &lines);
    }

    /// Writes the last part of the inventory and the end of the archive.
    pub fn end(mut self) -> Self {
        self.inventory();
        self.raw.extend_from_slice(&END_OF_ARCHIVE);
        self
    }

    /// What the manifest says of it.
    pub fn totals(&self) -> InventoryTotals {
        InventoryTotals {
            sha256: self.inventory.unwrap_or_else(|| Digest::of(b"")),
            entries: self.entries,
            members: self.members,
        }
    }
}

/// One whole frame.
pub fn pack(raw: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Packer::new(3).unwrap().pack(raw, &mut bytes).unwrap();
    bytes
}

/// A collection under construction.
#[derive(Clone)]
pub struct Collection {
    pub chain: Chain,
    pub objects: Objects,
    raw: BTreeMap<Stream, Vec<u8>>,
}

impl Collection {
    /// An empty collection.
    pub fn new() -> Self {
        Self::at(PREFIX)
    }

    /// An empty collection at `prefix`.
    pub fn at(prefix: &str) -> Self {
        Self {
            chain: Chain::new(prefix.parse().unwrap()),
            objects: Objects::new(),
            raw: BTreeMap::new(),
        }
    }

    /// The evidence of `archive` in one segment.
    pub fn of(archive: &Archive) -> Self {
        let mut collection = Self::new();
        collection.segment(Stream::Evidence, &archive.raw);
        collection
    }

    /// The evidence of `archive` in three segments.
    pub fn in_three(archive: &Archive) -> Self {
        Self::in_pieces(archive, 3)
    }

    /// The evidence of `archive` in this many segments.
    pub fn in_pieces(archive: &Archive, count: usize) -> Self {
        let mut collection = Self::new();
        for piece in archive.raw.chunks(archive.raw.len().div_ceil(count)) {
            collection.segment(Stream::Evidence, piece);
        }
        collection
    }

    /// Seals a segment that holds `raw` in one frame.
    pub fn segment(&mut self, stream: Stream, raw: &[u8]) {
        self.frames(stream, &[pack(raw)], raw);
    }

    /// Seals a segment of these frames, which stand for `raw`.
    pub fn frames(&mut self, stream: Stream, frames: &[Vec<u8>], raw: &[u8]) {
        let link = frame::skippable(&segment::link(&self.chain, stream));
        self.bytes(stream, [link, frames.concat()].concat(), raw);
    }

    /// Seals a segment of these bytes, which stand for `raw`.
    pub fn bytes(&mut self, stream: Stream, bytes: Vec<u8>, raw: &[u8]) {
        let record = self
            .chain
            .append(stream, bytes.len() as u64, Digest::of(&bytes));
        self.objects.insert(record.key(), Object::Bytes(bytes));
        self.raw.entry(stream).or_default().extend_from_slice(raw);
    }

    /// The stored objects of a run that was cut here.
    pub fn cut(self) -> Objects {
        self.objects
    }

    /// The stored objects of a run that was cut before these segments of `stream` arrived.
    pub fn cut_without(mut self, stream: Stream, numbers: &[u32]) -> Objects {
        for number in numbers {
            self.objects.remove(&stream.segment_key(*number)).unwrap();
        }
        self.objects
    }

    /// The stored objects of a run that was cut after CHAIN.
    pub fn with_chain(mut self) -> Objects {
        let chain = self.chain.to_text().into_bytes();
        self.objects
            .insert("CHAIN".to_owned(), Object::Bytes(chain));
        self.objects
    }

    /// The stored objects of a run that ended, complete.
    pub fn end(self, archive: &Archive) -> Objects {
        let manifest = self.manifest(archive.totals());
        self.end_with(&manifest)
    }

    /// The stored objects of a run that ended with `manifest`.
    pub fn end_with(self, manifest: &Manifest) -> Objects {
        let mut objects = self.with_chain();
        let manifest = Object::Bytes(manifest.to_bytes().unwrap());
        objects.insert("manifest.json".to_owned(), manifest);
        objects
    }

    fn totals(&self, stream: Stream, raw: &[u8]) -> StreamTotals {
        let records = self.chain.records().iter().filter(|r| r.stream == stream);
        let (segments, bytes) = records.fold((0, 0), |(n, sum), r| (n + 1, sum + r.length));
        StreamTotals {
            stream,
            segments,
            bytes,
            raw_bytes: raw.len() as u64,
        }
    }

    fn stored(&self) -> Vec<StoredObject> {
        let chain = self.chain.to_text();
        let records = self.chain.records().iter();
        records
            .map(|record| (record.key(), record.length, record.sha256))
            .chain([(
                "CHAIN".to_owned(),
                chain.len() as u64,
                Digest::of(chain.as_bytes()),
            )])
            .map(|(key, bytes, sha256)| StoredObject {
                key,
                bytes,
                sha256: Some(sha256),
                shipped: true,
                ..StoredObject::default()
            })
            .collect()
    }

    /// The manifest of a run that is complete.
    pub fn manifest(&self, inventory: InventoryTotals) -> Manifest {
        let chain = self.chain.to_text();
        Manifest {
            format_version: 1,
            status: Completeness::Complete,
            reasons: Vec::new(),
            case: Case {
                prefix: self.chain.prefix().clone(),
                operator: "j.doe".to_owned(),
                reason: "GuardDuty finding".to_owned(),
                arguments: vec!["exhibit-agent".to_owned(), "collect".to_owned()],
                profile: None,
                sensitive: Default::default(),
            },
            tool: tool(),
            host: host(),
            clock: clock(),
            streams: self
                .raw
                .iter()
                .map(|(stream, raw)| self.totals(*stream, raw))
                .collect(),
            chain: ChainTotals {
                records: u32::try_from(self.chain.records().len()).unwrap(),
                head: self.chain.head(),
                sha256: Digest::of(chain.as_bytes()),
            },
            inventory,
            artifacts: vec![artifact()],
            store: Store {
                kind: "directory".to_owned(),
                place: format!("/evidence/{}", self.chain.prefix()),
                resolved_by: None,
                object_lock: "none".to_owned(),
                spool: None,
                failure: None,
            },
            objects: self.stored(),
            impact: Impact {
                pid: 4242,
                executable: Some("/root/exhibit-agent".to_owned()),
                ..Impact::default()
            },
        }
    }
}

fn instant(seconds: i64) -> Instant {
    Instant {
        utc_ns: (i64::try_from(START_S).unwrap() + seconds) * 1_000_000_000,
        monotonic_ns: (3600 + seconds) * 1_000_000_000,
        boottime_ns: (3600 + seconds) * 1_000_000_000,
    }
}

fn tool() -> Tool {
    Tool {
        name: "exhibit-agent".to_owned(),
        version: "0.1.0".to_owned(),
        commit: "unknown".to_owned(),
        sha256: Some(Digest::of(b"the agent")),
    }
}

fn host() -> Host {
    Host {
        hostname: Some("web-1".to_owned()),
        kernel_release: Some("6.1.0".to_owned()),
        architecture: Some("x86_64".to_owned()),
        ..Host::default()
    }
}

fn clock() -> Clock {
    Clock {
        started: instant(0),
        ended: instant(9),
        step_ns: 0,
        offset_ms: None,
        offset_source: None,
    }
}

fn artifact() -> ArtifactReport {
    ArtifactReport {
        name: "files".to_owned(),
        outcome: Outcome::Captured,
        reason: None,
        started: instant(1),
        ended: instant(8),
        items: 2,
        bytes: 6,
        vanished: 0,
        losses: BTreeMap::new(),
    }
}
