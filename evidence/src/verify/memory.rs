//! The memory stream, looked into: ranges in LiME's format.

use std::io::Read;

use super::Tap;
use super::problem::Problem;
use super::stream::RawStream;
use crate::lime::{LimeError, Range, Walker};
use crate::manifest::{Manifest, Outcome};

/// Name of the artifact whose content is the memory stream.
const ARTIFACT: &str = "memory";

/// What the stream holds.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) ranges: Vec<Range>,
    /// Bytes that the last range lacks.
    pub(super) missing: u64,
    pub(super) problems: Vec<Problem>,
}

/// Reads the stream to its end. It may end early when the run did, or when the manifest says that not all of memory was
/// captured.
pub(super) fn check(
    raw: &mut RawStream<'_>,
    manifest: Option<&Manifest>,
    tap: &mut dyn Tap,
) -> Memory {
    let mut walker = Walker::default();
    let walked = walk(raw, &mut walker, tap);
    let ranges = walker.ranges().to_vec();
    let error = walked.and_then(|()| walker.finish()).err();
    let missing = match error {
        Some(LimeError::CutRange { missing, .. }) => missing,
        _ => 0,
    };
    let may_be_cut = raw.stopped() || manifest.is_none_or(is_not_all);
    let error = error.filter(|error| !(error.is_cut() && may_be_cut));
    Memory {
        ranges,
        missing,
        problems: error
            .map(|error| Problem::Lime(error.to_string()))
            .into_iter()
            .collect(),
    }
}

fn walk(raw: &mut RawStream<'_>, walker: &mut Walker, tap: &mut dyn Tap) -> Result<(), LimeError> {
    let mut buffer = vec![0; 256 << 10];
    // An error of reading is one of the stream's own problems.
    while let Ok(length @ 1..) = raw.read(&mut buffer) {
        let mut bytes = buffer.get(..length).unwrap_or_default();
        while let Some(piece) = walker.step(&mut bytes)? {
            tap.memory(&piece);
        }
    }
    Ok(())
}

fn is_not_all(manifest: &Manifest) -> bool {
    manifest
        .artifacts
        .iter()
        .any(|report| report.name == ARTIFACT && report.outcome != Outcome::Captured)
}
