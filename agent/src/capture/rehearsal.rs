//! Runs an artifact as a run does, and shows what came of it. For tests alone.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use evidence::Chain;
use evidence::manifest::ArtifactReport;
use evidence::member::Reader;
use serde_json::Value;

use super::Artifact;
use super::runner::{self, Limits};
use crate::bundle::{Shape, Writer, unpack};
use crate::host::Host;
use crate::limits::Throttle;

/// What an artifact left behind.
pub(crate) struct Rehearsed {
    pub(crate) report: ArtifactReport,
    /// Contents by name in the tar.
    pub(crate) members: BTreeMap<String, Vec<u8>>,
}

impl Rehearsed {
    /// The lines of a table below `live_response/`.
    pub(crate) fn table(&self, name: &str) -> Vec<Value> {
        self.lines(&format!("live_response/{name}.jsonl"))
    }

    /// The findings.
    pub(crate) fn findings(&self) -> Vec<Value> {
        self.lines("findings.jsonl")
    }

    fn lines(&self, member: &str) -> Vec<Value> {
        let bytes = self.members.get(member).cloned().unwrap_or_default();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|l| !l.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

/// Runs `artifact` on the host below `root`.
pub(crate) fn rehearse(artifact: &dyn Artifact, root: &Path) -> Rehearsed {
    let segments = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&segments);
    let take = Box::new(move |segment| {
        into.lock().unwrap().push(segment);
        true
    });
    let shape = Shape {
        level: 1,
        workers: 1,
        memory_segment: 1 << 20,
    };
    let chain = Chain::new("c/h/1".parse().unwrap());
    let mut bundle = Writer::start(chain, shape, take).unwrap();
    let limits = Limits {
        run_deadline: None,
        max_file_bytes: u64::MAX,
        total_left: Cell::new(u64::MAX),
        throttle: Throttle::new(None),
        watch: &|_, _| {},
    };
    let host = Host::open(root).unwrap();
    let interrupted = AtomicBool::new(false);
    let report = runner::run(artifact, &host, &mut bundle, &limits, &interrupted);
    bundle.finish().unwrap();
    let tar = unpack(segments.lock().unwrap().iter());
    let (mut members, mut reader) = (BTreeMap::new(), Reader::new(&tar[..]));
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        let piece = |piece: &[u8]| content.extend_from_slice(piece);
        reader.content(&entry, piece).unwrap();
        let name = String::from_utf8_lossy(&entry.member.name).into_owned();
        members.insert(name, content);
    }
    Rehearsed { report, members }
}
