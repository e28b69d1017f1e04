//! Volatility 3, the analysts' reader of memory images. It has the last word: an image is good when it finds in it the
//! processes that ran, with symbols that were made from what the image's own host said of itself.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::python::Venv;
use super::{Error, Result, stdout_of};

/// A process as `linux.pslist` lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: u64,
    /// As the kernel keeps it: 15 bytes at most.
    pub name: String,
}

/// The processes that volatility finds in an image, with this file of symbols (ISF) alone.
///
/// # Errors
/// When volatility cannot be had, or refuses the image or the symbols.
pub fn pslist(image: &Path, symbols: &Path) -> Result<Vec<Process>> {
    let rows = run(image, Some(symbols), "linux.pslist")?;
    let parse = |row: &Value| {
        Some(Process {
            pid: row["PID"].as_u64()?,
            name: row["COMM"].as_str()?.to_string(),
        })
    };
    let processes: Option<Vec<Process>> = rows.iter().map(parse).collect();
    processes.ok_or_else(|| Error::Failed(format!("rows without PID and COMM: {rows:?}")))
}

/// The kernel's banners that stand in an image; no symbols are needed to find them.
///
/// # Errors
/// When volatility cannot be had, or refuses the image.
pub fn banners(image: &Path) -> Result<Vec<String>> {
    let rows = run(image, None, "banners.Banners")?;
    let banner = |row: &Value| row["Banner"].as_str().map(str::to_string);
    Ok(rows.iter().filter_map(banner).collect())
}

/// Runs a plugin with a cache of its own: a symbol file that an earlier test left behind must not answer for this one.
fn run(image: &Path, symbols: Option<&Path>, plugin: &str) -> Result<Vec<Value>> {
    let failed = |error: std::io::Error| Error::Failed(format!("volatility: {error}"));
    let home = tempfile::tempdir().map_err(failed)?;
    let folder = home.path().join("symbols/linux");
    let cache = home.path().join("cache");
    fs::create_dir_all(&folder).map_err(failed)?;
    fs::create_dir(&cache).map_err(failed)?;
    if let Some(symbols) = symbols {
        fs::copy(symbols, folder.join("guest.json")).map_err(failed)?;
    }
    let mut command = Venv::volatility()?.command("vol");
    command
        .args(["-q", "--offline", "-r", "json", "--cache-path"])
        .arg(cache)
        .arg("-s")
        .arg(home.path().join("symbols"))
        .arg("-f")
        .arg(image)
        .arg(plugin)
        .env("HOME", home.path());
    let text = stdout_of(&mut command)?;
    // The name of the program stands before the JSON.
    let json = text.find('[').map_or("", |at| &text[at..]);
    serde_json::from_str(json).map_err(|error| {
        Error::Failed(format!(
            "{plugin} gave no JSON ({error}): {}",
            super::tail(&text)
        ))
    })
}
