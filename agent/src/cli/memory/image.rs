//! Where an image is: a collection, in a directory or a bucket, or a file in LiME's format.

use std::path::{Path, PathBuf};

use evidence::Exit;
use evidence::objects::{Directory, Objects};
use evidence::verify::{Limits, Report, Tap, verify_with};
use indicatif::{HumanBytes, ProgressBar};

use crate::cli::Failure;
use crate::cli::store::{LockArguments, Place, S3Arguments, s3};
use crate::cli::verify::not_verified;

pub(super) enum Image {
    Collection(Box<dyn Objects>),
    File(PathBuf),
}

impl Image {
    /// What the operator named.
    pub(super) fn at(place: &str, arguments: &S3Arguments) -> Result<Self, Failure> {
        match Place::parse(place)? {
            Place::Directory(path) if path.is_file() => Ok(Self::File(path)),
            Place::Directory(path) if path.is_dir() => {
                Ok(Self::Collection(Box::new(Directory::new(&path))))
            }
            Place::Directory(path) => Err(Failure::new(
                Exit::NotACollection,
                format!(
                    "{} is neither a collection's folder nor a file",
                    path.display()
                ),
            )),
            Place::Bucket { bucket, prefix } => {
                let store = s3(&bucket, prefix, arguments, &LockArguments::default())?;
                Ok(Self::Collection(Box::new(store)))
            }
        }
    }
}

/// Verifies a collection, and hands its content to `tap`.
pub(super) fn verify(
    place: &str,
    objects: &dyn Objects,
    tap: &mut dyn Tap,
) -> Result<Report, Failure> {
    let bar = ProgressBar::new_spinner();
    let show = |bytes: u64| {
        bar.set_message(format!("{} verified", HumanBytes(bytes)));
        bar.tick();
    };
    let report = verify_with(objects, &Limits::default(), &show, tap);
    bar.finish_and_clear();
    report.map_err(|error| not_verified(place, &error))
}

/// The name of a file until all of it is there.
pub(super) fn part_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Opens a file of the operator's.
#[expect(
    clippy::disallowed_methods,
    reason = "a file of the analyst, not of the host's evidence"
)]
pub(super) fn open(path: &Path) -> Result<std::fs::File, Failure> {
    std::fs::File::open(path).map_err(|error| {
        Failure::new(
            Exit::NotACollection,
            format!("{} can not be read: {error}", path.display()),
        )
    })
}
