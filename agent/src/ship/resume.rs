//! Ships a collection that lies in a directory: a spool, or one that was collected without a store.
//!
//! What was sent is noted beside the directory, object by object, so that a second call sends nothing twice even with
//! credentials that can only put.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use evidence::keys::{self, Prefix, Stream};
use evidence::manifest::StoredObject;
use evidence::objects::{Directory as Objects, Objects as _, read_whole};
use evidence::{Chain, chain, segment};

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
    let mut keys: Vec<String> = objects.list().map_err(read)?;
    keys.retain(|key| {
        Stream::of_key(key).is_some() || matches!(key.as_str(), keys::CHAIN | keys::MANIFEST)
    });
    keys.sort_by_key(|key| (key == keys::MANIFEST, key == keys::CHAIN, key.clone()));
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
