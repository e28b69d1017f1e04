//! Ships a collection that lies in a directory: a spool, or one that was collected without a store.
//!
//! What was sent is noted beside the directory, object by object, so that a second call sends nothing twice even with
//! credentials that can only put.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use evidence::chain::Record;
use evidence::keys::{self, Prefix, Stream};
use evidence::manifest::StoredObject;
use evidence::objects::{Directory as Objects, Objects as _, read_whole};
use evidence::{Chain, Manifest, chain, manifest, segment};

use super::{Object, ShipError, Store};

/// What was done.
#[derive(Debug, Default)]
pub struct Resumed {
    pub sent: Vec<StoredObject>,
    /// Objects that an earlier call had sent.
    pub sent_before: usize,
}

/// Why a directory could not be shipped.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    #[error("{0} is not a collection: it has neither segments nor CHAIN")]
    NotACollection(PathBuf),
    #[error(
        "{folder} lacks {key}, which was not shipped either: find it before the rest is sent and sealed"
    )]
    NotWhole { folder: PathBuf, key: String },
    #[error("{path} can not be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the note of what was sent, {path}, can not be written: {source}")]
    Note { path: PathBuf, source: io::Error },
    #[error("{sent} objects were sent before the store failed: {source}")]
    Ship { sent: usize, source: ShipError },
}

/// Where the collection in `folder` belongs, as its CHAIN or its first segment says.
///
/// # Errors
/// When it has neither.
pub fn prefix_of(folder: &Path) -> Result<Prefix, ResumeError> {
    let objects = Objects::new(folder);
    let from_chain = || {
        let bytes = read_whole(&objects, keys::CHAIN, chain::MAX_BYTES).ok()?;
        Chain::parse(&bytes)
            .ok()
            .map(|chain| chain.prefix().clone())
    };
    let from_segment = || {
        let key = objects
            .list()
            .ok()?
            .into_iter()
            .find(|key| Stream::of_key(key).is_some())?;
        let bytes = read_whole(&objects, &key, segment::MAX_BYTES).ok()?;
        segment::read_link(&bytes, &key).map(|link| link.prefix)
    };
    from_chain()
        .or_else(from_segment)
        .ok_or_else(|| ResumeError::NotACollection(folder.to_owned()))
}

/// Sends what `store` does not have yet: segments first, then CHAIN, the manifest last.
///
/// # Errors
/// When the directory can not be read, or the store fails; what was sent stays noted.
pub fn ship_directory(
    folder: &Path,
    store: &dyn Store,
    progress: &dyn Fn(&str),
) -> Result<Resumed, ResumeError> {
    let objects = Objects::new(folder);
    let read = |source| ResumeError::Read {
        path: folder.to_owned(),
        source,
    };
    let keys = in_order(folder, &objects, objects.list().map_err(read)?)?;
    let note = note_path(folder);
    let before = noted(&note).map_err(|source| ResumeError::Note {
        path: note.clone(),
        source,
    })?;
    let mut resumed = Resumed::default();
    for key in keys {
        let line = format!("{} {key}", store.place());
        if before.contains(&line) {
            resumed.sent_before += 1;
            continue;
        }
        progress(&key);
        let bytes =
            read_whole(&objects, &key, segment::MAX_BYTES).map_err(|source| ResumeError::Read {
                path: folder.join(&key),
                source,
            })?;
        let stored = store
            .put(&Object::new(&key, bytes))
            .map_err(|source| ResumeError::Ship {
                sent: resumed.sent.len(),
                source,
            })?;
        append(&note, &line).map_err(|source| ResumeError::Note {
            path: note.clone(),
            source,
        })?;
        resumed.sent.push(stored);
    }
    Ok(resumed)
}

/// The keys in the order in which they were sealed, CHAIN and the manifest last. Without those two the run was cut.
fn in_order(
    folder: &Path,
    objects: &Objects,
    listed: Vec<String>,
) -> Result<Vec<String>, ResumeError> {
    let mut here: BTreeSet<String> = listed.into_iter().collect();
    let chain = read_whole(objects, keys::CHAIN, chain::MAX_BYTES)
        .ok()
        .and_then(|bytes| Chain::parse(&bytes).ok());
    let Some(chain) = chain else {
        here.retain(|key| Stream::of_key(key).is_some());
        return Ok(here.into_iter().collect());
    };
    let manifest = read_whole(objects, keys::MANIFEST, manifest::MAX_BYTES).ok();
    let manifest = manifest.and_then(|bytes| Manifest::parse(&bytes).ok());
    let shipped = |key: &str| {
        let stored = manifest.iter().flat_map(|manifest| &manifest.objects);
        stored
            .into_iter()
            .any(|object| object.key == key && object.shipped)
    };
    let mut keys = Vec::new();
    for key in chain.records().iter().map(Record::key) {
        if here.contains(&key) {
            keys.push(key);
        } else if !shipped(&key) {
            return Err(ResumeError::NotWhole {
                folder: folder.to_owned(),
                key,
            });
        }
    }
    keys.push(keys::CHAIN.to_owned());
    keys.extend(here.take(keys::MANIFEST));
    Ok(keys)
}

/// Beside the collection, not in it: a file of ours among the objects would make verification fail.
fn note_path(folder: &Path) -> PathBuf {
    let name = folder.file_name().map_or_else(
        || "collection".into(),
        |name| name.to_string_lossy().into_owned(),
    );
    folder.with_file_name(format!("{name}.shipped"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "our own note beside the operator's directory"
)]
fn noted(path: &Path) -> io::Result<BTreeSet<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_data()
}
