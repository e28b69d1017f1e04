//! Puts files into the collection, as their family and what they hold demand.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use evidence::inventory::FileType;

use super::super::plan::Plan;
use super::super::sensitive::{self, Class, Policy};
use super::super::{Halt, Sink};
use super::{Content, Family};
use crate::host::{Content as Bytes, Folder, Host, HostError, HostFile, SMALL, Stat};

/// Files that are looked at in one go: each question to the host costs two switches of threads.
const BATCH: usize = 32;

/// A file of a family, with the secret that it holds, if any.
pub(super) type Named = (PathBuf, Option<Class>);

/// Takes `files`, neighbours together.
pub(super) fn all(
    host: &Host,
    family: &Family,
    plan: &Plan,
    files: impl Iterator<Item = Named>,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let mut batch: Vec<Named> = Vec::new();
    for file in files {
        let strange = |first: &Named| first.0.parent() != file.0.parent();
        if batch.len() == BATCH || batch.first().is_some_and(strange) {
            take(host, family, plan, std::mem::take(&mut batch), sink)?;
        }
        if !sink.has(&file.0) {
            batch.push(file);
        }
    }
    take(host, family, plan, batch, sink)
}

/// Takes files of one directory, each by its kind.
fn take(
    host: &Host,
    family: &Family,
    plan: &Plan,
    batch: Vec<Named>,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let Some((first, _)) = batch.first() else {
        return Ok(());
    };
    sink.check()?;
    let mut near = Near::new(host, first.parent());
    near.look(batch.iter().map(|(path, _)| path));
    let opened = |(path, class): &Named| {
        let stat = near.looked.get(path.file_name()?)?.as_ref().ok()?;
        let is_file = stat.file_type() == FileType::File && !is_made_up(path);
        let way = is_file.then(|| Way::of(family, plan, *class, stat))?;
        matches!(way, Way::Whole | Way::Hash(_)).then(|| path.clone())
    };
    near.open(&batch.iter().filter_map(opened).collect::<Vec<_>>());
    for (path, class) in &batch {
        let stat = match near.stat(path) {
            Ok(stat) => stat,
            Err(error) => {
                sink.lost(path, &error)?;
                continue;
            }
        };
        match stat.file_type() {
            FileType::File if is_made_up(path) => {
                sink.raw(path, &host.root().read(path, SMALL))?;
            }
            FileType::File => {
                let way = Way::of(family, plan, *class, &stat);
                file(&mut near, family, way, (path, *class, &stat), sink)?;
            }
            FileType::Symlink if family.content == Content::Whole => {
                sink.link(path, &host.root().read_link(path), Some(&stat))?;
            }
            _ => sink.metadata(path, &stat)?,
        }
    }
    Ok(())
}

/// What the kernel makes up states sizes that mean nothing.
fn is_made_up(path: &Path) -> bool {
    path.starts_with("/sys") || path.starts_with("/proc")
}

/// What becomes of a file.
enum Way {
    Metadata,
    /// It did not change since the time that was asked for.
    Old,
    /// Its hash, and why not more.
    Hash(String),
    Mask,
    Whole,
}

impl Way {
    fn of(family: &Family, plan: &Plan, class: Option<Class>, stat: &Stat) -> Self {
        let changed = stat.mtime.max(stat.ctime).nanoseconds_since_epoch();
        let old = family.since && plan.since_ns.is_some_and(|since| changed < since);
        let policy = class.map_or(Policy::Collect, |class| plan.policies.of(class));
        match (family.content, policy) {
            (Content::Metadata, _) => Self::Metadata,
            _ if old => Self::Old,
            (Content::Hash, _) | (_, Policy::Hash) => {
                Self::Hash(class.filter(|_| policy == Policy::Hash).map_or_else(
                    || "only its hash was wanted".to_owned(),
                    |class| format!("only its hash: {} (--sensitive)", class.word()),
                ))
            }
            (Content::Whole, Policy::Mask) => Self::Mask,
            (Content::Whole, Policy::Collect) => Self::Whole,
        }
    }
}

fn file(
    near: &mut Near<'_>,
    family: &Family,
    way: Way,
    (path, class, stat): (&Path, Option<Class>, &Stat),
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    match way {
        Way::Metadata => sink.metadata(path, stat),
        Way::Old => sink.metadata_only(path, stat, "not changed since --since"),
        Way::Mask => mask(near.host, path, class, sink),
        Way::Hash(reason) => match near.file(path) {
            Ok(file) => sink.hashed(path, file, &reason, family.max_file),
            Err(error) => sink.lost(path, &error),
        },
        Way::Whole => match near.file(path) {
            Ok(file) => sink.file_up_to(path, file, family.max_file),
            Err(error) => sink.lost(path, &error),
        },
    }
}

fn mask(host: &Host, path: &Path, class: Option<Class>, sink: &mut Sink<'_>) -> Result<(), Halt> {
    let content = host.root().read(path, sensitive::MOST);
    let (content, class) = match (content, class) {
        (Ok(content), Some(class)) => (content, class),
        (Err(error), _) => return sink.lost(path, &error),
        (Ok(_), None) => return Ok(()),
    };
    let masked = Bytes {
        bytes: sensitive::mask(class, &content.bytes),
        ..content
    };
    sink.masked(path, &masked, class)
}

/// A directory, and what was already asked about the files in it. What did not answer in time is asked for again, one file
/// after the other, so that only that one is lost.
struct Near<'h> {
    host: &'h Host,
    folder: Option<Folder>,
    looked: HashMap<OsString, Result<Stat, HostError>>,
    opened: HashMap<OsString, Result<HostFile, HostError>>,
}

impl<'h> Near<'h> {
    fn new(host: &'h Host, folder: Option<&Path>) -> Self {
        Self {
            host,
            folder: folder.and_then(|folder| host.root().folder(folder).ok()),
            looked: HashMap::new(),
            opened: HashMap::new(),
        }
    }

    fn look<'p>(&mut self, paths: impl Iterator<Item = &'p PathBuf>) {
        if let Some(folder) = &self.folder {
            let stats = folder.stat_all(names(paths)).unwrap_or_default();
            self.looked = stats.into_iter().collect();
        }
    }

    fn open(&mut self, paths: &[PathBuf]) {
        if let Some(folder) = &self.folder {
            let files = folder.open_all(names(paths.iter())).unwrap_or_default();
            self.opened = files.into_iter().collect();
        }
    }

    fn stat(&mut self, path: &Path) -> Result<Stat, HostError> {
        let looked = path.file_name().and_then(|name| self.looked.remove(name));
        looked.unwrap_or_else(|| self.host.root().stat(path))
    }

    fn file(&mut self, path: &Path) -> Result<HostFile, HostError> {
        let opened = path.file_name().and_then(|name| self.opened.remove(name));
        let opened = opened.unwrap_or_else(|| self.host.root().open(path));
        opened.map_err(|error| match error {
            // It was a file a moment ago.
            HostError::NotAFile(_) => HostError::Changed,
            error => error,
        })
    }
}

fn names<'p>(paths: impl Iterator<Item = &'p PathBuf>) -> Vec<OsString> {
    let names = paths.filter_map(|path| path.file_name());
    names.map(OsStr::to_owned).collect()
}
