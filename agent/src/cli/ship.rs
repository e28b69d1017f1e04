//! `ship`: sends a directory that holds a collection to a bucket.

use std::path::PathBuf;

use clap::Args;
use evidence::Exit;

use super::store::{LockArguments, Place, S3Arguments, s3};
use super::{Failure, print, tell};
use crate::ship::{ResumeError, Store, prefix_of, ship_directory};

const EXAMPLES: &str = "\
Example:
  Send what the spool took, to the place that `collect` was given:
    exhibit-agent ship /mnt/usb/IR-7/i-0123456789abcdef0/20260102T030405Z-89abcdef --to s3://bucket/prefix";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The collection's folder: below --spool, or collected without a store
    directory: PathBuf,
    /// s3://bucket/prefix, the same as for `collect`
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// Nothing on standard error but errors
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    s3: S3Arguments,
    #[command(flatten)]
    lock: LockArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let Place::Bucket {
        bucket,
        prefix: folder,
    } = Place::parse(&arguments.to)?
    else {
        return Err(Failure::usage(format!(
            "--to {:?} is not s3://bucket/prefix",
            arguments.to
        )));
    };
    let prefix = prefix_of(&arguments.directory).map_err(failure)?;
    let folder = if folder.is_empty() {
        prefix.to_string()
    } else {
        format!("{folder}/{prefix}")
    };
    let store = s3(&bucket, folder, &arguments.s3, &arguments.lock)?;
    let readiness = store
        .prepare()
        .map_err(|error| Failure::new(error.exit(), error))?;
    readiness
        .warnings
        .iter()
        .for_each(|line| tell(&format!("warning: {line}")));
    let show = |key: &str| {
        if !arguments.quiet {
            tell(&format!("sending {key}"));
        }
    };
    let resumed = ship_directory(&arguments.directory, &store, &show).map_err(failure)?;
    let json = serde_json::json!({
        "place": store.place(),
        "sent": resumed.sent,
        "sent_before": resumed.sent_before,
    });
    print(&format!("{json}\n")).map(|()| Exit::Complete)
}

fn failure(error: ResumeError) -> Failure {
    let exit = match &error {
        ResumeError::NotACollection(_) | ResumeError::NotWhole { .. } => Exit::NotACollection,
        ResumeError::Read { .. } | ResumeError::Note { .. } => Exit::Target,
        ResumeError::Ship { source, .. } => source.exit(),
    };
    Failure::new(exit, error)
}
