//! The analysts' own readers. A bundle is right when they find in it what was put there: their counts are asserted,
//! never their exit status alone, because most of them end well on files that they do not understand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::python::Venv;
use super::{Error, Result, need, stdout_of};

/// The records that a function of dissect's `target-query` gives, one JSON text each; lines as they are from
/// functions that give text, such as `netstat`.
///
/// # Errors
/// When dissect cannot be had or ends with an error.
pub fn dissect_target_query(tar: &Path, function: &str) -> Result<Vec<String>> {
    let home = scratch()?;
    let mut command = Venv::judges()?.command("target-query");
    command
        .args(["-q", "-j", "-f", function])
        .arg(tar)
        .env("HOME", home.path());
    let lines = stdout_of(&mut command)?;
    let is_record =
        |line: &&str| !line.is_empty() && !line.starts_with(r#"{"_type": "recorddescriptor""#);
    Ok(lines
        .lines()
        .filter(is_record)
        .map(str::to_string)
        .collect())
}

/// What dissect's `target-info` says of a target. `os_family` is `linux` when it was understood, `default` when
/// not.
///
/// # Errors
/// When dissect cannot be had or gives no JSON.
pub fn dissect_info(tar: &Path) -> Result<Value> {
    let home = scratch()?;
    let mut command = Venv::judges()?.command("target-info");
    let text = stdout_of(command.args(["-q", "-j"]).arg(tar).env("HOME", home.path()))?;
    parse(&text)
}

/// How many events plaso finds, under each parser (`text/bash_history`) and, counted once more, under each data
/// type (`bash:history:entry`).
///
/// # Errors
/// When plaso cannot be had or ends with an error.
pub fn plaso_counts(tar: &Path) -> Result<BTreeMap<String, usize>> {
    let venv = Venv::judges()?;
    let work = scratch()?;
    let (storage, events) = (
        work.path().join("storage.plaso"),
        work.path().join("events.jsonl"),
    );
    let tar = tar
        .canonicalize()
        .map_err(|error| Error::Failed(format!("{}: {error}", tar.display())))?;
    let quiet = [
        "--quiet",
        "--unattended",
        "--status_view",
        "none",
        "--logfile",
        "/dev/null",
    ];

    let mut command = venv.command("log2timeline");
    command
        .args(quiet)
        .args(["--single_process", "--hashers", "none", "--storage_file"])
        .arg(&storage)
        .arg(tar);
    stdout_of(command.current_dir(work.path()).env("HOME", work.path()))?;
    let mut command = venv.command("psort");
    command
        .args(quiet)
        .args(["-o", "json_line", "-w"])
        .arg(&events)
        .arg(&storage);
    stdout_of(command.current_dir(work.path()).env("HOME", work.path()))?;

    let text = std::fs::read_to_string(&events)
        .map_err(|error| Error::Failed(format!("psort wrote nothing: {error}")))?;
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let event: Value = parse(line)?;
        for name in ["parser", "data_type"] {
            *counts
                .entry(event[name].as_str().unwrap_or("unnamed").to_string())
                .or_default() += 1;
        }
    }
    Ok(counts)
}

/// The names that sleuthkit's `mactime` shows. It drops lines without a word: fewer names than in the bodyfile are
/// files that an analyst does not see.
///
/// # Errors
/// When `mactime` is not installed or refuses the file.
pub fn mactime_names(bodyfile: &Path) -> Result<BTreeSet<String>> {
    let text = stdout_of(plain(
        Command::new(need("mactime")?)
            .args(["-d", "-y", "-b"])
            .arg(bodyfile),
    ))?;
    let name = |line: &str| {
        let quoted = line.splitn(8, ',').nth(7)?;
        Some(
            quoted
                .strip_prefix('"')?
                .strip_suffix('"')?
                .replace("\"\"", "\""),
        )
    };
    Ok(text.lines().skip(1).filter_map(name).collect())
}

/// The member names that GNU tar lists, with what is unprintable escaped.
///
/// # Errors
/// When tar is not installed or finds the archive broken.
pub fn gnu_tar_list(tar: &Path) -> Result<Vec<String>> {
    let mut command = Command::new(need("tar")?);
    lines(plain(
        command
            .args([
                "--list",
                "--quoting-style=escape",
                "--force-local",
                "--file",
            ])
            .arg(tar),
    ))
}

/// The member names that libarchive's bsdtar lists.
///
/// # Errors
/// When bsdtar is not installed or finds the archive broken.
pub fn bsdtar_list(tar: &Path) -> Result<Vec<String>> {
    lines(plain(Command::new(need("bsdtar")?).arg("-tf").arg(tar)))
}

/// The sessions that `last` reads from a copy of wtmp, newest first, in UTC.
///
/// # Errors
/// When `last` is not installed or cannot read the file.
pub fn last_f(wtmp: &Path) -> Result<Vec<String>> {
    let mut command = Command::new(need("last")?);
    let all = lines(plain(
        command
            .args(["--time-format", "iso", "--fullnames", "--file"])
            .arg(wtmp),
    ))?;
    // The last two lines say since when the file has records.
    Ok(all
        .into_iter()
        .take_while(|line| !line.is_empty())
        .collect())
}

/// The entries that `journalctl` reads from a copy of a journal file.
///
/// # Errors
/// When `journalctl` is not installed or cannot read the file.
pub fn journalctl_file(journal: &Path) -> Result<Vec<Value>> {
    let mut command = Command::new(need("journalctl")?);
    let entries = lines(plain(
        command
            .args(["--output", "json", "--no-pager", "--quiet", "--file"])
            .arg(journal),
    ))?;
    entries.iter().map(|entry| parse(entry)).collect()
}

/// What the Library of Congress' `bagit.py` says against a bag; nothing when it is valid.
///
/// # Errors
/// When bagit cannot be had.
pub fn bagit_refusal(bag: &Path) -> Result<Option<String>> {
    let mut command = Venv::export()?.command("bagit.py");
    refusal(command.args(["--validate", "--quiet"]).arg(bag))
}

/// What `case_validate` says against a document in CASE; nothing when it conforms, warnings counted as faults.
///
/// # Errors
/// When case-utils cannot be had.
pub fn case_refusal(document: &Path) -> Result<Option<String>> {
    let home = scratch()?;
    let mut command = Venv::export()?.command("case_validate");
    // It has the ontology with it: whatever asks a network has to fail.
    let nowhere = "http://127.0.0.1:9";
    command
        .env("HOME", home.path())
        .env("http_proxy", nowhere)
        .env("https_proxy", nowhere);
    refusal(
        command
            .args(["--built-version", "case-1.5.0"])
            .arg(document),
    )
}

/// What a judge says when it ends with 1, which is its no.
fn refusal(command: &mut Command) -> Result<Option<String>> {
    let output = plain(command)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::Failed(format!("no judge: {error}")))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    match output.status.code() {
        Some(0) => Ok(None),
        Some(1) => Ok(Some(said)),
        _ => Err(Error::Failed(format!("{}: {said}", output.status))),
    }
}

/// Without the caller's language and time zone.
fn plain(command: &mut Command) -> &mut Command {
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC")
}

fn lines(command: &mut Command) -> Result<Vec<String>> {
    Ok(stdout_of(command)?.lines().map(str::to_string).collect())
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::Failed(format!("not JSON ({error}): {text}")))
}

/// A home and a place to work for tools that leave files behind.
fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|error| Error::Failed(format!("no temporary folder: {error}")))
}
