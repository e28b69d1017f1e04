//! A directory as a store: for a responder without AWS, for tests, and as the spool of a store that failed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use evidence::digest::{Digest, Hasher};
use evidence::manifest::StoredObject;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, PosixFadviseAdvice, RenameFlags, posix_fadvise, renameat2};

use super::{Kind, Object, Readiness, ShipError, Store};

/// A collection's directory. Files are created once, readable by their owner alone, and never opened for writing again.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The collection at `path`, which need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, doing: &str, error: &io::Error) -> ShipError {
        let (kind, advice) = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (Kind::NoSpace, "free space, or give another --to")
            }
            _ => (Kind::Target, "give a --to that can be written"),
        };
        ShipError::new(
            kind,
            format!(
                "can not {doing} in {}: {error}: {advice}",
                self.path.display()
            ),
        )
    }

    fn create(&self, folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    /// Writes the whole object beside the collection and gives it its name then: a part of an object is never in it,
    /// whenever the run is killed.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let unique = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let collection = self
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let part = self
            .path
            .with_file_name(format!(".{collection}.{unique}.part"));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&part)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_data())
            .and_then(|()| name(&part, path));
        // What is on the disk needs no copy in memory: the host's free pages are evidence, and its cache is not ours.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }
}

/// Gives a file its name, which must be free.
fn name(part: &Path, path: &Path) -> io::Result<()> {
    match renameat2(
        AT_FDCWD,
        part,
        AT_FDCWD,
        path,
        RenameFlags::RENAME_NOREPLACE,
    ) {
        // Some file systems do not know the flag; nobody else writes into a collection of ours.
        Err(Errno::EINVAL) if !path.exists() => fs::rename(part, path),
        result => Ok(result?),
    }
}

impl Store for Directory {
    fn kind(&self) -> &'static str {
        "directory"
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn prepare(&self) -> Result<Readiness, ShipError> {
        let taken = self
            .path
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some());
        if taken {
            let message = format!(
                "{} exists already and is not empty: give another --to",
                self.path.display()
            );
            return Err(ShipError::new(Kind::Target, message));
        }
        self.create(&self.path)
            .map_err(|error| self.error("create the collection", &error))?;
        let warnings = vec![
            "a directory protects nothing: copy the collection to where it can not be changed"
                .to_owned(),
        ];
        Ok(Readiness {
            object_lock: "none".to_owned(),
            warnings,
            clock: None,
        })
    }

    fn put(&self, object: &Object) -> Result<StoredObject, ShipError> {
        let path = self.path.join(&object.key);
        let folder = path.parent().unwrap_or(&self.path);
        self.create(folder)
            .map_err(|error| self.error("create a folder", &error))?;
        match self.write(&path, &object.bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there = digest_of(&path)
                    .map_err(|error| self.error(&format!("read {}", object.key), &error))?;
                if there != object.sha256 {
                    let message = format!(
                        "{} exists already with other content: give another --to",
                        path.display()
                    );
                    return Err(ShipError::new(Kind::Target, message));
                }
            }
            Err(error) => return Err(self.error(&format!("write {}", object.key), &error)),
        }
        Ok(StoredObject {
            shipped: true,
            ..object.unshipped()
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the operator's target, not the host's evidence"
)]
fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            got => hasher.update(buffer.get(..got).unwrap_or_default()),
        }
    }
}
