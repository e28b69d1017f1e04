//! What there is: tools, people, hosts, files, and the collections that they belong to.

use std::collections::{BTreeMap, BTreeSet};

use evidence::manifest::Tool;
use serde_json::{Value, json};

use super::{Document, Run, with};
use crate::export::bag::{DATA, Entry};
use crate::export::words;

/// The orchestrator. Which version of it wrote a record, no record says.
pub(super) const EXHIBIT: &str = "exhibit";

/// What tells one agent from another.
pub(super) fn agent(tool: &Tool) -> String {
    let sha256 = tool
        .sha256
        .map_or_else(|| "unknown".to_owned(), |sha256| sha256.to_string());
    format!(
        "{} {}, commit {}, SHA-256 {sha256}",
        tool.name, tool.version, tool.commit
    )
}

impl<'a> Document<'a> {
    pub(super) fn tools(&self) -> impl Iterator<Item = Value> {
        let of = |which: &str, name: &str, version: Option<&str>| {
            let node = json!({
                "@id": self.names.name("tool", which),
                "@type": "uco-tool:Tool",
                "uco-core:name": name,
                "uco-core:description": which,
            });
            let version = version.map(Value::from);
            (which.to_owned(), with(node, "uco-tool:version", version))
        };
        let tools = self.told.runs.values().map(|run| &run.tool);
        let agents = tools.map(|tool| of(&agent(tool), &tool.name, Some(&tool.version)));
        let version = env!("CARGO_PKG_VERSION");
        let exporter = of(&crate::export::software(), EXHIBIT, Some(version));
        let own = [of(EXHIBIT, EXHIBIT, None), exporter];
        let tools: BTreeMap<String, Value> = agents.chain(own).collect();
        tools.into_values()
    }

    /// Everybody in whose name something was done.
    pub(super) fn identities(&self) -> impl Iterator<Item = Value> {
        let records = self
            .told
            .records
            .iter()
            .map(|record| record.operator.as_str());
        let runs = self.told.runs.values().map(|run| run.operator.as_str());
        let names: BTreeSet<&str> = records.chain(runs).collect();
        names.into_iter().map(|name| {
            json!({
                "@id": self.names.name("identity", name),
                "@type": "uco-identity:Identity",
                "uco-core:name": name,
            })
        })
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = Value> {
        self.hosts.iter().map(|host| {
            let runs = self.told.runs.iter();
            let own = runs.filter(|(place, _)| place.split('/').next() == Some(host));
            // The same words of the same host are one facet, whatever collection has them.
            let facets: BTreeMap<String, Value> =
                own.flat_map(|(_, run)| self.facets(host, run)).collect();
            let device = json!({
                "@id": self.names.name("device", host),
                "@type": "uco-observable:DeviceFacet",
                "uco-observable:serialNumber": host,
            });
            json!({
                "@id": self.names.name("host", host),
                "@type": "uco-observable:ObservableObject",
                "uco-core:name": host,
                "uco-core:description": "What the facets say besides the serial number is the host's own word.",
                "uco-core:hasFacet": std::iter::once(device).chain(facets.into_values()).collect::<Vec<_>>(),
            })
        })
    }

    /// What a host says of itself, as far as it does, by name.
    fn facets(&self, host: &str, run: &Run) -> Vec<(String, Value)> {
        let said = &run.host;
        let kernel: Vec<&str> = [&said.kernel_release, &said.kernel_version]
            .into_iter()
            .filter_map(|text| text.as_deref())
            .collect();
        let kernel = (!kernel.is_empty()).then(|| kernel.join(" "));
        let facets = [
            (
                "ComputerSpecificationFacet",
                "hostname",
                said.hostname.clone(),
            ),
            (
                "ComputerSpecificationFacet",
                "processorArchitecture",
                said.architecture.clone(),
            ),
            ("SoftwareFacet", "version", kernel),
        ];
        let said = facets.into_iter().filter_map(|(facet, property, value)| {
            let value = value?;
            let name = self
                .names
                .name("word", &format!("{host} {property} {value}"));
            let node = json!({"@id": name, "@type": format!("uco-observable:{facet}")});
            let property = format!("uco-observable:{property}");
            Some((name, with(node, &property, Some(value.into()))))
        });
        said.collect()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = Value> {
        self.told.payload.iter().map(|entry| self.described(entry))
    }

    fn described(&self, entry: &Entry) -> Value {
        let path = entry.path.as_str();
        let name = path.rsplit('/').next().unwrap_or(path);
        json!({
            "@id": self.names.name("file", path),
            "@type": "uco-observable:File",
            "uco-core:hasFacet": [{
                "@id": self.names.name("file-facet", path),
                "@type": "uco-observable:FileFacet",
                "uco-observable:fileName": name,
                "uco-observable:filePath": format!("{DATA}/{path}"),
                "uco-observable:sizeInBytes": entry.bytes,
            }, {
                "@id": self.names.name("content", path),
                "@type": "uco-observable:ContentDataFacet",
                "uco-observable:hash": {
                    "@id": self.names.name("hash", path),
                    "@type": "uco-types:Hash",
                    "uco-types:hashMethod": "SHA256",
                    "uco-types:hashValue": {"@type": "xsd:hexBinary", "@value": entry.sha256},
                },
            }],
        })
    }

    /// Each collection with its files, and the custody with its records.
    pub(super) fn collections(&self) -> impl Iterator<Item = Value> {
        let custody = json!({
            "@id": self.names.name("custody", ""),
            "@type": "case-investigation:ProvenanceRecord",
            "uco-core:name": "custody",
            "case-investigation:exhibitNumber": format!("{}/custody", self.told.case.id),
            "uco-core:description": &self.told.copy.problems,
            "uco-core:object": self.files_below("custody"),
        });
        let places = self.places.iter();
        std::iter::once(custody).chain(places.map(|place| self.collection(place)))
    }

    fn collection(&self, place: &str) -> Value {
        let host = place.split('/').next().unwrap_or(place);
        let mut objects = vec![self.refer("host", host)];
        objects.extend(self.files_below(place));
        let mut copied = self.told.copy.collections.iter();
        let description = match copied.find(|(there, _)| there == place) {
            None => vec!["nothing of it is in the bucket".to_owned()],
            Some((_, report)) => {
                let problems = report
                    .problems
                    .iter()
                    .map(|problem| format!("problem: {problem}"));
                let missing = report
                    .reasons
                    .iter()
                    .map(|reason| format!("missing: {reason}"));
                let verdict = std::iter::once(words(report));
                verdict.chain(problems).chain(missing).collect()
            }
        };
        json!({
            "@id": self.names.name("collection", place),
            "@type": "case-investigation:ProvenanceRecord",
            "uco-core:name": place,
            "case-investigation:exhibitNumber": format!("{}/{place}", self.told.case.id),
            "uco-core:description": description,
            "uco-core:object": objects,
        })
    }

    fn files_below(&self, place: &str) -> Vec<Value> {
        let prefix = format!("{place}/");
        let first = self
            .told
            .payload
            .partition_point(|entry| entry.path < prefix);
        let from = self.told.payload.iter().skip(first);
        let below = from.take_while(|entry| entry.path.starts_with(&prefix));
        below.map(|entry| self.refer("file", &entry.path)).collect()
    }
}
