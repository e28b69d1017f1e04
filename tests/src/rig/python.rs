//! Virtual environments with pinned Python tools, made once per machine and shared by every test.
//!
//! They lie under Cargo's target folder, so `cargo clean` removes them, and are named by the hash of what they
//! contain: a changed requirement makes a new one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::once::{self, io_failed};
use super::{Error, Result, need, stdout_of, target_dir};

/// A ready virtual environment.
#[derive(Clone, Debug)]
pub struct Venv {
    folder: PathBuf,
}

impl Venv {
    /// The environment of the S3 emulator.
    ///
    /// # Errors
    /// As [`Venv::ensure`].
    pub fn moto() -> Result<Self> {
        Self::ensure(
            &target_dir().join("rig"),
            "moto",
            include_str!("../../requirements-moto.txt"),
        )
    }

    /// The environment of the reader of memory images.
    ///
    /// # Errors
    /// As [`Venv::ensure`].
    pub fn volatility() -> Result<Self> {
        Self::ensure(
            &target_dir().join("rig"),
            "volatility",
            include_str!("../../requirements-volatility.txt"),
        )
    }

    /// The environment of the analysts' tools.
    ///
    /// # Errors
    /// As [`Venv::ensure`].
    pub fn judges() -> Result<Self> {
        Self::ensure(
            &target_dir().join("rig"),
            "judges",
            include_str!("../../requirements-judges.txt"),
        )
    }

    /// The environment of those who take in an exported case.
    ///
    /// # Errors
    /// As [`Venv::ensure`].
    pub fn export() -> Result<Self> {
        Self::ensure(
            &target_dir().join("rig"),
            "export",
            include_str!("../../requirements-export.txt"),
        )
    }

    /// Makes an environment with these requirements below `root`, or finds it there. Processes that ask at the
    /// same time wait for the one that installs.
    ///
    /// # Errors
    /// When Python, its `venv` module or a package cannot be had.
    pub fn ensure(root: &Path, name: &str, requirements: &str) -> Result<Self> {
        let python = need("python3")?;
        let version = stdout_of(
            Command::new(&python).args(["-c", "import sys; print(sys.version, sys.prefix)"]),
        )?;
        let hash = hex::encode(Sha256::digest(format!("{version}{requirements}")));
        let folder = root.join(format!("venv-{name}-{}", &hash[..16]));
        once::made(&folder, || install(&python, &folder, requirements))?;
        Ok(Self { folder })
    }

    /// A command for a program of the environment, untouched by the caller's own Python settings.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join("bin").join(program));
        command
            .env_remove("PYTHONPATH")
            .env_remove("PYTHONHOME")
            .env("PYTHONNOUSERSITE", "1");
        command
    }

    /// The folder of the environment.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn install(python: &Path, folder: &Path, requirements: &str) -> Result<()> {
    let list = folder.join("requirements.txt");
    stdout_of(
        Command::new(python)
            .args(["-m", "venv", "--clear"])
            .arg(folder),
    )
    .map_err(|error| {
        Error::Missing(format!(
            "python3 cannot make a virtual environment (python3-venv?): {error}"
        ))
    })?;
    fs::write(&list, requirements).map_err(|error| io_failed(&list, &error))?;

    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "-r",
    ];
    stdout_of(Command::new(folder.join("bin/python")).args(pip).arg(&list)).map_err(|error| {
        Error::Missing(format!("pip cannot install {}: {error}", list.display()))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_made_once_and_used_again() {
        let root = tempfile::tempdir().unwrap();
        let Some(first) = super::super::or_skip(Venv::ensure(root.path(), "empty", "# nothing\n"))
        else {
            return;
        };
        let mark = first.folder().join("mark");
        fs::write(&mark, "").unwrap();

        let second = Venv::ensure(root.path(), "empty", "# nothing\n").unwrap();
        assert!(mark.is_file(), "the second call made the environment anew");
        assert_eq!(first.folder(), second.folder());
        let version = stdout_of(second.command("python").arg("--version")).unwrap();
        assert!(version.starts_with("Python 3"), "{version}");
    }

    #[test]
    fn what_cannot_be_installed_is_named_and_leaves_no_stamp() {
        let root = tempfile::tempdir().unwrap();
        if need("python3").is_err() {
            return super::super::skip_or_fail("python3 is not installed");
        }
        let error = Venv::ensure(root.path(), "broken", "./no-such-package\n").unwrap_err();
        assert!(error.to_string().contains("no-such-package"), "{error}");
        let stamps = fs::read_dir(root.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().join(once::STAMP).exists());
        assert_eq!(stamps.count(), 0);
    }
}
