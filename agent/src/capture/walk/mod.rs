//! One walk of the host's file systems for all that wants files: each directory is read once, and whoever has a glob
//! that matches is told.
//!
//! No link is followed. What is made up by the kernel, comes over a network or from a program is entered only where a
//! glob names it, or not at all. Directories that a family asks for come first, so that a walk that is cut has those.

mod mounts;
mod start;
#[cfg(test)]
mod tests;
mod trie;

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use evidence::inventory::FileType;
use nix::errno::Errno;

use self::mounts::{Kind, Mounts};
use self::start::{homes, resolve};
pub(crate) use self::trie::{Owner, check};
use self::trie::{States, Trie};
use super::Halt;
use crate::host::{Found, Host, HostError, Stat};

/// Depth below `/` at which no directory is entered any more.
const MAX_DEPTH: usize = 64;
/// Most directories of one directory that are looked into: each waits in memory for its turn.
const MAX_BELOW: usize = 1 << 17;
/// Directories behind links that are looked at beside the tree itself.
const MAX_ASIDE: usize = 10_000;

/// A glob, and who wants what it matches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want<'a> {
    pub(crate) owner: Owner,
    pub(crate) glob: &'a str,
    /// Whether a directory that it names means all that is in it, and `DIR/**` the directory, too.
    pub(crate) tree: bool,
}

/// What a walk comes across.
pub(crate) enum Seen<'a> {
    /// A directory is about to be read: the time to look at deadlines.
    Folder,
    /// A name in a directory, and who wants it.
    Entry {
        folder: &'a Path,
        found: &'a Found,
        owners: &'a [Owner],
        /// Whether the walk of everything comes by here, which happens once for each.
        first: bool,
    },
    /// A link that the way to a family leads through.
    Link { path: &'a Path, owners: &'a [Owner] },
    /// Something that could not be looked at, and who may have wanted something there.
    Failed {
        path: &'a Path,
        error: HostError,
        owners: &'a [Owner],
    },
}

/// Is told of everything that a walk comes across, and may end it.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(Seen<'_>) -> Result<(), Halt>;

/// Is told of every folder that [`matches`] looks at (`None`) and of what it could not look at, and may end it.
type Told<'a> = &'a mut dyn FnMut(Option<(&Path, HostError)>) -> Result<(), Halt>;

/// Where a walk was when it was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    pub(crate) halt: Halt,
    /// Whether all that families ask for by name was seen before.
    pub(crate) wanted_seen: bool,
}

/// What to walk.
pub(crate) struct Plan {
    trie: Trie,
    homes: BTreeSet<PathBuf>,
    /// States that hold everywhere: they make no directory more urgent than another.
    anywhere: States,
    /// Who wants the homes themselves.
    of_homes: Vec<Owner>,
    /// Links on the way, and starts that could not be looked at.
    links: Vec<(PathBuf, Owner)>,
    failed: Vec<(PathBuf, HostError, Owner)>,
    everything: bool,
}

impl Plan {
    /// Looks where `wants` start on this host; with `everything`, all local file systems are walked.
    pub(crate) fn new(host: &Host, wants: &[Want<'_>], everything: bool) -> Self {
        let mut plan = Self {
            trie: Trie::default(),
            homes: BTreeSet::new(),
            anywhere: Vec::new(),
            of_homes: Vec::new(),
            links: Vec::new(),
            failed: Vec::new(),
            everything,
        };
        let mut known = HashMap::new();
        for want in wants {
            plan.want(host, want, &mut known);
        }
        if wants.iter().any(|want| want.glob.starts_with('~')) {
            plan.find_homes(host);
        }
        plan.trie.compile();
        plan.anywhere = plan.trie.root();
        plan
    }

    fn find_homes(&mut self, host: &Host) {
        let mut links = Vec::new();
        for home in homes(host) {
            if let Ok(home) = resolve(host, &home, &mut links) {
                self.trie.lead_to(&home);
                self.homes.insert(home);
            }
        }
        let owners = self.trie.below(&self.trie.home());
        let told = |path: &PathBuf, owners: &[Owner]| {
            let each = owners.iter().map(|owner| (path.clone(), *owner));
            each.collect::<Vec<_>>()
        };
        let links = links.iter().flat_map(|link| told(link, &owners));
        let own = self
            .homes
            .iter()
            .flat_map(|home| told(home, &self.of_homes));
        self.links.extend(links.chain(own).collect::<Vec<_>>());
    }

    fn want(&mut self, host: &Host, want: &Want<'_>, known: &mut Known) {
        let mut base = None;
        let mut rest: Vec<&str>;
        match want.glob.strip_prefix('~') {
            Some(below) => rest = trie::parts(below).collect(),
            None => {
                let (fixed, others) = trie::fixed(want.glob);
                rest = others;
                let fixed: PathBuf = Path::new("/").join(fixed.join("/"));
                let (real, links) = known.entry(fixed.clone()).or_insert_with(|| {
                    let mut links = Vec::new();
                    (resolve(host, &fixed, &mut links), links)
                });
                self.links
                    .extend(links.iter().map(|link| (link.clone(), want.owner)));
                match real {
                    Ok(real) => base = Some(real.clone()),
                    Err(error) if is_nowhere(error) => return,
                    Err(error) => {
                        self.failed.push((fixed, error.clone(), want.owner));
                        return;
                    }
                }
            }
        }
        match (&base, rest.is_empty()) {
            (Some(root), true) => self.links.push((root.clone(), want.owner)),
            (None, true) => self.of_homes.push(want.owner),
            _ => self.trie.add(base.as_deref(), &rest, want.owner),
        }
        if !want.tree {
            return;
        }
        // A directory and all that is in it: whichever of the two the glob names, the other is meant, too.
        if rest.last() == Some(&"**") {
            rest.pop();
        } else if trie::names_its_end(want.glob) {
            rest.push("**");
        }
        if rest.last().is_none_or(|last| *last != "*") && (base.is_some() || !rest.is_empty()) {
            self.trie.add(base.as_deref(), &rest, want.owner);
        }
    }

    /// Where the walk stands in the directory `path`, to which `states` lead.
    fn at(&self, path: &Path, mut states: States) -> States {
        if self.homes.contains(path) {
            states.extend(self.trie.home());
        }
        states
    }

    /// Whether somebody asks for something below, other than for what lies anywhere.
    fn is_urgent(&self, states: &[u32]) -> bool {
        states.iter().any(|state| !self.anywhere.contains(state))
    }
}

/// Fixed starts of globs: where they lead, and the links on the way.
type Known = HashMap<PathBuf, (Result<PathBuf, HostError>, Vec<PathBuf>)>;

fn is_nowhere(error: &HostError) -> bool {
    error.is_gone() || *error == HostError::Os(Errno::ENOTDIR)
}

/// A directory that is still to be read.
struct Pending {
    path: PathBuf,
    depth: usize,
    states: States,
    /// Whether it is seen for the first time: not through a link, not mounted again.
    first: bool,
}

/// Walks as `plan` says, at most `entries` names.
///
/// # Errors
/// When `visit` ends it, or there are more names.
pub(crate) fn walk(
    host: &Host,
    plan: &Plan,
    entries: u64,
    visit: Visit<'_>,
) -> Result<(), Stopped> {
    let mut walk = Walk {
        host,
        plan,
        mounts: Mounts::of(host),
        urgent: Vec::new(),
        later: Vec::new(),
        in_urgent: true,
        aside: MAX_ASIDE,
        left: entries,
        of: entries,
        owners: Vec::new(),
    };
    walk.all(visit).map_err(|halt| Stopped {
        halt,
        wanted_seen: walk.urgent.is_empty() && !walk.in_urgent,
    })
}

/// The paths that match one of `globs`, links on the way included; what could not be looked at is given to `failed`.
pub(crate) fn matches(
    host: &Host,
    globs: &[&str],
    failed: Told<'_>,
) -> Result<BTreeSet<PathBuf>, Halt> {
    let wants = globs.iter().map(|glob| Want {
        owner: 0,
        glob,
        tree: false,
    });
    let plan = Plan::new(host, &wants.collect::<Vec<_>>(), false);
    let mut paths = BTreeSet::new();
    let visit: Visit<'_> = &mut |seen| match seen {
        Seen::Folder => failed(None),
        Seen::Entry {
            folder,
            found,
            owners,
            ..
        } => {
            if !owners.is_empty() {
                paths.insert(folder.join(&found.name));
            }
            Ok(())
        }
        Seen::Link { path, .. } => {
            paths.insert(path.to_owned());
            Ok(())
        }
        Seen::Failed { path, error, .. } => failed(Some((path, error))),
    };
    walk(host, &plan, u64::MAX, visit).map_err(|stopped| stopped.halt)?;
    Ok(paths)
}

struct Walk<'a> {
    host: &'a Host,
    plan: &'a Plan,
    mounts: Mounts,
    urgent: Vec<Pending>,
    later: Vec<Pending>,
    in_urgent: bool,
    aside: usize,
    left: u64,
    of: u64,
    owners: Vec<Owner>,
}

impl Walk<'_> {
    fn all(&mut self, visit: Visit<'_>) -> Result<(), Halt> {
        for (path, owner) in &self.plan.links {
            let owners = &[*owner];
            visit(Seen::Link { path, owners })?;
        }
        for (path, error, owner) in &self.plan.failed {
            let (error, owners) = (error.clone(), &[*owner][..]);
            visit(Seen::Failed {
                path,
                error,
                owners,
            })?;
        }
        self.enter(PathBuf::from("/"), 0, self.plan.trie.root(), true);
        // What families ask for first; what lies elsewhere when nothing of that is left.
        loop {
            let next = self.urgent.pop();
            self.in_urgent = next.is_some();
            match next.or_else(|| self.later.pop()) {
                Some(next) => self.folder(&next, visit)?,
                None => return Ok(()),
            }
        }
    }

    /// Notes a directory to be read, when there is a reason to.
    fn enter(&mut self, path: PathBuf, depth: usize, mut states: States, mut first: bool) {
        match self.mounts.kind(&path) {
            Kind::Usual => {}
            Kind::MadeUp => (states, first) = (self.plan.trie.shallow(&states), false),
            Kind::Again => first = false,
        }
        let states = self.plan.at(&path, states);
        let urgent = self.plan.is_urgent(&states);
        if states.is_empty() && !(first && self.plan.everything) {
            return;
        }
        let pending = Pending {
            path,
            depth,
            states,
            first,
        };
        match urgent {
            true => self.urgent.push(pending),
            false => self.later.push(pending),
        }
    }

    fn folder(&mut self, next: &Pending, visit: Visit<'_>) -> Result<(), Halt> {
        visit(Seen::Folder)?;
        let mut scan = self.host.root().scan(&next.path);
        let mut below = Vec::new();
        loop {
            match scan.more() {
                Ok(found) if found.is_empty() => break,
                Ok(found) => found
                    .iter()
                    .try_for_each(|found| self.entry(next, found, &mut below, visit))?,
                Err(error) => {
                    self.failed(next, error, visit)?;
                    break;
                }
            }
        }
        // The last in is the first out.
        for (name, states) in below.into_iter().rev() {
            self.enter(next.path.join(name), next.depth + 1, states, next.first);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        next: &Pending,
        found: &Found,
        below: &mut Vec<(OsString, States)>,
        visit: Visit<'_>,
    ) -> Result<(), Halt> {
        self.left = self.left.checked_sub(1).ok_or(Halt::Names(self.of))?;
        let mut owners = std::mem::take(&mut self.owners);
        owners.clear();
        let states = self.plan.trie.step(&next.states, &found.name, &mut owners);
        let told = visit(Seen::Entry {
            folder: &next.path,
            found,
            owners: &owners,
            first: next.first,
        });
        self.owners = owners;
        told?;
        match found.stat.as_ref().map(Stat::file_type) {
            Ok(FileType::Directory) if next.depth < MAX_DEPTH && below.len() < MAX_BELOW => {
                below.push((found.name.clone(), states));
            }
            Ok(FileType::Directory) if next.depth < MAX_DEPTH => {
                let path = next.path.join(&found.name);
                self.tell(&path, &states, HostError::TooMuch, visit)?;
            }
            Ok(FileType::Directory) => {
                let path = next.path.join(&found.name);
                self.tell(&path, &states, HostError::TooDeep, visit)?;
            }
            Ok(FileType::Symlink) => self.aside(next, found, visit)?,
            Err(error) if !error.is_gone() => {
                let path = next.path.join(&found.name);
                let error = (*error).clone();
                self.tell(&path, &states, error, visit)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A link that a family names on its way: what it leads to is looked at for that family alone.
    fn aside(&mut self, next: &Pending, found: &Found, visit: Visit<'_>) -> Result<(), Halt> {
        let states = self.plan.trie.named(&next.states, &found.name);
        if states.is_empty() || self.aside == 0 {
            return Ok(());
        }
        self.aside -= 1;
        let path = next.path.join(&found.name);
        let owners = self.plan.trie.below(&states);
        let owners = &owners;
        visit(Seen::Link {
            path: &path,
            owners,
        })?;
        match resolve(self.host, &path, &mut Vec::new()) {
            Ok(real) => {
                self.urgent.push(Pending {
                    path: real,
                    depth: 0,
                    states,
                    first: false,
                });
                Ok(())
            }
            Err(error) if is_nowhere(&error) => Ok(()),
            Err(error) => self.tell(&path, &states, error, visit),
        }
    }

    fn failed(&self, at: &Pending, error: HostError, visit: Visit<'_>) -> Result<(), Halt> {
        // What a link led to may be no directory; what was one a moment ago may be gone.
        match is_nowhere(&error) {
            true => Ok(()),
            false => self.tell(&at.path, &at.states, error, visit),
        }
    }

    fn tell(
        &self,
        path: &Path,
        states: &[u32],
        error: HostError,
        visit: Visit<'_>,
    ) -> Result<(), Halt> {
        let asked = states
            .iter()
            .filter(|state| !self.plan.anywhere.contains(state));
        let owners = self.plan.trie.below(&asked.copied().collect::<Vec<_>>());
        let owners = &owners;
        visit(Seen::Failed {
            path,
            error,
            owners,
        })
    }
}
