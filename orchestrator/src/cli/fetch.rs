//! `fetch`: a case onto this machine, and the verification of such a copy.

use std::path::{Path, PathBuf};

use clap::Args;
use evidence::custody::Custody;
use evidence::objects::Directory;
use evidence::signature::PublicKey;
use evidence::verify::{self, Limits, Report};
use evidence::{CaseId, Exit};
use indicatif::HumanBytes;
use serde_json::json;

use super::Global;
use super::verify::worst;
use crate::case::{Case, Event};
use crate::failure::Failure;
use crate::fetch;
use crate::seal;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    case: CaseId,
    /// Folder that gets the copy: custody/ and <host>/<collection>/. What is there with the right bytes stays
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Failure> {
    let config = global.read_config()?;
    let progress = global.progress();
    let mut work = global.work(&config, &arguments.case, &progress).await?;
    if arguments.dry_run {
        let plan = fetch::fetch(&work, &arguments.to, true).await?;
        global.print(
            &json!({"bytes": plan.bytes, "collections": plan.collections}),
            |_| {
                format!(
                    "fetch {} in {} collections to {}\n",
                    HumanBytes(plan.bytes),
                    plan.collections.len(),
                    arguments.to.display()
                )
            },
        )?;
        return Ok(Exit::Complete);
    }
    // Who has read the evidence is written down before it is read.
    for prefix in work
        .journal
        .case()
        .collections
        .keys()
        .cloned()
        .collect::<Vec<_>>()
    {
        let to = arguments.to.display().to_string();
        work.record(&Event::Accessed { prefix, to }).await?;
    }
    let fetched = fetch::fetch(&work, &arguments.to, false).await?;
    progress.end();
    for key in &fetched.strange {
        progress.say(&format!("not fetched, Exhibit writes no such key: {key}"));
    }
    let trusted = match seal::trusted_key(&config, &work.evidence).await {
        Ok(key) => Some(key),
        Err(failure) => {
            progress.say(&format!("no key to check the seal with: {failure}"));
            None
        }
    };
    progress.say(&format!(
        "{} objects fetched, {} were there; verifying",
        fetched.fetched, fetched.kept
    ));
    let sealed = work
        .journal
        .case()
        .collections
        .values()
        .any(|collection| collection.sealed);
    check(global, &arguments.to, trusted.as_ref().filter(|_| sealed))
}

/// Verifies a copy: the custody, and each collection with its seal. No network.
pub(super) fn verify_copy(
    global: &Global,
    folder: &Path,
    key: Option<&Path>,
) -> Result<Exit, Failure> {
    let trusted = key.map(seal::public_key_of).transpose()?;
    check(global, folder, trusted.as_ref())
}

fn check(global: &Global, folder: &Path, trusted: Option<&PublicKey>) -> Result<Exit, Failure> {
    let (case, mut problems) = custody(folder)?;
    let mut reports = Vec::new();
    for place in collections(folder)? {
        let report = verify::verify_sealed(
            &Directory::new(&folder.join(&place)),
            &Limits::default(),
            trusted,
            &|_| {},
            &mut (),
        );
        let mut report = report
            .map_err(|error| Failure::new(Exit::NotACollection, format!("{place}: {error}")))?;
        let known = case
            .as_ref()
            .and_then(|case| case.collections.get(&format!("{}/{place}", case.id)));
        if let Some(stated) =
            known.and_then(|collection| collection.receipt.as_ref()?.manifest_sha256)
        {
            report.compare_receipt(stated);
        }
        reports.push((place, report));
    }
    if reports.is_empty() {
        return Err(Failure::new(
            Exit::NotACollection,
            format!(
                "{} holds no collection: want <host>/<collection>/ below it",
                folder.display()
            ),
        ));
    }
    let exits: Vec<Exit> = reports
        .iter()
        .map(|(_, report)| report.verdict.exit())
        .chain(problems.iter().map(|_| Exit::Altered))
        .collect();
    let collections: Vec<_> = reports
        .iter()
        .map(|(place, report)| json!({"collection": place, "report": report}))
        .collect();
    problems.sort_unstable();
    global.print(
        &json!({"custody_problems": problems, "collections": collections}),
        |_| {
            let custody = problems
                .iter()
                .map(|problem| format!("custody: problem: {problem}\n"));
            custody
                .chain(reports.iter().map(|(place, report)| text(place, report)))
                .collect()
        },
    )?;
    Ok(worst(exits.into_iter()))
}

/// The custody records of a copy, and what is wrong with them. A copy of one collection alone has none.
fn custody(folder: &Path) -> Result<(Option<Case>, Vec<String>), Failure> {
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
            Ok(case) => Ok((Some(case), Vec::new())),
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

fn text(place: &str, report: &Report) -> String {
    let word = |value: serde_json::Result<serde_json::Value>| {
        value
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let verdict = word(serde_json::to_value(report.verdict));
    let seal = word(serde_json::to_value(report.seal.state));
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
    lines.join("\n") + "\n"
}
