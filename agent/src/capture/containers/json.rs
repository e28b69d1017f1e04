//! JSON of a state file, which may be an intruder's: what is missing or of another kind is passed over, what is long is cut.

use std::collections::BTreeMap;

use serde_json::Value;

/// Longest text, and most entries of a list or a map, that a record takes over; the file has the rest.
const LONGEST: usize = 4096;
const MOST: usize = 1024;

/// A value in a document, by JSON pointers (RFC 6901).
#[derive(Clone, Copy)]
pub struct View<'a>(pub &'a Value);

impl<'a> View<'a> {
    /// A text that is not empty.
    pub fn text(self, pointer: &str) -> Option<String> {
        self.0.pointer(pointer).and_then(text)
    }

    /// The first of these that is a text.
    pub fn first(self, pointers: &[&str]) -> Option<String> {
        pointers.iter().find_map(|pointer| self.text(pointer))
    }

    pub fn flag(self, pointer: &str) -> Option<bool> {
        self.0.pointer(pointer)?.as_bool()
    }

    /// A number, or its digits as a text: runc wrote start times so before 1.0.
    pub fn number(self, pointer: &str) -> Option<u64> {
        let value = self.0.pointer(pointer)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    /// The number of a process.
    pub fn pid(self, pointer: &str) -> Option<i32> {
        let pid = i32::try_from(self.number(pointer)?).ok()?;
        (pid > 0).then_some(pid)
    }

    /// The texts of a list.
    pub fn texts(self, pointer: &str) -> Vec<String> {
        self.each(pointer).filter_map(|item| text(item.0)).collect()
    }

    /// The texts of an object by their names.
    pub fn named_texts(self, pointer: &str) -> BTreeMap<String, String> {
        let entries = self.named(pointer);
        entries
            .filter_map(|(name, value)| Some((clipped(name), text(value.0)?)))
            .collect()
    }

    /// The items of a list.
    pub fn each(self, pointer: &str) -> impl Iterator<Item = View<'a>> + use<'a> {
        let list = self.0.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten().take(MOST).map(View)
    }

    /// The entries of an object.
    pub fn named(self, pointer: &str) -> impl Iterator<Item = (&'a str, View<'a>)> + use<'a> {
        let object = self.0.pointer(pointer).and_then(Value::as_object);
        let entries = object.into_iter().flatten().take(MOST);
        entries.map(|(name, value)| (name.as_str(), View(value)))
    }
}

fn text(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty())?;
    Some(clipped(text))
}

fn clipped(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_of_another_kind_is_passed_over_and_what_is_long_is_cut() {
        let value = json!({
            "name": 7, "empty": "", "long": "x".repeat(10_000), "list": ["a", 1, "b", ""],
            "map": { "k": "v", "n": null }, "pid": -4, "big": 1_u64 << 40, "start": "4711"
        });
        let view = View(&value);
        assert_eq!(view.text("/name"), None);
        assert_eq!(view.text("/long").map(|text| text.len()), Some(LONGEST));
        assert_eq!(
            view.first(&["/name", "/empty", "/map/k"]).as_deref(),
            Some("v")
        );
        assert_eq!(view.texts("/list"), ["a", "b"]);
        assert_eq!(view.named_texts("/map").len(), 1);
        assert_eq!((view.pid("/pid"), view.pid("/big")), (None, None));
        assert_eq!(view.number("/start"), Some(4711));
        assert_eq!(view.each("/map").count() + view.named("/list").count(), 0);
    }
}
