//! A BagIt 1.0 bag (RFC 8493): a folder whose payload and descriptions are listed with their hashes.
//!
//! `bag-info.txt` comes first, so an unfinished bag says whose it is, and the tag manifest last: without it a bag is
//! unfinished. What is in the folder and is not part of the bag is refused, never listed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read as _, Write};
use std::path::Path;

use evidence::{CaseId, Digest, Exit};

use super::hash::hash_all;
use crate::failure::Failure;
use crate::fetch;

/// Folder of the payload.
pub(super) const DATA: &str = "data";
/// The case for machines.
pub(super) const ONTOLOGY: &str = "case.jsonld";
const DECLARATION: &str = "bagit.txt";
const INFO: &str = "bag-info.txt";
const MANIFEST: &str = "manifest-sha256.txt";
const TAG_MANIFEST: &str = "tagmanifest-sha256.txt";
/// What the tag manifest lists.
const TAGS: [&str; 4] = [DECLARATION, INFO, ONTOLOGY, MANIFEST];
/// Ending of a file that is being written.
const PART: &str = ".part";
/// Longest bag-info.txt that is read, in bytes.
const MAX_INFO: u64 = 16 << 20;

/// A file of the bag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Path below the payload's folder, or below the bag's.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) sha256: Digest,
}

/// Elements of bag-info.txt, in order.
pub(super) type Info = Vec<(&'static str, String)>;

/// Whether `folder` may become the bag of a case; true when it holds an unfinished one. Changes nothing.
///
/// # Errors
/// When it holds anything else.
pub(super) fn look(folder: &Path, case: &CaseId) -> Result<bool, Failure> {
    let refuse = |why: &str| {
        let message = format!(
            "{} {why}: nothing is written there; give another --to",
            folder.display()
        );
        Failure::new(Exit::Target, message)
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(|error| refuse(&format!("can not be read ({error})")))?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(|error| refuse(&format!("can not be read ({error})")))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().map_err(Failure::internal)?;
        let is_tag = TAGS.contains(&name.strip_suffix(PART).unwrap_or(&name));
        let is_last = name.strip_suffix(PART) == Some(TAG_MANIFEST);
        if name == TAG_MANIFEST {
            return Err(refuse("holds a finished bag, which stays as it is"));
        }
        if !(kind.is_dir() && name == DATA || kind.is_file() && (is_tag || is_last)) {
            return Err(refuse(&format!(
                "holds {name:?}, which is no part of a bag"
            )));
        }
        names.insert(name);
    }
    // A program that is ended while it writes the first file leaves only this.
    if names.iter().all(|name| *name == format!("{INFO}{PART}")) {
        return Ok(false);
    }
    if identifier(folder).as_deref() != Some(&*case.to_string()) {
        return Err(refuse(&format!("is not an unfinished bag of {case}")));
    }
    let ours = |path: &str| {
        let key = path.strip_suffix(PART).unwrap_or(path);
        fetch::place(&case.to_string(), key).is_some()
    };
    let stray = strays(&folder.join(DATA), &ours)?;
    match stray.first() {
        Some(path) => Err(refuse(&format!(
            "holds {path:?}, which Exhibit never wrote"
        ))),
        None => Ok(true),
    }
}

/// Makes a bag of `folder`, or takes an unfinished one up again.
///
/// # Errors
/// As [`look`], and when the disk does not take it.
pub(super) fn begin(folder: &Path, case: &CaseId, info: &Info) -> Result<(), Failure> {
    look(folder, case)?;
    fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    let old = folder.join(MANIFEST);
    match fs::remove_file(&old) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(unwritable(&old, &error)),
        _ => {}
    }
    write(folder, INFO, |out| write_info(out, info))?;
    write(folder, DECLARATION, |out| {
        out.write_all(b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    })?;
    let data = folder.join(DATA);
    fs::create_dir_all(&data).map_err(|error| unwritable(&data, &error))
}

/// The payload, hashed from the disk, by path: these files, and no others.
///
/// # Errors
/// When there are others, or one of these can not be read.
pub(super) fn payload(
    folder: &Path,
    keys: &BTreeSet<String>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Entry>, Failure> {
    let data = folder.join(DATA);
    let stray = strays(&data, &|path| keys.contains(path))?;
    if !stray.is_empty() {
        return Err(Failure::new(
            Exit::Target,
            format!(
                "{} holds what the case in the bucket does not: {}; move it away and run the command again",
                data.display(),
                stray.join(", ")
            ),
        ));
    }
    let keys: Vec<String> = keys.iter().cloned().collect();
    hash_all(&data, &keys, progress)
}

/// Writes what makes a bag of it: description, manifest, tag manifest.
///
/// # Errors
/// When the disk does not take it: then the bag stays unfinished.
pub(super) fn finish(folder: &Path, info: &Info, payload: &[Entry]) -> Result<(), Failure> {
    write(folder, INFO, |out| write_info(out, info))?;
    write(folder, MANIFEST, |out| {
        write_manifest(out, &format!("{DATA}/"), payload)
    })?;
    let tags = hash_all(folder, &TAGS.map(str::to_owned), &|_| {})?;
    write(folder, TAG_MANIFEST, |out| write_manifest(out, "", &tags))
}

/// Writes a file beside the payload; under its name it is whole.
///
/// # Errors
/// When the disk does not take it.
pub(super) fn write(
    folder: &Path,
    name: &str,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let path = folder.join(name);
    let part = folder.join(format!("{name}{PART}"));
    let put = || {
        let mut out = BufWriter::new(File::create(&part)?);
        content(&mut out)?;
        out.into_inner()?.sync_all()?;
        fs::rename(&part, &path)?;
        File::open(folder)?.sync_all()
    };
    put().map_err(|error| unwritable(&path, &error))
}

/// Files below `folder` that `ours` does not know, and whatever is neither file nor folder, sorted.
fn strays(folder: &Path, ours: &dyn Fn(&str) -> bool) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut below = vec![String::new()];
    let unreadable = |path: &Path, error: &io::Error| {
        let message = format!("{} can not be read: {error}", path.display());
        Failure::new(Exit::Target, message)
    };
    while let Some(prefix) = below.pop() {
        let place = folder.join(&prefix);
        let entries = match fs::read_dir(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(|error| unreadable(&place, &error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&place, &error))?;
            let kind = entry.file_type().map_err(Failure::internal)?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                below.push(format!("{path}/"));
            } else if !kind.is_file() || !ours(&path) {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The case that the folder says it is a bag of.
fn identifier(folder: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(folder.join(INFO)).ok()?;
    file.take(MAX_INFO).read_to_string(&mut text).ok()?;
    let line = |line: &str| Some(line.strip_prefix("External-Identifier: ")?.to_owned());
    text.lines().find_map(line)
}

fn write_info(out: &mut dyn Write, info: &Info) -> io::Result<()> {
    for (label, value) in info {
        // A value of several lines would be read as several elements; Python ends a line at these two as well.
        let ends = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        let value = value.replace(ends, " ");
        writeln!(out, "{label}: {}", value.trim())?;
    }
    Ok(())
}

fn write_manifest(out: &mut dyn Write, prefix: &str, entries: &[Entry]) -> io::Result<()> {
    for entry in entries {
        writeln!(
            out,
            "{}  {}",
            entry.sha256,
            encode(&format!("{prefix}{}", entry.path))
        )?;
    }
    Ok(())
}

/// A path as a manifest has it (RFC 8493, 2.1.3). No key of ours needs it.
fn encode(path: &str) -> String {
    path.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        ErrorKind::StorageFull => Exit::NoSpace,
        _ => Exit::Target,
    };
    Failure::new(
        exit,
        format!("{} can not be written: {error}", path.display()),
    )
}

#[cfg(test)]
#[path = "bag_tests.rs"]
mod tests;
