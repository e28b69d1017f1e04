//! What a walk brings home for the families: a list of names for each, held small.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::sensitive::Class;
use super::super::walk::Stopped;
use crate::host::HostError;

/// Most names of a family.
const MOST: usize = 1 << 18;
/// A directory is given this part of what its family has left: somebody may have filled it, and what lies beside it
/// matters as much.
const PART: usize = 8;

/// Paths of one family.
#[derive(Default)]
pub(crate) struct List {
    folders: Vec<PathBuf>,
    /// All names, one after the other: a million of them must not cost a million allocations.
    names: Vec<u8>,
    entries: Vec<Place>,
    /// How many more the last folder may have.
    room: usize,
}

#[derive(Clone, Copy)]
struct Place {
    folder: u32,
    start: u32,
    length: u16,
    class: Option<Class>,
}

impl List {
    /// Adds `name` in `folder`; false when the list is full.
    pub(crate) fn add(&mut self, folder: &Path, name: &OsStr, class: Option<Class>) -> bool {
        if self.folders.last().map(PathBuf::as_path) != Some(folder) {
            self.folders.push(folder.to_owned());
            self.room = MOST.saturating_sub(self.entries.len()).div_ceil(PART);
        }
        if self.room == 0 {
            return false;
        }
        self.room -= 1;
        let place = || {
            Some(Place {
                folder: u32::try_from(self.folders.len() - 1).ok()?,
                start: u32::try_from(self.names.len()).ok()?,
                length: u16::try_from(name.len()).ok()?,
                class,
            })
        };
        let Some(place) = place() else { return false };
        self.names.extend_from_slice(name.as_bytes());
        self.entries.push(place);
        true
    }

    /// Adds a whole path.
    pub(crate) fn add_path(&mut self, path: &Path) -> bool {
        match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => self.add(folder, name, None),
            _ => self.add(path, OsStr::new(""), None),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The paths, in the order in which they were added.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PathBuf, Option<Class>)> {
        self.entries.iter().filter_map(|place| {
            let start = place.start as usize;
            let name = self.names.get(start..start + usize::from(place.length))?;
            let folder = self.folders.get(place.folder as usize)?;
            let path = match name.is_empty() {
                true => folder.clone(),
                false => folder.join(OsStr::from_bytes(name)),
            };
            Some((path, place.class))
        })
    }
}

/// What there is for one family.
#[derive(Default)]
pub(crate) struct Share {
    pub(crate) list: List,
    pub(crate) lost: Vec<(PathBuf, HostError)>,
    /// Matches that did not fit.
    pub(crate) overflow: u64,
}

/// What a walk brought home.
pub(crate) struct Harvest {
    /// By family, in the order of the families.
    pub(crate) shares: Vec<Share>,
    pub(crate) stopped: Option<Stopped>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_as_they_went_in() {
        let mut list = List::default();
        let odd = OsStr::from_bytes(b"a\xff\n");
        assert!(list.add(Path::new("/x"), odd, Some(Class::PrivateKeys)));
        assert!(list.add(Path::new("/x"), OsStr::new("b"), None));
        assert!(list.add_path(Path::new("/")) && list.add_path(Path::new("/y/z")));
        let paths: Vec<_> = list.iter().collect();
        assert_eq!(paths.len(), list.len());
        assert_eq!(
            paths[0],
            (Path::new("/x").join(odd), Some(Class::PrivateKeys))
        );
        assert_eq!(paths[1].0, Path::new("/x/b"));
        assert_eq!(
            (paths[2].0.as_path(), paths[3].0.as_path()),
            (Path::new("/"), Path::new("/y/z"))
        );
        assert_eq!(list.folders.len(), 3);
    }

    #[test]
    fn a_full_directory_leaves_room_for_the_others() {
        let mut list = List::default();
        fn one(list: &mut List, folder: &str) -> bool {
            list.add(Path::new(folder), OsStr::new("x"), None)
        }
        let first = MOST / PART;
        let taken = (0..first + 9).filter(|_| one(&mut list, "/many"));
        assert_eq!(taken.count(), first);
        assert!(one(&mut list, "/other"));
        // Many full ones take all but a little.
        for number in 0..50 {
            let folder = format!("/{number}");
            while one(&mut list, &folder) {}
        }
        assert!(one(&mut list, "/last") && list.len() < MOST);
    }
}
