//! Download of a case: each object at the version that belongs to it, hashed while it arrives, nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use evidence::digest::Hasher;
use evidence::{Exit, Prefix, Stream, keys};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::aws::s3::{Bucket, Version};
use crate::failure::Failure;
use crate::run::Work;

/// Objects side by side: each holds one piece of a body in memory.
const AT_ONCE: usize = 8;

/// What became of a download.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Objects that were there already, with the right bytes.
    pub(crate) kept: usize,
    pub(crate) fetched: usize,
    pub(crate) bytes: u64,
    /// Keys below the case of all that belongs to the copy, which are paths below the folder.
    pub(crate) keys: BTreeSet<String>,
    /// Keys that no part of Exhibit writes: they are not fetched.
    pub(crate) strange: Vec<String>,
    /// `<host>/<collection>` of each collection.
    pub(crate) collections: Vec<String>,
}

/// Downloads all of the case to `folder`: `custody/` and `<host>/<collection>/`. What is there with the right bytes stays.
///
/// # Errors
/// When S3 refuses, the disk is full, or an object has other bytes than S3 says.
pub(crate) async fn fetch(
    work: &Work<'_>,
    folder: &Path,
    dry_run: bool,
) -> Result<Fetched, Failure> {
    let base = work.config.key(&format!("{}/", work.id));
    let mut oldest: BTreeMap<String, Version> = BTreeMap::new();
    // The oldest version: nobody can have put another before it.
    for version in work
        .bucket
        .versions(&base)
        .await?
        .into_iter()
        .filter(|version| version.size.is_some())
    {
        let key = version
            .key
            .strip_prefix(&base)
            .unwrap_or_default()
            .to_owned();
        oldest.insert(key, version);
    }
    let mut fetched = Fetched::default();
    let mut wanted = Vec::new();
    for (key, version) in oldest {
        match place(&work.id.to_string(), &key) {
            Some(collection) => {
                fetched.bytes += version.size.unwrap_or_default();
                fetched.collections.extend(collection);
                wanted.push((folder.join(&key), version));
                fetched.keys.insert(key);
            }
            None => fetched.strange.push(key),
        }
    }
    fetched.collections.dedup();
    if !dry_run {
        objects(work, &wanted, &mut fetched).await?;
    }
    Ok(fetched)
}

/// Whether a key below the case is one that Exhibit writes, and its collection: no other becomes a path here.
pub(crate) fn place(case: &str, key: &str) -> Option<Option<String>> {
    if is_record(key) {
        return Some(None);
    }
    let mut parts = key.splitn(3, '/');
    let (host, collection, rest) = (parts.next()?, parts.next()?, parts.next()?);
    format!("{case}/{host}/{collection}")
        .parse::<Prefix>()
        .ok()?;
    let known = Stream::of_key(rest).is_some()
        || rest == keys::CHAIN
        || rest == keys::MANIFEST
        || keys::is_of_the_seal(rest);
    known.then(|| Some(format!("{host}/{collection}")))
}

/// Whether it is a record of custody: `custody/NNNNNN.json`.
fn is_record(key: &str) -> bool {
    let number = key
        .strip_prefix("custody/")
        .and_then(|key| key.strip_suffix(".json"));
    number.is_some_and(|digits| digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit()))
}

async fn objects(
    work: &Work<'_>,
    wanted: &[(PathBuf, Version)],
    fetched: &mut Fetched,
) -> Result<(), Failure> {
    let meter = work.progress.meter("bytes", fetched.bytes);
    let (mut under_way, mut done) = (JoinSet::new(), 0);
    let mut waiting = wanted.iter();
    loop {
        while under_way.len() < AT_ONCE
            && let Some((path, version)) = waiting.next()
        {
            under_way.spawn(object(work.bucket.clone(), path.clone(), version.clone()));
        }
        let Some(ended) = under_way.join_next().await else {
            return Ok(());
        };
        let (bytes, new) = ended.map_err(Failure::internal)??;
        done += bytes;
        if new {
            fetched.fetched += 1;
        } else {
            fetched.kept += 1;
        }
        meter.at(done);
    }
}

/// One object, unless it is there. A file of this name is whole: it is renamed when its bytes are on the disk.
async fn object(bucket: Bucket, path: PathBuf, version: Version) -> Result<(u64, bool), Failure> {
    let stored = bucket.head(&version.key, &version.id).await?;
    let there = path.clone();
    let known = tokio::task::spawn_blocking(move || hash(&there))
        .await
        .map_err(Failure::internal)?;
    if known.is_some() && known == stored.sha256 {
        return Ok((stored.size, false));
    }
    let unwritable = |error: std::io::Error| {
        let exit = if error.kind() == std::io::ErrorKind::StorageFull {
            Exit::NoSpace
        } else {
            Exit::Target
        };
        Failure::new(
            exit,
            format!("{} can not be written: {error}", path.display()),
        )
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    tokio::fs::create_dir_all(folder)
        .await
        .map_err(unwritable)?;
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let mut file = tokio::fs::File::create(&part).await.map_err(unwritable)?;
    let gone = || {
        Failure::new(
            Exit::Altered,
            format!("{} version {} is gone", version.key, version.id),
        )
    };
    let mut body = bucket
        .open(&version.key, Some(&version.id), None)
        .await?
        .ok_or_else(gone)?;
    let mut hasher = Hasher::default();
    while let Some(piece) = body.try_next().await.map_err(|error| {
        Failure::new(
            Exit::Unreachable,
            format!("{} broke off: {error}; run the command again", version.key),
        )
    })? {
        hasher.update(&piece);
        file.write_all(&piece).await.map_err(unwritable)?;
    }
    file.sync_all().await.map_err(unwritable)?;
    let found = hasher.finish();
    if stored.sha256.is_some_and(|stated| stated != found) {
        return Err(Failure::new(
            Exit::Altered,
            format!(
                "{} arrives with SHA-256 {found}, which is not what S3 states",
                version.key
            ),
        ));
    }
    tokio::fs::rename(&part, &path).await.map_err(unwritable)?;
    Ok((stored.size, true))
}

/// SHA-256 of a file that is there.
fn hash(path: &Path) -> Option<evidence::Digest> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path).ok()?;
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finish()),
            length => hasher.update(buffer.get(..length)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_exhibit_writes_becomes_a_path() {
        assert_eq!(place("IR-7", "custody/000123.json"), Some(None));
        assert_eq!(place("IR-7", "i-1/c-1/CHAIN"), Some(Some("i-1/c-1".into())));
        for strange in [
            "../x",
            "custody/1.json",
            "i-1/../../etc/passwd",
            "i-1/c-1/evidence/../../x",
            "i-1/c-1/x",
            "/etc/passwd",
            "i-1/c-1/CHAIN/../x",
            ".ssh/c/CHAIN",
        ] {
            assert_eq!(place("IR-7", strange), None, "{strange}");
        }
    }
}
