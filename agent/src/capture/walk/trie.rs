//! Globs of all families in one tree of path components, so that a directory is matched against all of them at once.
//!
//! `*`, `?` and `[..]` stay within a name, `**` stands for any number of directories, `~/` in front for the home of each
//! user. Names are bytes, and hidden ones are names like others.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Who wants what a glob matches.
pub(crate) type Owner = u16;

/// Places in the tree where a walk stands at once. Small: most directories are below one or two globs.
pub(crate) type States = Vec<u32>;

#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<[u8]>, u32>,
    /// Components with `?`, `[..]`, or `*` among other characters; after [`Trie::compile`] also as a set.
    patterns: Vec<(String, u32)>,
    set: GlobSet,
    /// A component that is `*` alone.
    every: Option<u32>,
    /// Reached by `**`: by no component, or by any number.
    deep: Option<u32>,
    stays: bool,
    owners: Vec<Owner>,
}

/// A glob that can not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GlobError {
    #[error("it has to start with / or ~/")]
    Start,
    #[error("`..` and `.` lead nowhere")]
    Dots,
    #[error("`**` has to be a whole part of the path")]
    Deep,
    #[error("{0}")]
    Glob(globset::Error),
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
}

const ROOT: u32 = 0;
const HOME: u32 = 1;

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default(), Node::default()],
        }
    }
}

/// Whether `glob` can be added.
pub(crate) fn check(glob: &str) -> Result<(), GlobError> {
    let rest = glob.strip_prefix('~').unwrap_or(glob);
    if glob != "~" && !rest.starts_with('/') {
        return Err(GlobError::Start);
    }
    for part in parts(rest) {
        match part {
            "." | ".." => return Err(GlobError::Dots),
            "**" => {}
            part if part.contains("**") => return Err(GlobError::Deep),
            part => drop(GlobSet::new([matcher(part)?])),
        }
    }
    Ok(())
}

/// Whether the last part of `glob` is a name, so that a directory of that name means all that is in it.
pub(crate) fn names_its_end(glob: &str) -> bool {
    !matches!(glob.rsplit('/').next(), Some("*" | "**" | ""))
}

/// The parts of `glob` before the first that is no plain name, the last one never among them.
pub(crate) fn fixed(glob: &str) -> (Vec<&str>, Vec<&str>) {
    let all: Vec<&str> = parts(glob).collect();
    let plain = all.iter().take_while(|part| is_plain(part)).count();
    let (fixed, rest) = all.split_at(plain.min(all.len().saturating_sub(1)));
    (fixed.to_vec(), rest.to_vec())
}

/// The parts of a glob.
pub(crate) fn parts(glob: &str) -> impl Iterator<Item = &str> {
    glob.split('/').filter(|part| !part.is_empty())
}

fn is_plain(part: &str) -> bool {
    !part.contains(['*', '?', '['])
}

fn matcher(part: &str) -> Result<globset::Glob, GlobError> {
    // Braces mean themselves: a choice is two globs.
    let part = part.replace('{', "[{]").replace('}', "[}]");
    GlobBuilder::new(&part)
        .literal_separator(true)
        .backslash_escape(false)
        .build()
        .map_err(GlobError::Glob)
}

impl Trie {
    /// Adds the glob that continues with `rest` below the real directory `base`, or below each home without one.
    pub(crate) fn add(&mut self, base: Option<&Path>, rest: &[&str], owner: Owner) {
        let mut node = HOME;
        if let Some(base) = base {
            node = base.components().skip(1).fold(ROOT, |node, part| {
                self.literal(node, part.as_os_str().as_bytes())
            });
        }
        for part in rest {
            node = match *part {
                "**" => self.child(node, |node| &mut node.deep),
                "*" => self.child(node, |node| &mut node.every),
                part if is_plain(part) => self.literal(node, part.as_bytes()),
                part => self.pattern(node, part),
            };
            if *part == "**"
                && let Some(node) = self.nodes.get_mut(node as usize)
            {
                node.stays = true;
            }
        }
        if let Some(node) = self.nodes.get_mut(node as usize)
            && !node.owners.contains(&owner)
        {
            node.owners.push(owner);
        }
    }

    fn fresh(&mut self) -> u32 {
        self.nodes.push(Node::default());
        u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
    }

    fn child(&mut self, node: u32, of: fn(&mut Node) -> &mut Option<u32>) -> u32 {
        let fresh = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let Some(place) = self.nodes.get_mut(node as usize).map(of) else {
            return node;
        };
        let child = *place.get_or_insert(fresh);
        if child == fresh {
            self.fresh();
        }
        child
    }

    fn literal(&mut self, node: u32, name: &[u8]) -> u32 {
        let known = self
            .nodes
            .get(node as usize)
            .and_then(|node| node.literal.get(name).copied());
        known.unwrap_or_else(|| {
            let fresh = self.fresh();
            if let Some(node) = self.nodes.get_mut(node as usize) {
                node.literal.insert(name.into(), fresh);
            }
            fresh
        })
    }

    fn pattern(&mut self, node: u32, part: &str) -> u32 {
        let known = self.nodes.get(node as usize).and_then(|node| {
            let mut patterns = node.patterns.iter();
            patterns
                .find(|(text, _)| text == part)
                .map(|(_, node)| *node)
        });
        known.unwrap_or_else(|| {
            let fresh = self.fresh();
            if let Some(node) = self.nodes.get_mut(node as usize) {
                node.patterns.push((part.to_owned(), fresh));
            }
            fresh
        })
    }

    /// Makes the sets of patterns, once all globs are in.
    pub(crate) fn compile(&mut self) {
        for node in self
            .nodes
            .iter_mut()
            .filter(|node| !node.patterns.is_empty())
        {
            let mut set = GlobSetBuilder::new();
            // Each was checked when it was read.
            let globs = node
                .patterns
                .iter()
                .filter_map(|(part, _)| matcher(part).ok());
            globs.for_each(|glob| {
                set.add(glob);
            });
            node.set = set.build().unwrap_or_default();
        }
    }

    /// Where a walk of `/` starts, and one of a home.
    pub(crate) fn root(&self) -> States {
        self.closed(vec![ROOT])
    }

    pub(crate) fn home(&self) -> States {
        self.closed(vec![HOME])
    }

    /// Follows `name` from `states`: where it leads, and in `owners` who wants it.
    pub(crate) fn step(&self, states: &[u32], name: &OsStr, owners: &mut Vec<Owner>) -> States {
        let mut next = Vec::new();
        let mut hits = Vec::new();
        for state in states {
            let Some(node) = self.nodes.get(*state as usize) else {
                continue;
            };
            next.extend(node.stays.then_some(*state));
            next.extend(node.every);
            next.extend(node.literal.get(name.as_bytes()));
            if !node.patterns.is_empty() {
                node.set.matches_into(Path::new(name), &mut hits);
                let reached = hits.iter().filter_map(|hit| node.patterns.get(*hit));
                next.extend(reached.map(|(_, node)| *node));
            }
        }
        let wants = next
            .iter()
            .filter_map(|state| self.nodes.get(*state as usize));
        owners.extend(wants.flat_map(|node| &node.owners));
        self.closed(next)
    }

    /// Those of `states` that a walk was led to by a name, not by `**` or `*`.
    pub(crate) fn named(&self, states: &[u32], name: &OsStr) -> States {
        let nodes = states
            .iter()
            .filter_map(|state| self.nodes.get(*state as usize));
        let named = nodes.filter_map(|node| node.literal.get(name.as_bytes()));
        let leads_on = |state: &u32| {
            self.nodes.get(*state as usize).is_some_and(|node| {
                node.deep.is_some()
                    || node.every.is_some()
                    || !node.literal.is_empty()
                    || !node.patterns.is_empty()
            })
        };
        self.closed(named.copied().filter(leads_on).collect())
    }

    /// Who wants something below `states`.
    pub(crate) fn below(&self, states: &[u32]) -> Vec<Owner> {
        let mut seen: States = states.to_vec();
        let mut owners = Vec::new();
        let mut at = 0;
        while let Some(node) = seen
            .get(at)
            .and_then(|state| self.nodes.get(*state as usize))
        {
            let patterns = node.patterns.iter().map(|(_, node)| *node);
            let others = node.every.into_iter().chain(node.deep).chain(patterns);
            let all = node.literal.values().copied().chain(others);
            let next =
                all.filter_map(|child| self.nodes.get(child as usize).map(|node| (child, node)));
            for (child, node) in next {
                owners.extend(&node.owners);
                seen.push(child);
            }
            owners.extend(node.owners.iter().filter(|_| node.stays));
            at += 1;
        }
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Makes a walk reach the directory `path`, which nobody wants itself.
    pub(crate) fn lead_to(&mut self, path: &Path) {
        let names = path.components().skip(1);
        names.fold(ROOT, |node, part| {
            self.literal(node, part.as_os_str().as_bytes())
        });
    }

    /// Without those that match any number of directories.
    pub(crate) fn shallow(&self, states: &[u32]) -> States {
        let stays = |state: &u32| {
            self.nodes
                .get(*state as usize)
                .is_some_and(|node| node.stays)
        };
        states
            .iter()
            .copied()
            .filter(|state| !stays(state))
            .collect()
    }

    /// With what `**` reaches by no component.
    fn closed(&self, mut states: States) -> States {
        let deep = |state: &u32| self.nodes.get(*state as usize).and_then(|node| node.deep);
        let mut at = 0;
        while let Some(state) = states.get(at) {
            states.extend(deep(state));
            at += 1;
        }
        states.sort_unstable();
        states.dedup();
        states
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(globs: &[&str], path: &str) -> Vec<Owner> {
        let mut trie = Trie::default();
        for (owner, glob) in globs.iter().enumerate() {
            check(glob).unwrap();
            let base = glob.starts_with('/').then_some(Path::new("/"));
            let rest: Vec<&str> = glob.trim_start_matches("~/").split('/').collect();
            let rest: Vec<&str> = rest.into_iter().filter(|part| !part.is_empty()).collect();
            trie.add(base, &rest, u16::try_from(owner).unwrap());
        }
        trie.compile();
        let mut states = trie.root();
        if path.starts_with('~') {
            states = trie.home();
        }
        let mut found = Vec::new();
        for part in path.trim_start_matches('~').split('/').skip(1) {
            found.clear();
            states = trie.step(&states, OsStr::new(part), &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    #[test]
    fn parts_of_globs_match_whole_names_and_hidden_ones() {
        let globs = [
            "/var/*/a.log",
            "/var/log/*.log",
            "/var/log/**",
            "/**/.*",
            "/var/log/[ab]?",
        ];
        assert_eq!(owners(&globs, "/var/log/a.log"), [0, 1, 2]);
        assert_eq!(owners(&globs, "/var/log/deep/er/a.log"), [2]);
        assert_eq!(owners(&globs, "/var/log/.x"), [2, 3]);
        assert_eq!(owners(&globs, "/.x"), [3]);
        assert_eq!(owners(&globs, "/var/log/bz"), [2, 4]);
        assert_eq!(
            owners(&globs, "/var/log"),
            [] as [Owner; 0],
            "** is not the directory itself"
        );
        assert_eq!(owners(&globs, "/var/logs/x"), [] as [Owner; 0]);
    }

    #[test]
    fn any_depth_may_be_none() {
        let globs = ["/var/**/x/**/y", "~/**/*.desktop"];
        for path in ["/var/x/y", "/var/a/b/x/y", "/var/x/c/d/y", "/var/x/x/y"] {
            assert_eq!(owners(&globs, path), [0], "{path}");
        }
        assert_eq!(owners(&globs, "/var/y"), [] as [Owner; 0]);
        assert_eq!(owners(&globs, "~/a.desktop"), [1]);
        assert_eq!(owners(&globs, "~/a/b/a.desktop"), [1]);
        assert_eq!(owners(&globs, "/a/b/a.desktop"), [] as [Owner; 0]);
    }

    #[test]
    fn braces_mean_themselves_and_bad_globs_say_why() {
        assert_eq!(owners(&["/${BASE}*/logs"], "/${BASE}1/logs"), [0]);
        for (glob, why) in [
            ("etc/passwd", "start"),
            ("/etc/../x", "nowhere"),
            ("/etc/**x", "whole part"),
            ("/etc/[a", "unclosed"),
        ] {
            let error = check(glob).unwrap_err().to_string();
            assert!(error.contains(why), "{glob}: {error}");
        }
    }
}
