//! A directory of the host, and all that is read relative to it.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use evidence::inventory::FileType;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{EXT4_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC};

use super::file::{HostFile, Small};
use super::open::{
    NSFS_MAGIC, file_system, list, only_in_proc, open_folder, open_kind, open_magic,
    own_descriptor, read,
};
use super::{Courier, Foreign, HostError, Stat, open, sys};

/// Names, each with its own answer.
pub type Each<T> = Vec<(OsString, Result<T, HostError>)>;

/// The bytes of a small file.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub bytes: Vec<u8>,
    /// Whether there was more than the cap allowed.
    pub truncated: bool,
    /// Metadata, for files that are not made up by the kernel.
    pub stat: Option<Stat>,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    pub name: OsString,
    /// Whether the file system says that it is a directory; `None` when it does not say.
    pub is_directory: Option<bool>,
}

/// An open directory. Paths are relative to it; a `/` at their start is passed over.
#[derive(Clone)]
pub struct Folder {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    courier: Arc<Courier>,
    foreign: Arc<Foreign>,
}

impl Folder {
    /// The host's root.
    pub(super) fn root(directory: Arc<OwnedFd>, courier: Arc<Courier>) -> Self {
        Self {
            fd: directory,
            path: PathBuf::from("/"),
            courier,
            foreign: Arc::default(),
        }
    }

    /// The same, with file systems that are not touched.
    pub(super) fn without(self, foreign: Foreign) -> Self {
        Self {
            foreign: Arc::new(foreign),
            ..self
        }
    }

    /// A directory that has no place below the root, such as a detached mount; `path` is what records say.
    pub(super) fn detached(fd: OwnedFd, path: &Path, courier: Arc<Courier>) -> Self {
        Self {
            fd: Arc::new(fd),
            path: path.to_owned(),
            courier,
            foreign: Arc::default(),
        }
    }

    /// Which of these numbers are names in this directory that can be looked up, listed or not: in `/proc`, tasks.
    ///
    /// # Errors
    /// When all of it took too long.
    pub fn numbers(&self, numbers: std::ops::Range<i32>) -> Result<Vec<i32>, HostError> {
        let fd = Arc::clone(&self.fd);
        self.courier.call(move || {
            let there = |number: &i32| {
                let name = CString::new(number.to_string());
                name.is_ok_and(|name| sys::stat(fd.as_fd(), &name, false).is_ok())
            };
            Ok(numbers.filter(there).collect())
        })
    }

    /// Whether the file system counts a link for each directory in a directory: those of ext, xfs and tmpfs.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn keeps_link_counts(&self) -> Result<bool, HostError> {
        let fd = Arc::clone(&self.fd);
        let kind = self.courier.call(move || file_system(&*fd))?;
        Ok(matches!(
            kind,
            EXT4_SUPER_MAGIC | XFS_SUPER_MAGIC | TMPFS_MAGIC
        ))
    }

    /// Path on the host, from its root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory at `path`.
    ///
    /// # Errors
    /// [`HostError::Link`] when a component is a symbolic link.
    pub fn folder(&self, path: impl AsRef<Path>) -> Result<Self, HostError> {
        let (full, fd) = self.at(path.as_ref(), |folder, name| {
            open_folder(folder.as_fd(), name)
        })?;
        Ok(Self {
            fd: Arc::new(fd),
            path: full,
            courier: Arc::clone(&self.courier),
            foreign: Arc::clone(&self.foreign),
        })
    }

    /// Names below `path`, sorted; `.` and `..` left out. An empty path means this directory.
    ///
    /// # Errors
    /// When the directory can not be opened or read to its end: a part of a listing is never returned.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<DirEntry>, HostError> {
        let (_, mut entries) = self.at(path.as_ref(), |folder, name| list(folder.as_fd(), name))?;
        entries.sort_unstable();
        Ok(entries)
    }

    /// Those of `names` that are there before and after a listing of this directory that does not have them.
    ///
    /// # Errors
    /// When the directory can not be listed to its end.
    pub fn unlisted(&self, names: Vec<OsString>) -> Result<Vec<OsString>, HostError> {
        let fd = Arc::clone(&self.fd);
        self.courier.call(move || open::unlisted(fd.as_fd(), names))
    }

    /// Metadata of `path` itself, never of what it links to.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Stat, HostError> {
        Ok(self
            .at(path.as_ref(), |folder, name| {
                Ok(sys::stat(folder.as_fd(), name, false)?)
            })?
            .1)
    }

    /// Metadata of the names in this directory, in one go; see [`Folder::stat`].
    ///
    /// # Errors
    /// Only when all of it took too long: each name has its own result.
    pub fn stat_all(&self, names: Vec<OsString>) -> Result<Each<Stat>, HostError> {
        self.each(names, |folder, name| {
            Ok(sys::stat(folder.as_fd(), name, false)?)
        })
    }

    /// Opens the regular files among the names in this directory, in one go; see [`Folder::open`].
    ///
    /// # Errors
    /// Only when all of it took too long: each name has its own result.
    pub fn open_all(&self, names: Vec<OsString>) -> Result<Each<HostFile>, HostError> {
        let (courier, foreign) = (Arc::clone(&self.courier), Arc::clone(&self.foreign));
        self.each(names, move |folder, name| {
            let (fd, stat) = open_kind(folder.as_fd(), name, FileType::File, &foreign, |_| true)?;
            let small = Small::read(&fd, &stat);
            Ok(HostFile::new(fd, stat, Arc::clone(&courier)).with(small))
        })
    }

    /// The answer of `act` for each of the names in this directory, all on one call of the courier.
    fn each<T: Send + 'static>(
        &self,
        names: Vec<OsString>,
        act: impl Fn(&OwnedFd, &CStr) -> Result<T, HostError> + Send + 'static,
    ) -> Result<Each<T>, HostError> {
        let fd = Arc::clone(&self.fd);
        let kinds = self.foreign_below(Path::new(""));
        self.courier.call(move || {
            let answer = |name: &OsStr| match kinds.get(name) {
                Some(kind) => Err(HostError::Foreign(kind.clone())),
                None => act(&fd, &c_string(name)?),
            };
            let each = names.into_iter().map(|name| {
                let answer = answer(&name);
                (name, answer)
            });
            Ok(each.collect())
        })
    }

    /// Target of the symbolic link at `path`, bytes as they are.
    ///
    /// # Errors
    /// As the kernel says; EINVAL when it is no link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, HostError> {
        Ok(self
            .at(path.as_ref(), |folder, name| {
                Ok(readlinkat(folder, name.as_c_str())?.into_vec())
            })?
            .1)
    }

    /// Targets of the links `names` in this directory, in one go.
    ///
    /// # Errors
    /// Only when all of it took too long: each name has its own result.
    pub fn read_links(&self, names: Vec<OsString>) -> Result<Each<Vec<u8>>, HostError> {
        self.each(names, |folder, name| {
            Ok(readlinkat(folder, name)?.into_vec())
        })
    }

    /// Up to `cap` bytes of the file at `path`, and whether there were more.
    ///
    /// # Errors
    /// [`HostError::NotAFile`] for anything but a regular file, which is not even opened.
    pub fn read(&self, path: impl AsRef<Path>, cap: usize) -> Result<Content, HostError> {
        let foreign = Arc::clone(&self.foreign);
        let read = move |folder: Arc<OwnedFd>, name: &CString| read(&folder, name, cap, &foreign);
        Ok(self.at(path.as_ref(), read)?.1)
    }

    /// Several small files of this directory in one go; see [`Folder::read`].
    ///
    /// # Errors
    /// Only when all of it took too long: each name has its own result.
    pub fn read_all(&self, names: Vec<OsString>, cap: usize) -> Result<Each<Content>, HostError> {
        let foreign = Arc::clone(&self.foreign);
        self.each(names, move |folder, name| read(folder, name, cap, &foreign))
    }

    /// The regular file at `path`, to be read as a stream.
    ///
    /// # Errors
    /// [`HostError::NotAFile`] for anything else, which is not even opened.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<HostFile, HostError> {
        let foreign = Arc::clone(&self.foreign);
        let (_, (fd, stat, small)) = self.at(path.as_ref(), move |folder, name| {
            let (fd, stat) = open_kind(folder.as_fd(), name, FileType::File, &foreign, |_| true)?;
            let small = Small::read(&fd, &stat);
            Ok((fd, stat, small))
        })?;
        Ok(HostFile::new(fd, stat, Arc::clone(&self.courier)).with(small))
    }

    /// The character device at `path`, of those few that are evidence themselves, when it has this number: opening
    /// another one may do anything.
    ///
    /// # Errors
    /// [`HostError::NotAFile`] for anything else, which is not opened.
    pub fn open_device(
        &self,
        path: impl AsRef<Path>,
        device: (u32, u32),
    ) -> Result<HostFile, HostError> {
        let foreign = Arc::clone(&self.foreign);
        let (_, (fd, stat)) = self.at(path.as_ref(), move |folder, name| {
            open_kind(
                folder.as_fd(),
                name,
                FileType::CharDevice,
                &foreign,
                |stat| stat.device == device,
            )
        })?;
        Ok(HostFile::new(fd, stat, Arc::clone(&self.courier)))
    }

    /// Follows a link that the kernel makes up, such as `exe` or `fd/3` of a process, to what it stands for.
    ///
    /// # Errors
    /// [`HostError::NotLive`] when this is not really `/proc`; otherwise as [`Folder::open`].
    pub fn open_magic(&self, path: impl AsRef<Path>) -> Result<HostFile, HostError> {
        let foreign = Arc::clone(&self.foreign);
        let (_, (fd, stat)) = self.at(path.as_ref(), move |folder, name| {
            open_magic(folder.as_fd(), name, &foreign)
        })?;
        Ok(HostFile::new(fd, stat, Arc::clone(&self.courier)))
    }

    /// Metadata of what a magic link stands for.
    ///
    /// # Errors
    /// As [`Folder::open_magic`].
    pub fn stat_magic(&self, path: impl AsRef<Path>) -> Result<Stat, HostError> {
        Ok(self
            .at(path.as_ref(), |folder, name| {
                only_in_proc(folder.as_fd())?;
                Ok(sys::stat(folder.as_fd(), name, true)?)
            })?
            .1)
    }

    /// Opens a namespace as a bare descriptor for setns(2): a magic link such as `ns/net` or `fd/3`, or the file of a
    /// mounted one such as `/run/netns/NAME`.
    ///
    /// # Errors
    /// [`HostError::NotLive`] for anything else, which is not opened.
    pub fn open_namespace(&self, path: impl AsRef<Path>) -> Result<OwnedFd, HostError> {
        let open = |folder: Arc<OwnedFd>, name: &CString| {
            let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
            let links = if only_in_proc(folder.as_fd()).is_ok() {
                OFlag::empty()
            } else {
                OFlag::O_NOFOLLOW
            };
            let path = openat(
                folder.as_fd(),
                name.as_c_str(),
                flags | links,
                Mode::empty(),
            )?;
            if file_system(&path)? != NSFS_MAGIC {
                return Err(HostError::NotLive);
            }
            Ok(own_descriptor(&path, OFlag::O_RDONLY)?)
        };
        Ok(self.at(path.as_ref(), open)?.1)
    }

    /// Names in the directory `path` on which something is mounted that is not touched, with its kind.
    pub(super) fn foreign_below(&self, path: &Path) -> BTreeMap<OsString, String> {
        let folder = self.path.join(path.strip_prefix("/").unwrap_or(path));
        let mounts = self.foreign.mounts().iter();
        let here = mounts.filter(|(point, _)| point.parent() == Some(&folder));
        here.filter_map(|(point, kind)| Some((point.file_name()?.to_owned(), kind.clone())))
            .collect()
    }

    pub(super) fn courier(&self) -> &Arc<Courier> {
        &self.courier
    }

    /// Walks to the directory of `path` and does `act` with its last component, on the courier's thread.
    pub(super) fn at<T: Send + 'static>(
        &self,
        path: &Path,
        act: impl FnOnce(Arc<OwnedFd>, &CString) -> Result<T, HostError> + Send + 'static,
    ) -> Result<(PathBuf, T), HostError> {
        let names = components(path)?;
        let full = names.iter().fold(self.path.clone(), |path, name| {
            path.join(OsStr::from_bytes(name.as_bytes()))
        });
        if let Some(kind) = self.foreign.kind_at(&full) {
            return Err(HostError::Foreign(kind.to_owned()));
        }
        let fd = Arc::clone(&self.fd);
        let result = self.courier.call(move || {
            let Some((last, folders)) = names.split_last() else {
                return act(fd, &CString::default());
            };
            let mut folder = fd;
            for name in folders {
                folder = Arc::new(open_folder(folder.as_fd(), name)?);
            }
            act(folder, last)
        })?;
        Ok((full, result))
    }
}

fn c_string(name: &OsStr) -> Result<CString, HostError> {
    CString::new(name.as_bytes()).map_err(|_| HostError::Os(Errno::EINVAL))
}

fn components(path: &Path) -> Result<Vec<CString>, HostError> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(c_string(name)?),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(HostError::Os(Errno::EINVAL));
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::Host;
    use super::*;

    fn host() -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/deep")).unwrap();
        std::fs::write(root.path().join("etc/deep/file"), "content").unwrap();
        let host = Host::open(root.path()).unwrap();
        (root, host)
    }

    #[test]
    fn links_are_not_followed_wherever_they_stand() {
        let (root, host) = host();
        symlink("deep", root.path().join("etc/link")).unwrap();
        symlink("file", root.path().join("etc/deep/last")).unwrap();
        assert_eq!(
            host.root().read("etc/link/file", 9).unwrap_err(),
            HostError::Link
        );
        assert_eq!(host.root().list("etc/link").unwrap_err(), HostError::Link);
        assert_eq!(
            host.root().open("etc/deep/last").err(),
            Some(HostError::NotAFile(FileType::Symlink))
        );
        assert_eq!(host.root().read_link("etc/link").unwrap(), b"deep");
        assert_eq!(
            host.root().read("/etc/deep/../deep/file", 9).unwrap_err(),
            HostError::Os(Errno::EINVAL)
        );
    }

    #[test]
    fn fifos_and_sockets_are_never_opened() {
        let (root, host) = host();
        nix::unistd::mkfifo(&root.path().join("fifo"), Mode::S_IRWXU).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
        assert_eq!(
            host.root().open("fifo").err(),
            Some(HostError::NotAFile(FileType::Fifo))
        );
        assert_eq!(
            host.root().read("socket", 9).err(),
            Some(HostError::NotAFile(FileType::Socket))
        );
        assert_eq!(
            host.root().read("etc", 9).err(),
            Some(HostError::NotAFile(FileType::Directory))
        );
    }

    #[test]
    fn access_times_stay() {
        let (root, host) = host();
        let path = root.path().join("etc/deep/file");
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_times(std::fs::FileTimes::new().set_accessed(long_ago))
            .unwrap();
        assert_eq!(
            host.root().read("etc/deep/file", 100).unwrap().bytes,
            b"content"
        );
        assert_eq!(host.root().list("etc/deep").unwrap().len(), 1);
        assert_eq!(
            std::fs::metadata(&path).unwrap().accessed().unwrap(),
            long_ago
        );
    }

    #[test]
    fn a_recorded_tree_has_no_magic_links() {
        let (root, host) = host();
        std::fs::create_dir_all(root.path().join("proc/7")).unwrap();
        symlink("/etc/passwd", root.path().join("proc/7/exe")).unwrap();
        assert_eq!(
            host.process(7).unwrap().open_magic("exe").err(),
            Some(HostError::NotLive)
        );
    }
}
