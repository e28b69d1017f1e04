//! A case for somebody else: a fetched and verified copy inside a BagIt bag, with a description for machines.
//!
//! What is altered is exported as it is, and called so: a laboratory needs it to find out what happened.

mod bag;
mod hash;
mod ontology;

use std::collections::BTreeMap;
use std::path::Path;

use evidence::manifest::{self, Manifest};
use evidence::objects::{Directory, read_whole};
use evidence::signature::PublicKey;
use evidence::verify::{Report, SealState, Verdict};
use evidence::{Digest, Exit, keys};

use crate::case::{Case, Event};
use crate::copy::{self, Copy};
use crate::failure::Failure;
use crate::fetch::{self, Fetched};
use crate::run::Work;
use bag::{Entry, Info};
use ontology::{Run, Told};

/// What an export would do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) fetched: Fetched,
    /// An unfinished bag is completed.
    pub(crate) resumes: bool,
}

/// A finished export.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) fetched: Fetched,
    pub(crate) copy: Copy,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

/// What [`export`] would do, without doing it.
///
/// # Errors
/// When `folder` can not be taken, the case has no collections, or S3 refuses.
pub(crate) async fn plan(work: &Work<'_>, folder: &Path) -> Result<Plan, Failure> {
    something(work.journal.case())?;
    let resumes = bag::look(folder, &work.id)?;
    let fetched = fetch::fetch(work, &folder.join(bag::DATA), true).await?;
    Ok(Plan { fetched, resumes })
}

/// Makes a bag of the case in `folder`, or completes the one that was begun there.
///
/// # Errors
/// As [`plan`] and [`fetch::fetch`], and when what is on the disk is not the copy that was verified. The bag stays unfinished then.
pub(crate) async fn export(
    work: &mut Work<'_>,
    folder: &Path,
    key: Option<&PublicKey>,
) -> Result<Exported, Failure> {
    something(work.journal.case())?;
    bag::begin(folder, &work.id, &begun(work))?;
    // Who gets the evidence is written down before it is read, and so is part of the bag.
    let to = folder.display().to_string();
    work.record(&Event::Exported { to }).await?;
    let data = folder.join(bag::DATA);
    let fetched = fetch::fetch(work, &data, false).await?;
    work.progress.say(&format!(
        "{} objects fetched, {} were there; verifying",
        fetched.fetched, fetched.kept
    ));
    let case = work.journal.case();
    let copy = copy::examine_sealed(case, &data, key)?;
    let meter = work.progress.meter("bytes hashed", fetched.bytes);
    let payload = bag::payload(folder, &fetched.keys, &|done| meter.at(done))?;
    unchanged(&copy, &payload)?;
    let told = Told {
        case,
        records: work.journal.records(),
        copy: &copy,
        runs: runs(&data, &copy),
        payload: &payload,
    };
    bag::write(folder, bag::ONTOLOGY, |out| ontology::write(&told, out))?;
    bag::finish(folder, &ended(work, &copy, &payload), &payload)?;
    Ok(Exported {
        files: payload.len(),
        bytes: payload.iter().map(|entry| entry.bytes).sum(),
        copy,
        fetched,
    })
}

fn something(case: &Case) -> Result<(), Failure> {
    if case.collections.is_empty() && case.disks.is_empty() {
        let message = format!("the case {} has nothing to export", case.id);
        return Err(Failure::new(Exit::NotACollection, message));
    }
    Ok(())
}

/// What was verified has to be what the bag lists.
fn unchanged(copy: &Copy, payload: &[Entry]) -> Result<(), Failure> {
    let listed: BTreeMap<&str, Digest> = payload
        .iter()
        .map(|entry| (entry.path.as_str(), entry.sha256))
        .collect();
    for (place, report) in &copy.collections {
        for (key, sha256) in &report.sha256 {
            let path = format!("{place}/{key}");
            if listed.get(path.as_str()) != Some(sha256) {
                return Err(Failure::new(
                    Exit::Altered,
                    format!("{path} has changed on this disk while it was exported"),
                ));
            }
        }
    }
    Ok(())
}

/// What the manifests say of the runs, by place; of an altered collection nothing.
fn runs(data: &Path, copy: &Copy) -> BTreeMap<String, Run> {
    let read = |(place, report): &(String, Report)| {
        let objects = Directory::new(&data.join(place));
        let bytes = read_whole(&objects, keys::MANIFEST, manifest::MAX_BYTES).ok()?;
        let verified = report.verdict != Verdict::Altered
            && report.manifest_sha256 == Some(Digest::of(&bytes));
        let manifest = Manifest::parse(&bytes).ok().filter(|_| verified)?;
        Some((place.clone(), manifest.into()))
    };
    copy.collections.iter().filter_map(read).collect()
}

/// The description of a bag that has no payload yet.
fn begun(work: &Work<'_>) -> Info {
    vec![
        ("External-Identifier", work.id.to_string()),
        ("Bag-Software-Agent", software()),
    ]
}

fn ended(work: &Work<'_>, copy: &Copy, payload: &[Entry]) -> Info {
    let case = work.journal.case();
    let records = work.journal.records();
    let bytes: u64 = payload.iter().map(|entry| entry.bytes).sum();
    let exported = records.last().map_or("", |record| &record.time);
    let mut info = begun(work);
    info.extend([
        ("External-Description", case.reason.clone()),
        ("Contact-Name", work.operator().to_owned()),
        (
            "Bagging-Date",
            exported.get(..10).unwrap_or_default().to_owned(),
        ),
        ("Payload-Oxum", format!("{bytes}.{}", payload.len())),
        ("Exhibit-Custody", custody(copy, records.len())),
    ]);
    let collections = copy.collections.iter();
    let verdicts = collections.map(|(place, report)| format!("{place}: {}", words(report)));
    let absent = copy
        .absent
        .iter()
        .map(|place| format!("{place}: altered, nothing of it is in the bucket"));
    info.extend(verdicts.chain(absent).map(|text| ("Exhibit-Verdict", text)));
    info
}

fn custody(copy: &Copy, records: usize) -> String {
    match copy.problems.as_slice() {
        [] => format!("intact, {records} records"),
        [problem, ..] => format!("altered: {problem}"),
    }
}

/// A report in one line.
fn words(report: &Report) -> String {
    let seal = match report.seal.state {
        SealState::Unsealed => "not sealed",
        SealState::Broken => "its seal does not fit",
        SealState::Untrusted => "sealed, with a key that nobody vouched for",
        SealState::Trusted => "sealed, with the key of whoever exports",
    };
    let problems = match report.problems.len() {
        0 => String::new(),
        count => format!(", problems: {count}"),
    };
    format!("{}, {seal}{problems}", report.verdict.exit().word())
}

/// The program that makes the bag.
fn software() -> String {
    format!("exhibit {}", env!("CARGO_PKG_VERSION"))
}
