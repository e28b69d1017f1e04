//! Puts one file into the collection, as its family and what it holds demand.

use std::path::Path;

use evidence::inventory::FileType;

use super::super::plan::Plan;
use super::super::sensitive::{self, Class, Policy};
use super::super::{Halt, Sink};
use super::{Content, Family};
use crate::host::{Content as Bytes, Host, HostError, SMALL, Stat};

/// Takes what is at a path, by its kind.
pub(super) fn take(
    host: &Host,
    family: &Family,
    plan: &Plan,
    (path, class): (&Path, Option<Class>),
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    if sink.has(path) {
        return Ok(());
    }
    let stat = match host.root().stat(path) {
        Ok(stat) => stat,
        Err(error) => return sink.lost(path, &error),
    };
    match stat.file_type() {
        FileType::File if is_made_up(path) => sink.raw(path, &host.root().read(path, SMALL)),
        FileType::File => file(host, family, plan, (path, class, &stat), sink),
        FileType::Symlink if family.content == Content::Whole => {
            sink.link(path, &host.root().read_link(path), Some(&stat))
        }
        _ => sink.metadata(path, &stat),
    }
}

/// What the kernel makes up states sizes that mean nothing.
fn is_made_up(path: &Path) -> bool {
    path.starts_with("/sys") || path.starts_with("/proc")
}

fn file(
    host: &Host,
    family: &Family,
    plan: &Plan,
    (path, class, stat): (&Path, Option<Class>, &Stat),
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let changed = stat.mtime.max(stat.ctime).nanoseconds_since_epoch();
    let old = family.since && plan.since_ns.is_some_and(|since| changed < since);
    let policy = class.map_or(Policy::Collect, |class| plan.policies.of(class));
    match (family.content, policy) {
        (Content::Metadata, _) => sink.metadata(path, stat),
        _ if old => sink.metadata_only(path, stat, "not changed since --since"),
        (Content::Hash, _) | (_, Policy::Hash) => {
            let reason = class.filter(|_| policy == Policy::Hash).map_or_else(
                || "only its hash was wanted".to_owned(),
                |class| format!("only its hash: {} (--sensitive)", class.word()),
            );
            match open(host, path) {
                Ok(file) => sink.hashed(path, file, &reason, family.max_file),
                Err(error) => sink.lost(path, &error),
            }
        }
        (Content::Whole, Policy::Mask) => mask(host, path, class, sink),
        (Content::Whole, Policy::Collect) => match open(host, path) {
            Ok(file) => sink.file_up_to(path, file, family.max_file),
            Err(error) => sink.lost(path, &error),
        },
    }
}

fn open(host: &Host, path: &Path) -> Result<crate::host::HostFile, HostError> {
    host.root().open(path).map_err(|error| match error {
        // It was a file a moment ago.
        HostError::NotAFile(_) => HostError::Changed,
        error => error,
    })
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
