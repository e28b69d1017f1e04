//! Servers, programs and judges for the tests, each started, watched and ended by the test that uses it.
//!
//! | module | gives |
//! |---|---|
//! | [`python`] | virtual environments with pinned tools |
//! | [`moto`] | an S3 emulator that stores |
//! | [`proxy`] | what AWS enforces and the emulator does not, and faults on demand |
//! | [`cloud`] | AWS for the orchestrator: accounts, commands that really run, faults on demand |
//! | [`imds`] | instance metadata that insists on a token |
//! | [`dns`] | a name server that knows a few names |
//! | [`agent`] | the built agent in a scrubbed environment |
//! | [`judges`] | the analysts' own readers, and those who take in an export |
//! | [`tsa`] | an authority for time stamps, and faults on demand |
//! | [`vm`] | a guest with a kernel of its own, for what only the kernel can show |
//! | [`volatility`] | the analysts' reader of memory images |

pub mod agent;
pub mod cloud;
pub mod dns;
pub mod http;
pub mod imds;
pub mod judges;
pub mod moto;
mod once;
pub mod proxy;
pub mod python;
mod server;
pub mod tsa;
pub mod vm;
pub mod volatility;

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// Why a rig is not there.
#[derive(Debug)]
pub enum Error {
    /// This machine lacks something: a test may skip, see [`or_skip`].
    Missing(String),
    /// Everything is there and it does not work: a test fails.
    Failed(String),
}

/// The result of starting a rig or asking a judge.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "missing: {what}"),
            Self::Failed(what) => write!(f, "failed: {what}"),
        }
    }
}

impl std::error::Error for Error {}

/// The path of a program, looked up as a shell does, and in the `sbin` folders too.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// As [`tool`], with the name in the error.
pub(crate) fn need(name: &str) -> Result<PathBuf> {
    tool(name).ok_or_else(|| Error::Missing(format!("the program {name} is not installed")))
}

/// Says on stderr that the running test is skipped and why. In CI nothing may be missing: there it panics.
///
/// # Panics
/// When the environment variable `CI` is set to anything but `false`.
pub fn skip_or_fail(reason: &str) {
    let ci = env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
    assert!(!ci, "CI must have everything: {reason}");
    let current = thread::current();
    let test = current.name().unwrap_or("a test");
    // Not `eprintln!`: the test runner hides what passing tests print, and a skip should be seen.
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: {reason}");
}

/// The value, or `None` after [`skip_or_fail`] when this machine lacks something.
///
/// ```no_run
/// # use exhibit_tests::rig;
/// let Some(moto) = rig::or_skip(rig::moto::Moto::start()) else { return };
/// ```
///
/// # Panics
/// On [`Error::Failed`]: a rig that is there and broken is not a reason to skip.
pub fn or_skip<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Missing(reason)) => {
            skip_or_fail(&reason);
            None
        }
        Err(Error::Failed(reason)) => panic!("{reason}"),
    }
}

/// Cargo's target folder, from the place of the running test. Cargo tags it, and the folder of each triple in it.
pub(crate) fn target_dir() -> PathBuf {
    let exe = env::current_exe().expect("the running test has a path");
    let is_tagged = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file();
    let tagged = exe
        .ancestors()
        .skip_while(|folder| !is_tagged(folder))
        .take_while(is_tagged);
    tagged
        .last()
        .map_or_else(|| workspace().join("target"), Path::to_path_buf)
}

/// The folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("tests/ lies in the workspace")
        .to_path_buf()
}

/// Runs a program to its end and returns its stdout; a failure carries the end of its stderr.
pub(crate) fn stdout_of(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing(format!(
                "the program {name} is not installed"
            )));
        }
        Err(error) => return Err(Error::Failed(format!("cannot run {name}: {error}"))),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Error::Failed(format!(
        "{name}: {}: {}",
        output.status,
        tail(&stderr)
    )))
}

/// The last lines of a log: enough to see why, short enough for a panic message.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
