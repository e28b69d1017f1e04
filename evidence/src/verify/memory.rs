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
    pub(super) problems: Vec<Problem>,
}

/// Reads the stream to its end. It may end early when the run did, or when the manifest says that memory is partial.
pub(super) fn check(
    raw: &mut RawStream<'_>,
    manifest: Option<&Manifest>,
    tap: &mut dyn Tap,
) -> Memory {
    let mut walker = Walker::default();
    let walked = walk(raw, &mut walker, tap);
    let mut memory = Memory {
        ranges: walker.ranges().to_vec(),
        problems: Vec::new(),
    };
    let may_be_cut = raw.stopped() || manifest.is_none_or(is_partial);
    let error = walked.and_then(|()| walker.finish()).err();
    let error = error.filter(|error| !(error.is_cut() && may_be_cut));
    memory
        .problems
        .extend(error.map(|error| Problem::Lime(error.to_string())));
    memory
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

fn is_partial(manifest: &Manifest) -> bool {
    manifest
        .artifacts
        .iter()
        .any(|report| report.name == ARTIFACT && report.outcome == Outcome::Partial)
}
