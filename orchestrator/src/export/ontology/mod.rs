//! The case in CASE 1.5 and UCO (JSON-LD), one node a line: who did what, when, with what, to what, and what came of it.
//!
//! Everything is a value that serde escapes, so a host that calls itself something hostile changes nothing but its name.
//! Nothing is told that the bag does not prove or the journal does not say.

mod act;
mod name;
mod thing;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::iter;

use evidence::custody::Record;
use evidence::manifest::{Clock, Host, Manifest, Tool};
use serde_json::{Value, json};

use super::bag::Entry;
use crate::case::Case;
use crate::copy::Copy;
use name::Names;

/// What there is to tell.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) case: &'a Case,
    pub(super) records: &'a [Record],
    pub(super) copy: &'a Copy,
    /// By place: `<host>/<collection>`.
    pub(super) runs: BTreeMap<String, Run>,
    /// By path.
    pub(super) payload: &'a [Entry],
}

/// What the manifest of a verified collection says of the run.
#[derive(Debug)]
pub(super) struct Run {
    operator: String,
    tool: Tool,
    host: Host,
    clock: Clock,
}

impl From<Manifest> for Run {
    fn from(manifest: Manifest) -> Self {
        Self {
            operator: manifest.case.operator,
            tool: manifest.tool,
            host: manifest.host,
            clock: manifest.clock,
        }
    }
}

/// Writes the document.
///
/// # Errors
/// When `out` fails.
pub(super) fn write(told: &Told<'_>, out: &mut dyn Write) -> io::Result<()> {
    let document = Document::of(told);
    let context = json!({
        "case-investigation": "https://ontology.caseontology.org/case/investigation/",
        "uco-action": "https://ontology.unifiedcyberontology.org/uco/action/",
        "uco-core": "https://ontology.unifiedcyberontology.org/uco/core/",
        "uco-identity": "https://ontology.unifiedcyberontology.org/uco/identity/",
        "uco-observable": "https://ontology.unifiedcyberontology.org/uco/observable/",
        "uco-tool": "https://ontology.unifiedcyberontology.org/uco/tool/",
        "uco-types": "https://ontology.unifiedcyberontology.org/uco/types/",
        "xsd": "http://www.w3.org/2001/XMLSchema#",
    });
    write!(
        out,
        "{{\"@context\":{context},\"@graph\":[\n{}",
        document.investigation()
    )?;
    let nodes = document.tools().chain(document.identities());
    let nodes = nodes.chain(document.hosts()).chain(document.files());
    let nodes = nodes.chain(document.collections()).chain(document.acts());
    for node in nodes {
        write!(out, ",\n{node}")?;
    }
    out.write_all(b"\n]}\n")
}

/// The document, and what is named in it.
struct Document<'a> {
    told: &'a Told<'a>,
    names: Names,
    /// `<host>/<collection>`, of the journal and of the copy.
    places: BTreeSet<&'a str>,
    hosts: BTreeSet<&'a str>,
}

impl<'a> Document<'a> {
    fn of(told: &'a Told<'a>) -> Self {
        let known = told.case.collections.keys();
        let known = known.filter_map(|prefix| Some(prefix.split_once('/')?.1));
        let copied = told
            .copy
            .collections
            .iter()
            .map(|(place, _)| place.as_str());
        let places: BTreeSet<&str> = known.chain(copied).collect();
        let hosts = places
            .iter()
            .filter_map(|place| Some(place.split_once('/')?.0));
        let acted = told
            .records
            .iter()
            .flat_map(|record| act::instances(told.case, record));
        Self {
            names: Names::of(told.records.first()),
            hosts: hosts.chain(acted).collect(),
            told,
            places,
        }
    }

    fn investigation(&self) -> Value {
        let case = self.told.case;
        let parts = self
            .places
            .iter()
            .map(|place| self.refer("collection", place));
        let acts = self
            .told
            .records
            .iter()
            .map(|record| self.refer("act", &record.key()));
        let collecting = self
            .told
            .runs
            .keys()
            .map(|place| self.refer("collecting", place));
        let parts = parts.chain(iter::once(self.refer("custody", "")));
        json!({
            "@id": self.names.name("investigation", ""),
            "@type": "case-investigation:Investigation",
            "uco-core:name": case.id,
            "uco-core:description": case.reason,
            "uco-core:startTime": time(&case.opened),
            "uco-core:object": parts.chain(collecting).chain(acts).collect::<Vec<_>>(),
        })
    }

    /// The name of a thing that is described elsewhere.
    fn refer(&self, kind: &str, which: &str) -> Value {
        json!({"@id": self.names.name(kind, which)})
    }

    /// A file of the payload, if it is there.
    fn file(&self, path: &str) -> Option<Value> {
        let payload = self.told.payload;
        let there = payload.binary_search_by(|entry| entry.path.as_str().cmp(path));
        there.ok().map(|_| self.refer("file", path))
    }
}

/// An instant of the journal.
fn time(text: &str) -> Value {
    json!({"@type": "xsd:dateTime", "@value": text})
}

/// The node with one more property, if that has a value.
fn with(mut node: Value, property: &str, value: Option<Value>) -> Value {
    if let (Some(properties), Some(value)) = (node.as_object_mut(), value) {
        properties.insert(property.to_owned(), value);
    }
    node
}

#[cfg(test)]
#[path = "ontology_tests.rs"]
mod tests;
