//! Every byte: the objects are read from the bucket at the versions that were judged, and verified as on a disk.

use std::collections::BTreeMap;
use std::io::{self, Read};

use evidence::objects::Objects;
use evidence::verify::{Limits, Report, Verdict};
use tokio::runtime::Handle;

use super::gather::Gathered;
use super::{Checked, Problem};
use crate::aws::s3::Bucket;
use crate::failure::Failure;
use crate::run::Work;

/// Longest object that is read, in bytes.
const MAX_OBJECT: u64 = evidence::segment::MAX_BYTES;

/// Reads and verifies everything, and adds what is found.
///
/// # Errors
/// When the bucket can not be read.
pub(super) async fn deep(
    work: &Work<'_>,
    checked: &mut Checked,
    gathered: &Gathered,
) -> Result<(), Failure> {
    let base = format!("{}/", work.config.key(&checked.prefix));
    let pinned = checked
        .objects
        .iter()
        .map(|held| (held.key.clone(), held.version.clone()));
    let mut versions: BTreeMap<String, String> = pinned.collect();
    // What is in nobody's list is read too, so that the verifier names it in its own words.
    for (key, there) in &gathered.versions {
        if let Some(latest) = there.iter().find(|version| version.size.is_some()) {
            versions
                .entry(key.clone())
                .or_insert_with(|| latest.id.clone());
        }
    }
    let objects = Pinned {
        bucket: work.bucket.clone(),
        base,
        versions,
        handle: Handle::current(),
    };
    let prefix = checked.prefix.clone();
    let meter = work.progress.meter(&prefix, checked.stored_bytes);
    let verifying = tokio::task::spawn_blocking(move || {
        evidence::verify::verify(&objects, &Limits::default(), &|bytes| meter.at(bytes))
    });
    let report = verifying.await.map_err(Failure::internal)?;
    let report = report.map_err(|error| Failure::new(evidence::Exit::NotACollection, error))?;
    merge(checked, report);
    Ok(())
}

fn merge(checked: &mut Checked, report: Report) {
    checked.deep = true;
    for problem in report.problems {
        let found = Problem {
            code: problem.code(),
            message: problem.to_string(),
        };
        if !checked.problems.contains(&found) {
            checked.problems.push(found);
        }
    }
    // S3 states no hash of an object, but it was read now.
    checked
        .problems
        .retain(|problem| problem.code != "unstated");
    checked.verdict = if checked.problems.is_empty() {
        report.verdict
    } else {
        Verdict::Altered
    };
}

/// The collection at fixed versions.
struct Pinned {
    bucket: Bucket,
    base: String,
    versions: BTreeMap<String, String>,
    handle: Handle,
}

impl Objects for Pinned {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.versions.keys().cloned().collect())
    }

    fn open(&self, key: &str) -> io::Result<Box<dyn Read + '_>> {
        let version = self.versions.get(key).ok_or(io::ErrorKind::NotFound)?;
        let path = format!("{}{key}", self.base);
        let bytes = self
            .handle
            .block_on(self.bucket.read(&path, Some(version), MAX_OBJECT));
        let bytes = bytes.map_err(|failure| io::Error::other(failure.message))?;
        Ok(Box::new(io::Cursor::new(
            bytes.ok_or(io::ErrorKind::NotFound)?,
        )))
    }
}
