//! Folders that are made once per machine and shared by every test: environments, kernels.

use std::fs::{self, File};
use std::path::Path;

use super::{Error, Result};

/// Written last: a folder without it was left by an interrupted installation and is made anew.
pub(crate) const STAMP: &str = ".complete";

/// Calls `make` unless it has once made this folder to the end. Processes that ask at the same time wait for the one
/// that makes it.
///
/// # Errors
/// Those of `make`, and when the folder above cannot be written.
pub(crate) fn made(folder: &Path, make: impl FnOnce() -> Result<()>) -> Result<()> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above).map_err(|error| io_failed(above, &error))?;
    }
    let lock = folder.with_extension("lock");
    let guard = File::create(&lock).map_err(|error| io_failed(&lock, &error))?;
    guard.lock().map_err(|error| io_failed(&lock, &error))?;
    let stamp = folder.join(STAMP);
    if stamp.is_file() {
        return Ok(());
    }
    make()?;
    fs::write(&stamp, "").map_err(|error| io_failed(&stamp, &error))
}

pub(crate) fn io_failed(path: &Path, error: &std::io::Error) -> Error {
    Error::Failed(format!("{}: {error}", path.display()))
}
