//! Answers of EC2.

use std::collections::BTreeMap;
use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::refusal::{Answer, REQUEST_ID, escape, xml_response};

/// `<name>text</name>`.
pub(super) fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

/// `<name>` around elements that are written already.
pub(super) fn around(name: &str, inner: &str) -> String {
    format!("<{name}>{inner}</{name}>")
}

/// A list of items.
pub(super) fn set(name: &str, items: impl IntoIterator<Item = String>) -> String {
    let items: String = items
        .into_iter()
        .map(|item| around("item", &item))
        .collect();
    around(name, &items)
}

pub(super) fn tags(tags: &BTreeMap<String, String>) -> String {
    let tag = |(key, value): (&String, &String)| element("key", key) + &element("value", value);
    set("tagSet", tags.iter().map(tag))
}

pub(super) fn date(time: SystemTime) -> String {
    let date = OffsetDateTime::from(time);
    date.format(&Rfc3339).unwrap_or_default()
}

/// The whole answer to an operation.
pub(super) fn done(operation: &str, inner: &str) -> Answer {
    let name = format!("{operation}Response");
    let id = element("requestId", REQUEST_ID);
    Ok(xml_response(200, around(&name, &(id + inner))))
}
