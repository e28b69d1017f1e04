//! The tar inside the evidence stream, member by member against the inventory.

use std::collections::{HashSet, VecDeque};

use super::stream::RawStream;
use super::{Limits, Problem, Tap, problem};
use crate::digest::{Digest, Hasher};
use crate::inventory::{self, EntryError, FileType, Name};
use crate::manifest::Manifest;
use crate::member::{Kind, Reader, TarError};

/// Most problems that are named; the verdict needs one.
const MAX_PROBLEMS: usize = 1000;
/// Most bytes of members that wait for a line of the inventory. A member costs less here than its line is long, so the
/// writer, which writes a part whenever the lines fill one, stays well below.
const MAX_WAITING: usize = 4 * inventory::PART_BYTES;

pub(super) struct Contents {
    pub(super) members: u64,
    pub(super) problems: Vec<Problem>,
}

/// A member that the inventory has yet to list.
struct Seen {
    name: Vec<u8>,
    kind: Kind,
    offset: u64,
    sha256: Digest,
}

impl Seen {
    /// About what it costs to hold, in bytes.
    fn cost(&self) -> usize {
        let target = match &self.kind {
            Kind::File { .. } => 0,
            Kind::Symlink { target } => target.len(),
        };
        self.name.len() + target + 64
    }
}

#[derive(Default)]
struct Check {
    names: HashSet<Digest>,
    unlisted: VecDeque<Seen>,
    waiting: usize,
    members: u64,
    entries: u64,
    parts: u32,
    last_inventory: Option<Digest>,
    problems: Vec<Problem>,
}

/// Reads the whole tar. Without a manifest the run was cut, and a cut tar is what is expected.
pub(super) fn check(
    raw: &mut RawStream<'_>,
    limits: &Limits,
    manifest: Option<&Manifest>,
    tap: &mut dyn Tap,
) -> Contents {
    let mut check = Check::default();
    let mut reader = Reader::new(&mut *raw);
    let end = check.read(&mut reader, limits, tap);
    let ended = reader.ended();
    // What stopped the stream has its own problem: the cut tar that follows from it is not a second one.
    let cut_is_news = manifest.is_some() && !raw.stopped();
    match end {
        Err(TarError::Cut { .. }) if !cut_is_news => {}
        Err(error) => check.problems.push(Problem::tar(&error)),
        Ok(()) if ended => check.compare(manifest),
        Ok(()) => {}
    }
    Contents {
        members: check.members,
        problems: check.problems,
    }
}

impl Check {
    fn read(
        &mut self,
        reader: &mut Reader<&mut RawStream<'_>>,
        limits: &Limits,
        tap: &mut dyn Tap,
    ) -> Result<(), TarError> {
        while let Some(entry) = reader.next_entry()? {
            self.members += 1;
            let name = entry.member.name.clone();
            if self.members > limits.members {
                self.problem(Problem::Limit {
                    what: "members",
                    limit: limits.members,
                });
                return Ok(());
            }
            if !self.names.insert(Digest::of(&name)) {
                self.problem(Problem::Duplicate { name: shown(&name) });
            }
            let mut hasher = Hasher::default();
            let mut lines = self.is_inventory(&name).then(Lines::default);
            let wanted = tap.member(&name);
            reader.content(&entry, |piece| {
                hasher.update(piece);
                if wanted {
                    tap.content(piece);
                }
                if let Some(lines) = &mut lines {
                    lines.take(piece, |line| self.line(&name, line));
                }
            })?;
            if lines.is_some_and(|lines| !lines.ended()) {
                self.inventory_problem(&name, "its last line has no end");
            }
            let sha256 = hasher.finish();
            if name == inventory::NAME.as_bytes() {
                self.last_inventory = Some(sha256);
            } else if self.last_inventory.is_some() {
                self.problem(Problem::Member {
                    name: shown(&name),
                    reason: "comes after the inventory".to_owned(),
                });
            }
            let seen = Seen {
                name,
                kind: entry.member.kind,
                offset: entry.offset,
                sha256,
            };
            self.waiting += seen.cost();
            self.unlisted.push_back(seen);
            if self.waiting > MAX_WAITING {
                self.problem(Problem::Limit {
                    what: "bytes of members that the inventory has yet to list",
                    limit: MAX_WAITING as u64,
                });
                return Ok(());
            }
        }
        Ok(())
    }

    /// Notes a problem, as long as a person could still read them all.
    fn problem(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Whether the member is the next part of the inventory, or its last.
    fn is_inventory(&mut self, name: &[u8]) -> bool {
        if name == inventory::part_name(self.parts).as_bytes() {
            self.parts += 1;
            return true;
        }
        name == inventory::NAME.as_bytes()
    }

    fn inventory_problem(&mut self, part: &[u8], reason: impl ToString) {
        let (part, line) = (shown(part), self.entries);
        self.problem(Problem::Inventory {
            part,
            line,
            reason: problem::plain(&reason.to_string()),
        });
    }

    /// Compares a line with the next member that no line named yet.
    fn line(&mut self, part: &[u8], line: Option<&[u8]>) {
        self.entries += 1;
        let entry = line.ok_or(EntryError::TooLong);
        let entry = match entry.and_then(inventory::Entry::parse) {
            Ok(entry) => entry,
            Err(error) => return self.inventory_problem(part, error),
        };
        let Some(offset) = entry.offset else { return };
        let Some(seen) = self.unlisted.pop_front() else {
            return self.inventory_problem(part, "it names a member that is not in the tar");
        };
        self.waiting -= seen.cost();
        let why = if entry.name.bytes().as_deref() != Some(&seen.name) {
            "the inventory names another member here"
        } else if offset != seen.offset {
            "the inventory states another offset"
        } else {
            match (&seen.kind, entry.file_type) {
                (Kind::File { .. }, FileType::File) if entry.sha256 != Some(seen.sha256) => {
                    "the inventory states another SHA-256"
                }
                (Kind::File { size }, FileType::File) if entry.size != Some(*size) => {
                    "the inventory states another size"
                }
                (Kind::Symlink { target }, FileType::Symlink)
                    if entry.target != Some(Name::of(target)) =>
                {
                    "the inventory states another target"
                }
                (Kind::File { .. }, FileType::File) | (Kind::Symlink { .. }, FileType::Symlink) => {
                    return;
                }
                _ => "the inventory states another type",
            }
        };
        self.problem(Problem::Member {
            name: shown(&seen.name),
            reason: why.to_owned(),
        });
    }

    /// Checks at the end of the tar that all of it was listed, and that the manifest agrees.
    fn compare(&mut self, manifest: Option<&Manifest>) {
        let last = self.unlisted.pop_back();
        if last.is_none_or(|seen| seen.name != inventory::NAME.as_bytes()) {
            let reason = "it is not the last member of the tar";
            self.problem(Problem::Member {
                name: inventory::NAME.to_owned(),
                reason: reason.to_owned(),
            });
        }
        for seen in std::mem::take(&mut self.unlisted) {
            self.problem(Problem::Member {
                name: shown(&seen.name),
                reason: "the inventory does not list it".to_owned(),
            });
        }
        let Some(stated) = manifest.map(|manifest| &manifest.inventory) else {
            return;
        };
        let sha256 = self
            .last_inventory
            .map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        let found = [
            Problem::mismatch("inventory SHA-256", stated.sha256, sha256),
            Problem::mismatch("inventory entries", stated.entries, self.entries),
            Problem::mismatch("members", stated.members, self.members),
        ];
        self.problems.extend(found.into_iter().flatten());
    }
}

/// A name for messages: escaped, so that a hostile one can not steer a terminal, and cut.
fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string().chars().take(200).collect()
}

/// Cuts pieces into lines, holding one line at most.
#[derive(Default)]
struct Lines {
    left: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// Hands each whole line to `line`, and `None` for one that is too long.
    fn take(&mut self, piece: &[u8], mut line: impl FnMut(Option<&[u8]>)) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, whole) = part
                .strip_suffix(b"\n")
                .map_or((part, false), |text| (text, true));
            self.too_long |= self.left.len() + text.len() > inventory::MAX_LINE;
            if !self.too_long {
                self.left.extend_from_slice(text);
            }
            if whole {
                line((!self.too_long).then_some(&self.left));
                self.left.clear();
                self.too_long = false;
            }
        }
    }

    fn ended(&self) -> bool {
        self.left.is_empty() && !self.too_long
    }
}
