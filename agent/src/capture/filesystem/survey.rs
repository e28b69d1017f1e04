//! The one walk of a run: what it tells the families, the bodyfile and the tables of facts.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::super::files::{Content, Family, Level};
use super::super::plan::Plan;
use super::super::sensitive::Class;
use super::super::walk::{self, Owner, Seen, Want};
use super::super::{Halt, Sink};
use super::harvest::{Harvest, Share};
use super::{bodyfile, facts};
use crate::host::{Found, Host, HostError, Stat};
use crate::text::rfc3339;

/// Matches of a family that is not collected which are still listed, so that it shows what there is.
const LISTED: usize = 2_000;
/// Most names of all families: each costs some 80 bytes until the run ends.
const MOST: usize = 1 << 20;
/// Recently changed files that get a line of their own; the bodyfile has all.
const RECENT: u64 = 100_000;
/// Losses of a family that are kept by name; the rest is counted.
const LOST: usize = 10_000;

/// Whether a family is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Selected,
    /// The profile leaves it out: what it matches is listed, and nobody else takes it.
    NotInProfile,
    /// The operator left it out: others may take what it matches.
    LeftOut,
}

/// The walk, once it has been made.
pub(crate) struct Survey {
    plan: Plan,
    harvest: RefCell<Option<Harvest>>,
}

impl Survey {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            harvest: RefCell::new(None),
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the walk brought home, which is made now if it was not before: of everything when the artifact `filesystem`
    /// asks, else of the places that families name.
    pub(crate) fn harvest(
        &self,
        host: &Host,
        sink: &mut Sink<'_>,
        everything: bool,
    ) -> Result<Ref<'_, Harvest>, Halt> {
        if self.harvest.borrow().is_none() {
            let harvest = Surveyor::new(&self.plan).walk(host, sink, everything);
            *self.harvest.borrow_mut() = Some(harvest);
        }
        // It was filled just above.
        Ref::filter_map(self.harvest.borrow(), Option::as_ref).map_err(|_| Halt::Interrupted)
    }

    /// How many names a family has that is not collected; `None` when the walk has not come by.
    pub(crate) fn matches(&self, family: usize) -> Option<u64> {
        let harvest = self.harvest.borrow();
        let share = harvest.as_ref()?.shares.get(family)?;
        Some(share.list.len() as u64 + share.overflow)
    }
}

struct Surveyor<'a> {
    plan: &'a Plan,
    standing: Vec<Standing>,
    shares: Vec<Share>,
    /// Names that the families may still be given.
    room: usize,
    totals: Totals,
    /// Whether it is the artifact `filesystem` that asks.
    everything: bool,
}

/// What the walk saw, in numbers.
#[derive(Clone, Debug, Default, Serialize)]
struct Totals {
    names: u64,
    directories: u64,
    facts: BTreeMap<&'static str, u64>,
    recent: u64,
}

#[derive(Serialize)]
struct FactRow<'a> {
    #[serde(rename = "file.path")]
    path: String,
    facts: &'a [&'static str],
    #[serde(rename = "file.mode")]
    mode: String,
    #[serde(rename = "file.uid")]
    uid: u32,
    #[serde(rename = "file.gid")]
    gid: u32,
    #[serde(rename = "file.size")]
    size: u64,
    #[serde(rename = "file.mtime")]
    mtime: String,
    #[serde(rename = "file.ctime")]
    ctime: String,
    #[serde(rename = "file.created", skip_serializing_if = "Option::is_none")]
    btime: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct RecentRow {
    #[serde(rename = "file.path")]
    path: String,
    #[serde(rename = "file.size")]
    size: u64,
    #[serde(rename = "file.mtime")]
    mtime: String,
    #[serde(rename = "file.ctime")]
    ctime: String,
}

impl<'a> Surveyor<'a> {
    fn new(plan: &'a Plan) -> Self {
        let standing = |family: &Family| {
            let selection = &plan.selection;
            match selection.names(family.spec.name) {
                true if selection.has(family.profile) => Standing::Selected,
                true => Standing::NotInProfile,
                false => Standing::LeftOut,
            }
        };
        Self {
            plan,
            standing: plan.families.iter().map(standing).collect(),
            shares: plan.families.iter().map(|_| Share::default()).collect(),
            room: MOST,
            totals: Totals::default(),
            everything: false,
        }
    }

    fn walk(mut self, host: &Host, sink: &mut Sink<'_>, everything: bool) -> Harvest {
        self.everything = everything;
        let families = self.plan.families.iter().enumerate();
        let wanted = families.filter(|(index, family)| {
            let standing = self.standing.get(*index);
            // Without a walk of everything, what the profile leaves out is not looked for.
            standing == Some(&Standing::Selected)
                || (standing == Some(&Standing::NotInProfile)
                    && (everything || family.profile == Level::Asked))
        });
        let guarded = self.plan.guarded.iter().zip(self.plan.families.len()..);
        let globs = |owner: usize, globs: &'a [String], tree: bool| {
            let owner = Owner::try_from(owner).unwrap_or(Owner::MAX);
            globs.iter().map(move |glob| Want { owner, glob, tree })
        };
        let wants = wanted.flat_map(|(index, family)| {
            globs(index, &family.globs, family.content != Content::Metadata)
        });
        let guarded = guarded.flat_map(|(guarded, owner)| globs(owner, &guarded.globs, false));
        let wants: Vec<Want<'_>> = wants.chain(guarded).collect();
        let plan = walk::Plan::new(host, &wants, everything);
        let names = self.plan.profile.walk_names;
        let walked = walk::walk(host, &plan, names, &mut |seen| self.see(seen, sink));
        let stopped = walked.err();
        let told = match everything {
            true => self.tell(sink, stopped),
            false => Ok(()),
        };
        Harvest {
            shares: self.shares,
            stopped: stopped.or(told.err().map(|halt| walk::Stopped {
                halt,
                wanted_seen: true,
            })),
        }
    }

    fn see(&mut self, seen: Seen<'_>, sink: &mut Sink<'_>) -> Result<(), Halt> {
        match seen {
            Seen::Folder => {
                self.totals.directories += 1;
                sink.check()
            }
            Seen::Entry {
                folder,
                found,
                owners,
                first,
            } => {
                if first {
                    self.totals.names += 1;
                    self.describe(folder, found, sink)?;
                }
                if !owners.is_empty() {
                    self.share_out(folder, found, owners);
                }
                Ok(())
            }
            Seen::Link { path, owners } => {
                let each = owners.iter().filter_map(|owner| self.selected(*owner));
                for index in each.collect::<Vec<_>>() {
                    let room = self.room > 0;
                    let share = self.shares.get_mut(index).filter(|_| room);
                    let added = share.is_some_and(|share| share.list.add_path(path));
                    self.count(index, added);
                }
                Ok(())
            }
            Seen::Failed {
                path,
                error,
                owners,
            } => self.failed(path, &error, owners, sink),
        }
    }

    fn selected(&self, owner: Owner) -> Option<usize> {
        let index = usize::from(owner);
        (self.standing.get(index) == Some(&Standing::Selected)).then_some(index)
    }

    /// The line in the bodyfile, and in the tables of facts.
    fn describe(&mut self, folder: &Path, found: &Found, sink: &mut Sink<'_>) -> Result<(), Halt> {
        let Ok(stat) = &found.stat else { return Ok(()) };
        let path = folder.join(&found.name);
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
        let line = bodyfile::line(bytes, stat, found.target.as_deref());
        sink.line("bodyfile/bodyfile.txt", &line)?;
        if !self.everything {
            return Ok(());
        }
        let facts = facts::facts(folder, found, stat);
        if !facts.is_empty() {
            self.facts(&path, stat, &facts, sink)?;
        }
        let changed = stat
            .mtime
            .nanoseconds_since_epoch()
            .max(stat.ctime.nanoseconds_since_epoch());
        let is_file = stat.file_type() == evidence::inventory::FileType::File;
        if is_file && changed >= self.plan.recent_ns {
            self.totals.recent += 1;
            if self.totals.recent <= RECENT {
                let row = RecentRow {
                    path: path.display().to_string(),
                    size: stat.size,
                    mtime: rfc3339(stat.mtime.nanoseconds_since_epoch()),
                    ctime: rfc3339(stat.ctime.nanoseconds_since_epoch()),
                };
                sink.record("filesystem/recent", &row)?;
            }
        }
        Ok(())
    }

    fn facts(
        &mut self,
        path: &Path,
        stat: &Stat,
        facts: &[&'static str],
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        for fact in facts {
            *self.totals.facts.entry(fact).or_default() += 1;
        }
        let row = FactRow {
            path: path.display().to_string(),
            facts,
            mode: format!("{:o}", stat.mode),
            uid: stat.uid,
            gid: stat.gid,
            size: stat.size,
            mtime: rfc3339(stat.mtime.nanoseconds_since_epoch()),
            ctime: rfc3339(stat.ctime.nanoseconds_since_epoch()),
            btime: stat
                .btime
                .map(|time| rfc3339(time.nanoseconds_since_epoch())),
            xattrs: &stat.xattrs,
        };
        sink.record("filesystem/facts", &row)?;
        super::findings::of(path, stat, facts, sink)
    }

    /// Gives `found` to the first family that wants it.
    fn share_out(&mut self, folder: &Path, found: &Found, owners: &[Owner]) {
        let families = self.plan.families.len();
        let mut class = None;
        let mut taker = None;
        let mut owners: Vec<usize> = owners.iter().map(|owner| usize::from(*owner)).collect();
        owners.sort_unstable();
        owners.dedup();
        for owner in owners {
            let Some(family) = self.plan.families.get(owner) else {
                class = self
                    .plan
                    .guarded
                    .get(owner - families)
                    .map(|guarded| guarded.class);
                break;
            };
            // A family that wants names alone has it only when none wants the content.
            let better = taker.is_none_or(|(_, content)| {
                content == Content::Metadata && family.content != content
            });
            if better && fits(family, found) && self.standing.get(owner) != Some(&Standing::LeftOut)
            {
                taker = Some((owner, family.content));
            }
        }
        if let Some((owner, _)) = taker {
            self.give(owner, folder, found, class);
        }
    }

    fn give(&mut self, owner: usize, folder: &Path, found: &Found, class: Option<Class>) {
        let selected = self.standing.get(owner) == Some(&Standing::Selected);
        let Some(share) = self.shares.get_mut(owner) else {
            return;
        };
        let room = self.room > 0 && (selected || share.list.len() < LISTED);
        let added = room && share.list.add(folder, &found.name, class);
        self.count(owner, added);
    }

    /// Takes a name off the room of all families, or counts it as one that did not fit.
    fn count(&mut self, owner: usize, added: bool) {
        match (added, self.shares.get_mut(owner)) {
            (true, _) => self.room -= 1,
            (false, Some(share)) => share.overflow += 1,
            (false, None) => {}
        }
    }

    fn failed(
        &mut self,
        path: &Path,
        error: &HostError,
        owners: &[Owner],
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        let mut told = false;
        for index in owners
            .iter()
            .filter_map(|owner| self.selected(*owner))
            .collect::<Vec<_>>()
        {
            if let Some(share) = self
                .shares
                .get_mut(index)
                .filter(|share| share.lost.len() < LOST)
            {
                share.lost.push((path.to_owned(), error.clone()));
                told = true;
            }
        }
        match error {
            // A mount that is not touched is told with the others.
            HostError::Foreign(kind) => {
                sink.note(format!("not walked: {} ({kind})", path.display()));
                Ok(())
            }
            _ if told => Ok(()),
            error => sink.lost(path, error),
        }
    }

    /// What the walk saw as a whole, also when it was cut.
    fn tell(&self, sink: &mut Sink<'_>, stopped: Option<walk::Stopped>) -> Result<(), Halt> {
        #[derive(Serialize)]
        struct Summary<'a> {
            #[serde(flatten)]
            totals: &'a Totals,
            complete: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            ended: Option<String>,
        }
        let summary = Summary {
            totals: &self.totals,
            complete: stopped.is_none(),
            ended: stopped.map(|stopped| stopped.halt.to_string()),
        };
        sink.record_late("filesystem/summary", &summary)
    }
}

/// Whether `family` means a file of this kind.
fn fits(family: &Family, found: &Found) -> bool {
    use evidence::inventory::FileType;
    let Ok(stat) = &found.stat else { return true };
    let file = stat.file_type() == FileType::File;
    match family.content {
        Content::Hash => file && (!family.executables || stat.mode & 0o111 != 0),
        _ => !family.executables || (file && stat.mode & 0o111 != 0),
    }
}
