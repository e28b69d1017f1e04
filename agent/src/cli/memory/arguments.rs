//! How memory is captured, as the operator says it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use nix::sys::statvfs::statvfs;

use crate::capture::memory::module::{Key, Source};
use crate::capture::memory::{Mode, Plan};
use crate::cli::Failure;
use crate::cli::store::{Place, S3Arguments, operators_file};
use crate::host::Host;

#[derive(Debug, Args)]
#[command(next_help_heading = "Memory")]
pub(crate) struct MemoryArguments {
    /// Which ways to physical memory are tried
    #[arg(long, value_enum, value_name = "WAY", default_value_t)]
    memory: Ways,
    /// Store of LiME modules with a signed index: a directory, or s3://bucket/prefix, read with the same credentials
    #[arg(long, value_name = "PLACE", requires = "lime_key")]
    lime_modules: Option<String>,
    /// LiME module to use; the signed index beside it, or in --lime-modules, must know it
    #[arg(long, value_name = "FILE", requires = "lime_key")]
    lime_module: Option<PathBuf>,
    /// PEM file with the public key that has signed the index
    #[arg(long, value_name = "FILE")]
    lime_key: Option<PathBuf>,
    /// Read LiME from a port of 127.0.0.1, where any process can be faster, instead of a pipe
    #[arg(long)]
    lime_tcp: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Ways {
    /// LiME where a trusted module is there, else the kernel's own files
    #[default]
    Auto,
    /// LiME alone
    Lime,
    /// /proc/kcore or /dev/crash: changes nothing on the host
    Kcore,
    /// No memory
    Off,
}

impl MemoryArguments {
    /// What the run needs to know.
    pub(crate) fn plan(&self, s3_arguments: &S3Arguments) -> Result<Plan, Failure> {
        let mode = match self.memory {
            Ways::Auto => Mode::Auto,
            Ways::Lime => Mode::Lime,
            Ways::Kcore => Mode::Kcore,
            Ways::Off => Mode::Off,
        };
        let modules = self.modules(s3_arguments)?;
        if mode == Mode::Lime && modules.is_none() {
            let message = "--memory lime needs --lime-modules or --lime-module, and --lime-key";
            return Err(Failure::usage(message));
        }
        Ok(Plan {
            mode,
            modules,
            over_port: self.lime_tcp,
            refused: None,
        })
    }

    /// Why memory does not fit below `target`. An operator who names the way has thought of that.
    pub(crate) fn no_room(&self, host: &Host, target: &Path) -> Option<String> {
        if !matches!(self.memory, Ways::Auto) {
            return None;
        }
        let there = target.ancestors().find(|folder| folder.exists());
        let there = there.filter(|folder| !folder.as_os_str().is_empty());
        let space = statvfs(there.unwrap_or(Path::new("."))).ok()?;
        let free = space
            .blocks_available()
            .saturating_mul(space.fragment_size());
        let needed = host.managed_memory();
        (free < needed).then(|| {
            format!(
                "{} has {} MiB free and memory may take {} MiB: give another --to, or name the way with --memory",
                target.display(),
                free >> 20,
                needed >> 20
            )
        })
    }

    fn modules(&self, s3_arguments: &S3Arguments) -> Result<Option<Source>, Failure> {
        let Some(key) = &self.lime_key else {
            return Ok(None);
        };
        let name = format!("--lime-key {}", key.display());
        let pem = String::from_utf8_lossy(&operators_file("--lime-key", key)?).into_owned();
        let key = Key::parse(&pem, &name).map_err(Failure::usage)?;
        let given = match &self.lime_module {
            Some(file) => Some(Arc::new(operators_file("--lime-module", file)?)),
            None => None,
        };
        let place = match (&self.lime_modules, &self.lime_module) {
            (Some(place), _) => Place::parse(place)?,
            (None, Some(file)) => {
                let folder = file
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                Place::Directory(folder.unwrap_or(Path::new(".")).to_owned())
            }
            (None, None) => return Ok(None),
        };
        let store = place.objects(s3_arguments)?.into();
        Ok(Some(Source { store, key, given }))
    }
}
