//! Hashes of many files at once, each read as a stream.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use evidence::digest::Hasher;
use evidence::{Digest, Exit};

use super::bag::Entry;
use crate::failure::Failure;

/// Bytes that are read at once, for each thread.
const PIECE: usize = 1 << 20;

/// Length and hash of these files below `folder`, in their order; `progress` is told the bytes read so far.
///
/// # Errors
/// For a file that can not be read.
pub(super) fn hash_all(
    folder: &Path,
    paths: &[String],
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Entry>, Failure> {
    let (next, read) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || {
        let mut buffer = vec![0; PIECE];
        let mut entries = Vec::new();
        while let Some((at, path)) = turn(&next, paths) {
            let place = folder.join(path);
            let (bytes, sha256) = hash(&place, &mut buffer).map_err(|error| {
                let message = format!("{} can not be read: {error}", place.display());
                Failure::new(Exit::Target, message)
            })?;
            progress(read.fetch_add(bytes, Ordering::Relaxed) + bytes);
            let path = path.clone();
            entries.push((
                at,
                Entry {
                    path,
                    bytes,
                    sha256,
                },
            ));
        }
        Ok::<_, Failure>(entries)
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut entries = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(paths.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            let ended = thread.join();
            all.extend(ended.map_err(|_| Failure::internal("a thread that hashes has ended"))??);
        }
        Ok::<_, Failure>(all)
    })?;
    entries.sort_unstable_by_key(|(at, _)| *at);
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn turn<'a>(next: &AtomicUsize, paths: &'a [String]) -> Option<(usize, &'a String)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    Some((at, paths.get(at)?))
}

fn hash(path: &Path, buffer: &mut [u8]) -> io::Result<(u64, Digest)> {
    let (mut file, mut hasher, mut bytes) = (File::open(path)?, Hasher::default(), 0);
    loop {
        let length = file.read(buffer)?;
        if length == 0 {
            return Ok((bytes, hasher.finish()));
        }
        hasher.update(buffer.get(..length).unwrap_or_default());
        bytes += length as u64;
    }
}
