//! Where the objects of a collection are read from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A store that holds one collection, seen from its prefix.
pub trait Objects {
    /// All keys below the prefix, relative to it, in any order.
    ///
    /// # Errors
    /// When the list can not be read whole: a part of it is never returned.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The bytes of one object.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such object.
    fn open(&self, key: &str) -> io::Result<Box<dyn Read + '_>>;
}

/// Reads a whole object, or says that it is longer than `limit` bytes.
pub fn read_whole(objects: &dyn Objects, key: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    objects.open(key)?.take(limit + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("longer than {limit} bytes"),
        ));
    }
    Ok(bytes)
}

/// A collection in memory.
impl Objects for BTreeMap<String, Vec<u8>> {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.keys().cloned().collect())
    }

    fn open(&self, key: &str) -> io::Result<Box<dyn Read + '_>> {
        let bytes = self.get(key).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(bytes.as_slice()))
    }
}

/// A collection in a directory. Links are not followed: they are listed and can not be opened.
#[derive(Debug)]
pub struct Directory(PathBuf);

/// Depth and count beyond which a directory is no collection.
const MAX_DEPTH: usize = 4;
const MAX_ENTRIES: usize = 500_000;

impl Directory {
    /// The collection at `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn list_below(&self, folder: &str, depth: usize, keys: &mut Vec<String>) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(
                "folders are nested too deep for a collection",
            ));
        }
        for entry in self.0.join(folder).read_dir()? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().map_or_else(
                || name.to_string_lossy().escape_default().to_string(),
                str::to_owned,
            );
            let key = if folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            };
            if entry.file_type()?.is_dir() {
                self.list_below(&key, depth + 1, keys)?;
            } else {
                keys.push(key);
            }
            if keys.len() > MAX_ENTRIES {
                return Err(io::Error::other("too many files for a collection"));
            }
        }
        Ok(())
    }
}

impl Objects for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut keys = Vec::new();
        self.list_below("", 0, &mut keys)?;
        Ok(keys)
    }

    fn open(&self, key: &str) -> io::Result<Box<dyn Read + '_>> {
        let path = self.0.join(key);
        if !path.symlink_metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Box::new(File::open(path)?))
    }
}
