//! A container as its state files tell of it, several of which may tell of the same one.

use std::collections::{BTreeMap, BTreeSet};

use super::labels;

/// Longest id; those of runtimes have 64 digits, names are shorter.
const LONGEST_ID: usize = 256;

/// Whether `id` can be one: nothing that leads somewhere else when it is taken for a name of a file.
pub fn is_id(id: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'+');
    !id.is_empty() && id.len() <= LONGEST_ID && !id.starts_with('.') && id.bytes().all(plain)
}

/// What is mounted into a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Mount {
    /// On the host, or the name of a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub destination: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// The first process of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init {
    pub pid: i32,
    /// Its start, where it is recorded: a number is used again.
    pub start_ticks: Option<u64>,
}

/// A container.
#[derive(Clone, Debug, Default)]
pub struct Container {
    pub id: String,
    pub runtime: Option<&'static str>,
    pub name: Option<String>,
    pub image: Option<String>,
    pub image_id: Option<String>,
    pub created: Option<String>,
    pub started: Option<String>,
    pub state: Option<String>,
    pub init: Option<Init>,
    pub labels: BTreeMap<String, String>,
    pub command: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    pub rootfs: Option<String>,
    pub mounts: Vec<Mount>,
    pub privileged: Option<bool>,
    /// Those that it can have: of the bounding set, or what was added to the usual ones.
    pub capabilities: BTreeSet<String>,
    /// Kinds of namespaces that it has in common with the host, as its settings say.
    pub host_namespaces: BTreeSet<String>,
    /// Files that tell of it.
    pub sources: BTreeSet<String>,
}

impl Container {
    /// One of which only the id is known.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..Self::default()
        }
    }

    /// Takes over what `other`, of the same id, knows and this one does not.
    pub fn merge(&mut self, other: Self) {
        fn either<T>(mine: &mut Option<T>, other: Option<T>) {
            *mine = mine.take().or(other);
        }
        either(&mut self.runtime, other.runtime);
        either(&mut self.name, other.name);
        either(&mut self.image, other.image);
        either(&mut self.image_id, other.image_id);
        either(&mut self.created, other.created);
        either(&mut self.started, other.started);
        either(&mut self.state, other.state);
        either(&mut self.rootfs, other.rootfs);
        either(&mut self.privileged, other.privileged);
        // A start time tells the process from a later one with its number.
        let better = |init: Init| init.start_ticks.is_some();
        match (self.init, other.init) {
            (Some(mine), Some(theirs)) if better(mine) || !better(theirs) => {}
            (mine, theirs) => self.init = theirs.or(mine),
        }
        if self.command.is_empty() {
            self.command = other.command;
        }
        if self.environment.is_empty() {
            self.environment = other.environment;
        }
        for mount in other.mounts {
            let known = |mine: &Mount| mine.destination == mount.destination;
            if !self.mounts.iter().any(known) {
                self.mounts.push(mount);
            }
        }
        for (name, value) in other.labels {
            self.labels.entry(name).or_insert(value);
        }
        self.capabilities.extend(other.capabilities);
        self.host_namespaces.extend(other.host_namespaces);
        self.sources.extend(other.sources);
    }

    /// The pod's own container, which holds its namespaces and runs nothing.
    pub fn is_sandbox(&self) -> bool {
        labels::is_sandbox(&self.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_nowhere() {
        for id in ["0af3", "web-1", "a_b.c+d"] {
            assert!(is_id(id), "{id}");
        }
        let long = "a".repeat(257);
        for id in [
            "",
            "..",
            "../../etc",
            ".hidden",
            "a/b",
            "a b",
            "ü",
            long.as_str(),
        ] {
            assert!(!is_id(id), "{id}");
        }
    }

    #[test]
    fn the_first_word_counts_and_the_better_init_wins() {
        let init = |pid, start_ticks| Some(Init { pid, start_ticks });
        let mut first = Container {
            name: Some("web".to_owned()),
            init: init(7, None),
            ..Container::new("a")
        };
        let second = Container {
            name: Some("other".to_owned()),
            image: Some("nginx".to_owned()),
            init: init(8, Some(99)),
            ..Container::new("a")
        };
        first.merge(second);
        first.merge(Container {
            init: init(9, None),
            ..Container::new("a")
        });
        assert_eq!(first.name.as_deref(), Some("web"));
        assert_eq!(first.image.as_deref(), Some("nginx"));
        assert_eq!(first.init, init(8, Some(99)));
    }
}
