//! A copy of a case on this machine: its custody, and each collection with its seal, without network.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use evidence::Exit;
use evidence::custody::Custody;
use evidence::objects::{Directory, read_whole};
use evidence::seal::{self, Statement};
use evidence::signature::PublicKey;
use evidence::verify::{self, Limits, Report, SealState};

use crate::case::Case;
use crate::failure::Failure;

/// The records of a case, and what they amount to.
type History = (Custody, Case);

/// What a copy holds, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct Copy {
    /// What is wrong with the custody, sorted.
    pub(crate) problems: Vec<String>,
    /// `<host>/<collection>` of each that the custody knows and that is not there.
    pub(crate) absent: Vec<String>,
    /// `<host>/<collection>`, and what its verification found.
    pub(crate) collections: Vec<(String, Report)>,
}

impl Copy {
    /// The worst that was found.
    pub(crate) fn exit(&self) -> Exit {
        let custody = self.problems.iter().chain(&self.absent);
        let custody = custody.map(|_| Exit::Altered);
        let reports = self.collections.iter();
        crate::verify::worst(custody.chain(reports.map(|(_, report)| report.verdict.exit())))
    }
}

/// Verifies a copy, in which all that the journal calls sealed has to be sealed by the key, if there is one.
///
/// # Errors
/// As [`examine`].
pub(crate) fn examine_sealed(
    case: &Case,
    folder: &Path,
    key: Option<&PublicKey>,
) -> Result<Copy, Failure> {
    let sealed: BTreeSet<&str> = case
        .collections
        .iter()
        .filter(|(_, collection)| collection.sealed)
        .filter_map(|(prefix, _)| Some(prefix.split_once('/')?.1))
        .collect();
    examine(folder, &|place| key.filter(|_| sealed.contains(place)))
}

/// Verifies a copy; `trusted` is the key by which the collection at a place has to be sealed, if it has to be.
///
/// # Errors
/// When it holds neither a collection nor the custody of disks, or something that is no collection.
pub(crate) fn examine<'a>(
    folder: &Path,
    trusted: &dyn Fn(&str) -> Option<&'a PublicKey>,
) -> Result<Copy, Failure> {
    let (custody, mut problems) = custody(folder)?;
    let mut reports = Vec::new();
    for place in collections(folder)? {
        let objects = Directory::new(&folder.join(&place));
        let limits = Limits::default();
        let report = verify::verify_sealed(&objects, &limits, trusted(&place), &|_| {}, &mut ());
        let mut report = report
            .map_err(|error| Failure::new(Exit::NotACollection, format!("{place}: {error}")))?;
        if let Some((custody, case)) = &custody {
            let collection = case.collections.get(&format!("{}/{place}", case.id));
            let receipt = collection.and_then(|collection| collection.receipt.as_ref());
            if let Some(stated) = receipt.and_then(|receipt| receipt.manifest_sha256) {
                report.compare_receipt(stated);
            }
            problems.extend(unlike_the_seal(&objects, custody, &place));
            let recorded = collection.and_then(|collection| collection.time_stamp.as_ref());
            problems.extend(unlike_the_time_stamp(&report, recorded, &place));
        }
        reports.push((place, report));
    }
    let case = custody.as_ref().map(|(_, case)| case);
    // A case can be about disks alone.
    if reports.is_empty() && case.is_none_or(|case| case.disks.is_empty()) {
        return Err(Failure::new(
            Exit::NotACollection,
            format!(
                "{} holds no collection: want <host>/<collection>/ below it",
                folder.display()
            ),
        ));
    }
    problems.sort_unstable();
    Ok(Copy {
        absent: case.map_or_else(Vec::new, |case| absent(case, &reports)),
        problems,
        collections: reports,
    })
}

/// Collections of the custody that a copy lacks.
fn absent(case: &Case, reports: &[(String, Report)]) -> Vec<String> {
    let has = |place: &str| reports.iter().any(|(there, _)| there == place);
    let places = case
        .collections
        .keys()
        .filter_map(|prefix| prefix.split_once('/'));
    places
        .filter(|(_, place)| !has(place))
        .map(|(_, place)| place.to_owned())
        .collect()
}

/// Whether the custody up to a seal is another than the seal states. What came after it has only its own chain.
fn unlike_the_seal(objects: &Directory, custody: &Custody, place: &str) -> Option<String> {
    let bytes = read_whole(objects, seal::STATEMENT, seal::MAX_BYTES).ok()?;
    let journal = Statement::parse(&bytes).ok()?.journal;
    let last = usize::try_from(journal.records).ok()?.checked_sub(1)?;
    let found = custody
        .records()
        .get(last)
        .and_then(|record| record.hash().ok());
    (found != Some(journal.head)).then(|| {
        format!("the seal of {place} states another history up to record {last} than these records")
    })
}

/// Whether a seal that holds lacks the time stamp that the journal says it has, or has another.
fn unlike_the_time_stamp(
    report: &Report,
    recorded: Option<&String>,
    place: &str,
) -> Option<String> {
    let held = matches!(report.seal.state, SealState::Trusted | SealState::Untrusted);
    let (found, recorded) = (report.seal.time_stamp.as_ref(), recorded?);
    (held && found != Some(recorded)).then(|| {
        let found = found.map_or("none", String::as_str);
        format!(
            "the seal of {place} has the time stamp {recorded} by these records; there is {found}"
        )
    })
}

/// The custody records of a copy, and what is wrong with them. A copy of one collection alone has none.
fn custody(folder: &Path) -> Result<(Option<History>, Vec<String>), Failure> {
    let place = folder.join("custody");
    let Ok(entries) = std::fs::read_dir(&place) else {
        return Ok((None, Vec::new()));
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut lines = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|ending| ending == "json"))
    {
        let line = std::fs::read(file).map_err(|error| {
            Failure::new(
                Exit::Altered,
                format!("{} can not be read: {error}", file.display()),
            )
        })?;
        lines.push(line);
    }
    let first = lines
        .first()
        .and_then(|line| evidence::custody::Record::parse(line).ok());
    let Some(first) = first else {
        return Ok((None, vec!["custody/000000.json is not a record".to_owned()]));
    };
    match Custody::parse_records(first.case, lines.iter().map(Vec::as_slice)) {
        Ok(custody) => match Case::of(custody.records()) {
            Ok(case) => Ok((Some((custody, case)), Vec::new())),
            Err(why) => Ok((None, vec![why])),
        },
        Err(error) => Ok((None, vec![error.to_string()])),
    }
}

/// `<host>/<collection>` of each collection in a copy.
fn collections(folder: &Path) -> Result<Vec<String>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("{} can not be read: {error}", folder.display()))
    };
    let mut found = Vec::new();
    for host in names(folder).map_err(unreadable)? {
        if host == "custody" {
            continue;
        }
        for collection in names(&folder.join(&host)).map_err(unreadable)? {
            found.push(format!("{host}/{collection}"));
        }
    }
    Ok(found)
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let folders = std::fs::read_dir(folder)?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = folders
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}
