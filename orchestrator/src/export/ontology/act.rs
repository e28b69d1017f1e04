//! What was done: a collection by the agent, by its manifest; everything else by the records of custody.
//!
//! An act's objects are found by the names of its fields, not by its kind, so an act that comes later is told, too.

use evidence::custody::Record;
use evidence::manifest::Instant;
use evidence::sums::{PUBLIC_KEY, SHA256SUMS, SIGNATURE};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Document, Run, thing, time, with};
use crate::case::Case;
use crate::custody::text_of;

/// The instances that an act is about, by its own word or by its request's.
pub(super) fn instances<'a>(case: &'a Case, record: &'a Record) -> Vec<&'a str> {
    let event = &record.event;
    let one = event.get("instance").into_iter();
    let many = event.get("instances").and_then(Value::as_array);
    let own: Vec<&str> = one
        .chain(many.into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    let request = event.get("request").and_then(Value::as_str);
    let disks = case.disks.iter().map(|disks| &disks.request);
    let mut of_disks = disks.filter(|disks| request == Some(disks.id.as_str()));
    if let Some(disks) = of_disks.next() {
        return vec![disks.instance.as_str()];
    }
    match request.and_then(|id| case.request(id)) {
        Some(requested) if own.is_empty() => requested
            .request
            .instances
            .iter()
            .map(String::as_str)
            .collect(),
        _ => own,
    }
}

impl Document<'_> {
    pub(super) fn acts(&self) -> impl Iterator<Item = Value> {
        let runs = self.told.runs.iter();
        let collecting = runs.map(|(place, run)| self.collecting(place, run));
        let before = std::iter::once(None).chain(self.told.records.iter().map(Some));
        let records = self.told.records.iter().zip(before);
        collecting.chain(records.map(|(record, before)| self.act(record, before)))
    }

    fn act(&self, record: &Record, before: Option<&Record>) -> Value {
        // Only the last record is known to be of this version.
        let last = record.number + 1 == self.told.records.len() as u64;
        let tool = if last {
            crate::export::software()
        } else {
            thing::EXHIBIT.to_owned()
        };
        let act = json!({
            "@id": self.names.name("act", &record.key()),
            "@type": "case-investigation:InvestigativeAction",
            "uco-core:name": record.kind(),
            "uco-core:description": Value::Object(record.event.clone()).to_string(),
            "uco-action:startTime": time(&record.time),
            "uco-action:performer": self.refer("identity", &record.operator),
            "uco-action:instrument": self.refer("tool", &tool),
            "uco-action:object": self.objects(record),
            "uco-action:result": self.results(record),
        });
        let before = before.map(|before| self.refer("act", &before.key()));
        with(act, "case-investigation:wasInformedBy", before)
    }

    /// The collection that the act names, else its instances, else the case.
    fn objects(&self, record: &Record) -> Vec<Value> {
        if let Some(place) = self.place(record) {
            return vec![self.refer("collection", place)];
        }
        let hosts = instances(self.told.case, record);
        if hosts.is_empty() {
            return vec![self.refer("investigation", "")];
        }
        hosts
            .into_iter()
            .map(|host| self.refer("host", host))
            .collect()
    }

    /// The record itself, and what else came of the act.
    fn results(&self, record: &Record) -> Vec<Value> {
        let own = self.file(&record.key()).into_iter();
        let more = match record.kind() {
            "ended" => self.ended(record).into_iter().collect(),
            "sealed" => self.seal(record),
            _ => Vec::new(),
        };
        own.chain(more).collect()
    }

    fn place<'b>(&self, record: &'b Record) -> Option<&'b str> {
        let prefix = record.event.get("prefix")?.as_str()?;
        let (_, place) = prefix.split_once('/')?;
        self.places.contains(place).then_some(place)
    }

    /// The collection that an instance's end left.
    fn ended(&self, record: &Record) -> Option<Value> {
        let text = |name: &str| record.event.get(name)?.as_str();
        let requested = self.told.case.request(text("request")?)?;
        let place = format!("{}/{}", text("instance")?, requested.request.collection);
        let known = self.places.contains(place.as_str());
        known.then(|| self.refer("collection", &place))
    }

    fn seal(&self, record: &Record) -> Vec<Value> {
        let Some(place) = self.place(record) else {
            return Vec::new();
        };
        let names = [evidence::seal::STATEMENT, SHA256SUMS, SIGNATURE, PUBLIC_KEY];
        let files = names
            .into_iter()
            .filter_map(|name| self.file(&format!("{place}/{name}")));
        files.collect()
    }

    /// The run of the agent, on the clock of its host.
    fn collecting(&self, place: &str, run: &Run) -> Value {
        let host = place.split('/').next().unwrap_or(place);
        let act = json!({
            "@id": self.names.name("collecting", place),
            "@type": "case-investigation:InvestigativeAction",
            "uco-core:name": "collecting",
            "uco-core:description": "Its times are by the clock of the host.",
            "uco-action:performer": self.refer("identity", &run.operator),
            "uco-action:instrument": self.refer("tool", &thing::agent(&run.tool)),
            "uco-action:object": self.refer("host", host),
            "uco-action:result": self.refer("collection", place),
        });
        let instant = |instant: Instant| {
            let utc = OffsetDateTime::from_unix_timestamp_nanos(instant.utc_ns.into());
            utc.ok().map(|utc| time(&text_of(utc)))
        };
        let act = with(act, "uco-action:startTime", instant(run.clock.started));
        with(act, "uco-action:endTime", instant(run.clock.ended))
    }
}
