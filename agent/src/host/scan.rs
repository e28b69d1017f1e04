//! A directory and the metadata of all that is in it, piece by piece: a million names are never held at once.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evidence::inventory::FileType;
use nix::dir::{Dir, OwningIter};
use nix::fcntl::readlinkat;
use nix::sched::{CloneFlags, unshare};

use super::open::open_listing;
use super::{Folder, HostError, Stat, sys};

/// Names that are looked at in one go. A directory with fewer comes in the order of its names.
const PIECE: usize = 1024;

/// A name in a directory, and what the kernel says of it.
#[derive(Debug)]
pub struct Found {
    pub name: OsString,
    pub stat: Result<Stat, HostError>,
    /// Of a symbolic link, bytes as they are.
    pub target: Option<Vec<u8>>,
}

/// A directory that is being read.
pub struct Scan {
    folder: Folder,
    state: State,
}

enum State {
    Unopened(PathBuf),
    Open(Arc<OwnedFd>, OwningIter),
    Ended,
}

impl Folder {
    /// The directory at `path`, which the first [`Scan::more`] opens.
    pub fn scan(&self, path: impl AsRef<Path>) -> Scan {
        Scan {
            folder: self.clone(),
            state: State::Unopened(path.as_ref().to_owned()),
        }
    }
}

impl Scan {
    /// The next names, sorted; none at the end.
    ///
    /// # Errors
    /// [`HostError::Link`] when a component of the path is a symbolic link; otherwise as the kernel says. What came
    /// before holds.
    pub fn more(&mut self) -> Result<Vec<Found>, HostError> {
        // Opening and the first piece are one call: most directories are small.
        let (found, state) = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return Ok(Vec::new()),
            State::Open(here, entries) => {
                let call = || piece(here, entries, &BTreeMap::new());
                self.folder.courier().call(call)?
            }
            State::Unopened(path) => {
                let foreign = self.folder.foreign_below(&path);
                let open = move |folder: Arc<OwnedFd>, name: &CString| {
                    let fd = open_listing(folder.as_fd(), name)?;
                    let here = Arc::new(fd.try_clone().map_err(|_| HostError::Stuck)?);
                    piece(here, Dir::from_fd(fd)?.into_iter(), &foreign)
                };
                match self.folder.at(&path, open) {
                    Err(HostError::TimedOut) => (self.one_by_one(&path)?, State::Ended),
                    answer => answer?.1,
                }
            }
        };
        self.state = state;
        Ok(found)
    }

    /// All names, each asked on its own: one of them does not answer, and must not cost the others.
    fn one_by_one(&self, path: &Path) -> Result<Vec<Found>, HostError> {
        let names = self.folder.list(path)?.into_iter().map(|entry| entry.name);
        let found = names.map(|name| {
            let stat = self.folder.stat(path.join(&name));
            let is_link = |stat: &Stat| stat.file_type() == FileType::Symlink;
            let target = stat.as_ref().ok().filter(|stat| is_link(stat));
            let target = target.and_then(|_| self.folder.read_link(path.join(&name)).ok());
            Found { name, stat, target }
        });
        Ok(found.collect())
    }
}

fn piece(
    here: Arc<OwnedFd>,
    mut entries: OwningIter,
    foreign: &BTreeMap<OsString, String>,
) -> Result<(Vec<Found>, State), HostError> {
    let mut names = Vec::new();
    for entry in entries.by_ref() {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
        if names.len() == PIECE {
            break;
        }
    }
    names.sort_unstable();
    let ended = names.len() < PIECE;
    // Attributes are only to be had by a path, or by opening the file: the path is the name alone, from here.
    let at_home =
        unshare(CloneFlags::CLONE_FS).is_ok() && nix::unistd::fchdir(here.as_fd()).is_ok();
    let found = names.into_iter().map(|name| match foreign.get(&name) {
        // Even to ask what it is would be to ask whoever answers for it.
        Some(kind) => Found {
            name,
            stat: Err(HostError::Foreign(kind.clone())),
            target: None,
        },
        None => look(&here, name, at_home),
    });
    let found: Vec<Found> = found.collect();
    let state = match ended {
        true => State::Ended,
        false => State::Open(here, entries),
    };
    Ok((found, state))
}

fn look(folder: &OwnedFd, name: OsString, at_home: bool) -> Found {
    // A name of the kernel's has no NUL.
    let c_name = CString::new(name.as_bytes()).unwrap_or_default();
    let mut stat = sys::stat(folder.as_fd(), &c_name, false).map_err(HostError::from);
    let mut target = None;
    if let Ok(stat) = &mut stat {
        match stat.file_type() {
            FileType::Symlink => target = link(folder, &c_name),
            FileType::File | FileType::Directory if at_home => {
                stat.xattrs = sys::xattrs_here(&c_name);
            }
            _ => {}
        }
    }
    Found { name, stat, target }
}

fn link(folder: &OwnedFd, name: &CStr) -> Option<Vec<u8>> {
    readlinkat(folder, name).ok().map(OsString::into_vec)
}

#[cfg(test)]
mod tests {
    use super::super::Host;
    use super::*;

    #[test]
    fn a_large_directory_comes_in_pieces_and_whole() {
        let root = tempfile::tempdir().unwrap();
        let count = PIECE * 2 + 7;
        for number in 0..count {
            std::fs::write(root.path().join(format!("f{number:06}")), "").unwrap();
        }
        std::os::unix::fs::symlink("gone", root.path().join("link")).unwrap();
        let host = Host::open(root.path()).unwrap();
        let mut scan = host.root().scan("");
        let mut names = std::collections::BTreeSet::new();
        let mut pieces = 0;
        loop {
            let found = scan.more().unwrap();
            if found.is_empty() {
                break;
            }
            pieces += 1;
            assert!(found.len() <= PIECE);
            for one in found {
                let stat = one.stat.unwrap();
                let is_link = stat.file_type() == FileType::Symlink;
                assert_eq!(one.target.is_some(), is_link);
                assert!(names.insert(one.name));
            }
        }
        assert_eq!((names.len(), pieces), (count + 1, 3));
        assert!(scan.more().unwrap().is_empty(), "an end stays one");
    }

    #[test]
    fn attributes_are_read_without_opening_the_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("secret");
        std::fs::write(&path, "").unwrap();
        let set = sys::set_attribute_for_tests(&path, c"user.mark", b"seen");
        let host = Host::open(root.path()).unwrap();
        let found = host.root().scan("").more().unwrap();
        let stat = found[0].stat.clone().unwrap();
        // A file system without such attributes is no fault of ours.
        if set {
            assert_eq!(
                stat.xattrs.get("user.mark").map(String::as_str),
                Some("c2Vlbg==")
            );
        }
    }
}
