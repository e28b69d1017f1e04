//! Where an image is, in a collection or a file in LiME's format, and the files that are made of it.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use evidence::Exit;
use evidence::objects::Objects;
use evidence::verify::{Report, Verdict};

use crate::cli::store::{Place, S3Arguments};
use crate::cli::{Failure, tell};

pub(super) enum Image {
    Collection(Box<dyn Objects + Send + Sync>),
    File(PathBuf),
}

impl Image {
    /// What the operator named.
    pub(super) fn at(place: &str, arguments: &S3Arguments) -> Result<Self, Failure> {
        match Place::parse(place)? {
            Place::Directory(path) if path.is_file() => Ok(Self::File(path)),
            Place::Directory(path) if !path.is_dir() => Err(Failure::new(
                Exit::NotACollection,
                format!(
                    "{} is neither a collection's folder nor a file",
                    path.display()
                ),
            )),
            place => Ok(Self::Collection(place.objects(arguments)?)),
        }
    }

    /// As [`Image::at`], where nothing but a collection will do.
    pub(super) fn collection(
        place: &str,
        arguments: &S3Arguments,
    ) -> Result<Box<dyn Objects + Send + Sync>, Failure> {
        match Self::at(place, arguments)? {
            Self::Collection(objects) => Ok(objects),
            Self::File(_) => Err(Failure::new(
                Exit::NotACollection,
                format!("{place} is a file: name a collection"),
            )),
        }
    }
}

/// Refuses a collection that is altered, after naming what is wrong with it.
pub(super) fn unaltered(report: &Report, message: impl ToString) -> Result<(), Failure> {
    if report.verdict != Verdict::Altered {
        return Ok(());
    }
    let problems = report.problems.iter();
    problems.for_each(|problem| tell(&format!("problem: {problem}")));
    Err(Failure::new(Exit::Altered, message))
}

/// A file that gets its name when all of it is there, and never takes another one's place.
pub(super) struct NewFile<'a> {
    to: &'a Path,
    part: PathBuf,
}

impl<'a> NewFile<'a> {
    /// Creates it.
    pub(super) fn create(to: &'a Path) -> Result<(Self, File), Failure> {
        let mut part = to.as_os_str().to_owned();
        part.push(".part");
        let new = Self {
            to,
            part: part.into(),
        };
        if to.exists() {
            return Err(new.unwritable("it exists already"));
        }
        let file = File::create_new(&new.part).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => new.unwritable(format!(
                "{} is left of an earlier try: remove it",
                new.part.display()
            )),
            _ => new.unwritable(error),
        })?;
        Ok((new, file))
    }

    /// Where it is until it has its name.
    pub(super) fn part(&self) -> &Path {
        &self.part
    }

    pub(super) fn unwritable(&self, error: impl std::fmt::Display) -> Failure {
        Failure::usage(format!("{} can not be written: {error}", self.to.display()))
    }

    /// Gives it its name.
    pub(super) fn keep(self) -> Result<(), Failure> {
        std::fs::rename(&self.part, self.to).map_err(|error| self.unwritable(error))
    }

    /// Removes what there is of it; for `map_err`.
    pub(super) fn discard(&self, failure: Failure) -> Failure {
        let _ = std::fs::remove_file(&self.part);
        failure
    }
}

/// Opens a file of the operator's.
#[expect(
    clippy::disallowed_methods,
    reason = "a file of the analyst, not of the host's evidence"
)]
pub(super) fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| {
        Failure::new(
            Exit::NotACollection,
            format!("{} can not be read: {error}", path.display()),
        )
    })
}
