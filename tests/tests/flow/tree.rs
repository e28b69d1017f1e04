//! A tree that stands in for a host, and what a run found of it.

use std::collections::BTreeMap;
use std::path::Path;

use exhibit_tests::rig::agent::Agent;
use serde_json::Value;

use super::{Ended, collect, collection, folder};

/// A recorded tree with what the tests look for.
pub struct Ground {
    pub root: tempfile::TempDir,
    pub to: tempfile::TempDir,
}

impl Ground {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let ground = Self {
            root: tempfile::tempdir().unwrap(),
            to: tempfile::tempdir().unwrap(),
        };
        for (path, content) in files {
            let path = ground.root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        ground
    }

    pub fn collect(&self, more: &[&str]) -> Found {
        let agent = Agent::built().unwrap();
        let root = ["--root", self.root.path().to_str().unwrap()];
        let more = [&root, more].concat();
        let ended = collect(&agent, self.to.path().to_str().unwrap(), &more);
        assert!([0, 3].contains(&ended.code), "{ended:?}");
        let folder = folder(self.to.path(), &ended.prefix());
        Found::of(&folder, ended)
    }
}

pub struct Found {
    pub ended: Ended,
    pub manifest: Value,
    pub members: BTreeMap<Vec<u8>, Vec<u8>>,
    pub inventory: Vec<Value>,
}

impl Found {
    pub fn of(folder: &Path, ended: Ended) -> Self {
        let members = collection::members(folder);
        Self {
            ended,
            manifest: collection::manifest(folder),
            inventory: collection::table(&members, "inventory.jsonl"),
            members,
        }
    }

    /// The content of a file of the root, if it is there.
    pub fn content(&self, path: &str) -> Option<&[u8]> {
        let member = self.members.get(format!("[root]/{path}").as_bytes());
        member.map(Vec::as_slice)
    }

    /// The line of a file of the root.
    pub fn line(&self, path: &str) -> &Value {
        let path = format!("[root]/{path}");
        let line = self.inventory.iter().find(|line| line["path"] == path);
        line.unwrap_or_else(|| panic!("{path} is not in the inventory"))
    }

    pub fn reason(&self, path: &str) -> &str {
        self.line(path)["reason"].as_str().unwrap_or_default()
    }

    pub fn outcome(&self, artifact: &str) -> &str {
        collection::artifact(&self.manifest, artifact)["outcome"]
            .as_str()
            .unwrap()
    }

    pub fn has_anywhere(&self, text: &str) -> bool {
        let mut contents = self.members.values();
        contents.any(|content| collection::contains(content, text.as_bytes()))
    }
}
