//! A verified copy, for whoever reads: each collection with its verdict and its seal.

use std::path::Path;

use evidence::Exit;
use evidence::verify::Report;
use serde_json::{Map, Value, json};

use super::Global;
use crate::copy::{self, Copy};
use crate::failure::Failure;

/// Verifies a copy: the custody, and each collection with its seal. No network.
pub(super) fn verify_copy(
    global: &Global,
    folder: &Path,
    key: Option<&Path>,
) -> Result<Exit, Failure> {
    let trusted = key.map(crate::seal::public_key_of).transpose()?;
    print(global, &copy::examine(folder, &|_| trusted.as_ref())?)
}

/// Prints what is in a copy; the answer is the worst of it.
pub(super) fn print(global: &Global, copy: &Copy) -> Result<Exit, Failure> {
    global.print(&value(copy), |_| text(copy))?;
    Ok(copy.exit())
}

/// For programs.
pub(super) fn value(copy: &Copy) -> Map<String, Value> {
    let collections = copy.collections.iter();
    let collections: Vec<Value> = collections
        .map(|(place, report)| json!({"collection": place, "report": report}))
        .collect();
    Map::from_iter([
        ("custody_problems".to_owned(), json!(copy.problems)),
        ("absent".to_owned(), json!(copy.absent)),
        ("collections".to_owned(), Value::Array(collections)),
    ])
}

/// For people.
pub(super) fn text(copy: &Copy) -> String {
    let custody = copy.problems.iter();
    let custody = custody.map(|problem| format!("custody: problem: {problem}\n"));
    let absent = copy.absent.iter();
    let absent = absent.map(|place| format!("{place}: absent, though the custody knows it\n"));
    let collections = copy.collections.iter();
    custody
        .chain(absent)
        .chain(collections.map(|(place, report)| lines(place, report)))
        .collect()
}

fn lines(place: &str, report: &Report) -> String {
    let verdict = report.verdict.exit().word();
    let seal = serde_json::to_value(report.seal.state).unwrap_or_default();
    let seal = seal.as_str().unwrap_or_default();
    let mut lines = vec![format!(
        "{place}: {verdict}, seal {seal}, {} segments, {} members",
        report.segments, report.members
    )];
    lines.extend(
        report
            .problems
            .iter()
            .map(|problem| format!("  problem: {}: {problem}", problem.code())),
    );
    lines.extend(
        report
            .reasons
            .iter()
            .map(|reason| format!("  missing: {reason}")),
    );
    lines.extend(report.seal.time_stamp.as_ref().map(|time| {
        let command = crate::seal::command(None);
        format!("  time stamp: {time}; who signed it is not checked here, this does: {command}")
    }));
    lines.join("\n") + "\n"
}
