//! The built agent, run in an environment that holds nothing but what the test put there.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use tempfile::TempDir;

use super::{Error, Result, stdout_of, target_dir, workspace};

/// Names a ready agent to test instead of the one that Cargo builds: a release, or one for another machine.
pub const AGENT_VARIABLE: &str = "EXHIBIT_TEST_AGENT";

/// The agent's program, and the environment that it is given.
#[derive(Debug)]
pub struct Agent {
    program: PathBuf,
    home: TempDir,
    variables: Vec<(OsString, OsString)>,
}

impl Agent {
    /// The agent of the profile that the tests are built with; Cargo is asked when it is absent or older than its
    /// sources.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn built() -> Result<Self> {
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        Self::once(&PROGRAM, || match std::env::var_os(AGENT_VARIABLE) {
            Some(program) => Ok(program.into()),
            None => fresh("exhibit-agent"),
        })
    }

    /// The responder's program, `exhibit`, in the same kind of environment.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn exhibit() -> Result<Self> {
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        Self::once(&PROGRAM, || fresh("exhibit"))
    }

    fn once(known: &OnceLock<PathBuf>, find: impl FnOnce() -> Result<PathBuf>) -> Result<Self> {
        if let Some(program) = known.get() {
            return Ok(Self::at(program));
        }
        let found = find()?;
        Ok(Self::at(known.get_or_init(|| found)))
    }

    /// Any program in the agent's place.
    pub fn at(program: &Path) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        Self {
            program: program.into(),
            home,
            variables: Vec::new(),
        }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Gives it credentials of this access key id.
    #[must_use]
    pub fn credentials(self, id: &str) -> Self {
        self.env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", "a secret of the test rig")
    }

    /// Sends it to this store.
    #[must_use]
    pub fn store(self, endpoint: &str, region: &str) -> Self {
        self.env("AWS_ENDPOINT_URL_S3", endpoint)
            .env("AWS_REGION", region)
    }

    /// A command for it: no variable of the caller's, no profile, no instance metadata, an empty home.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home.path())
            .env("TMPDIR", self.home.path())
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The program itself, to copy into a root of its own.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its home, removed with the value.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

/// `target/<triple>/<profile>`: test programs lie in its `deps`.
fn profile_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().map_err(|error| Error::Failed(error.to_string()))?;
    let folder = exe.parent().and_then(Path::parent);
    folder
        .map(Path::to_path_buf)
        .ok_or_else(|| Error::Failed("the test lies in no profile's folder".into()))
}

/// Whether the program is younger than every source that Cargo's file beside it (`.d`) lists.
fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    let (Some(built), Ok(list)) = (
        changed(program),
        fs::read_to_string(program.with_extension("d")),
    ) else {
        return false;
    };
    // A space in a path is written as `\ `.
    let list = list
        .split_once(": ")
        .map_or("", |(_, sources)| sources)
        .replace("\\ ", "\0");
    let mut sources = list
        .split_whitespace()
        .map(|source| PathBuf::from(source.replace('\0', " ")));
    sources.all(|source| changed(&source).is_some_and(|changed| changed <= built))
}

/// The program, built when it is absent or older than its sources.
fn fresh(name: &str) -> Result<PathBuf> {
    let program = profile_dir()?.join(name);
    if !is_fresh(&program) {
        build(&program)?;
    }
    Ok(program)
}

/// Builds all of the workspace as `cargo test` does: another choice of packages would mean other features of what they
/// depend on, and all of that once more.
fn build(program: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let profile = match profile_dir()?.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev".to_string(),
        Some(name) => name.to_string(),
    };
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--workspace",
        "--bins",
        "--tests",
        "--profile",
        &profile,
    ]);
    stdout_of(
        command
            .arg("--target-dir")
            .arg(target_dir())
            .current_dir(workspace()),
    )?;
    match program.is_file() {
        true => Ok(()),
        false => Err(Error::Failed(format!(
            "cargo built no {}",
            program.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_program_older_than_a_source_is_not_fresh() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let now = SystemTime::now();
        let write = |name: &str, text: &str, age: u64| {
            fs::write(path(name), text).unwrap();
            let file = fs::File::options().write(true).open(path(name)).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        };
        let list = format!(
            "agent: {} {}\n",
            path("a.rs").display(),
            path("b\\ c.rs").display()
        );
        write("a.rs", "", 20);
        write("b c.rs", "", 20);
        write("agent.d", &list, 0);
        assert!(!is_fresh(&path("agent")), "absent");
        write("agent", "", 10);
        assert!(is_fresh(&path("agent")), "younger than both sources");
        write("b c.rs", "", 5);
        assert!(!is_fresh(&path("agent")), "a source has changed");
        fs::remove_file(path("b c.rs")).unwrap();
        assert!(!is_fresh(&path("agent")), "a source is gone");
    }
}
