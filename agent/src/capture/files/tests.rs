//! Every path that responders are known to collect belongs to a family.

use std::path::Path;

use super::super::walk::{self, Seen, Want};
use super::*;

/// Merged from public lists of paths; `~` is a home, `**` any depth, a bare directory its tree.
const KNOWN: &str = include_str!("known_paths.txt");

/// What the artifacts `processes` and `kernel` read themselves.
const OF_OTHERS: &[&str] = &["/proc/"];

/// A path that `glob` matches.
fn example(glob: &str) -> String {
    let class = |text: &str| {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('[') {
            let (set, after) = after.split_once(']').unwrap();
            out.push_str(before);
            out.push(set.chars().next().unwrap());
            rest = after;
        }
        out + rest
    };
    let home = glob.replacen('~', "/home/ana", usize::from(glob.starts_with('~')));
    class(
        &home
            .replace("**", "d1/d2")
            .replace('*', "x")
            .replace('?', "y"),
    )
}

#[test]
fn every_known_path_has_a_family() {
    let root = tempfile::tempdir().unwrap();
    let lines = KNOWN
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let globs: Vec<&str> = lines
        .filter(|glob| !OF_OTHERS.iter().any(|other| glob.starts_with(other)))
        .collect();
    assert!(globs.len() > 2_200);
    for glob in &globs {
        let path = root.path().join(example(glob).trim_start_matches('/'));
        // Names that are a file for one glob and a directory for another end as the directory.
        let _ = std::fs::create_dir_all(path.parent().unwrap());
        if !path.exists() {
            let _ = std::fs::write(&path, "x");
        }
    }
    let host = Host::open(root.path()).unwrap();
    let families = own().families;
    let wants: Vec<Want<'_>> = families
        .iter()
        .flat_map(|family| {
            family.globs.iter().map(|glob| Want {
                owner: 1,
                glob,
                tree: family.content != Content::Metadata,
            })
        })
        .collect();
    let plan = walk::Plan::new(&host, &wants, true);
    let mut matched = std::collections::BTreeSet::new();
    walk::walk(&host, &plan, u64::MAX, &mut |seen| {
        match seen {
            Seen::Entry {
                folder,
                found,
                owners,
                ..
            } if !owners.is_empty() => {
                matched.insert(folder.join(&found.name));
            }
            Seen::Link { path, .. } => {
                matched.insert(path.to_owned());
            }
            _ => {}
        }
        Ok(())
    })
    .unwrap();
    let here = |glob: &&&str| {
        root.path()
            .join(example(glob).trim_start_matches('/'))
            .symlink_metadata()
            .is_ok()
    };
    let missed: Vec<&&str> = globs
        .iter()
        .filter(here)
        .filter(|glob| !matched.contains(Path::new(&example(glob))))
        .collect();
    assert!(
        missed.is_empty(),
        "{} of {}: {missed:#?}",
        missed.len(),
        globs.len()
    );
}
