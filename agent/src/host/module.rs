//! Kernel modules: the one thing that is changed on the host, and recorded.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use evidence::Digest;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl, open};
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{UnlinkatFlags, mkdir, mkfifo, pipe2, unlink, unlinkat, write};

use super::folder::own_descriptor;
use super::{Host, HostError};

/// How long a module that has done its work may take to say so.
const ENDING: Duration = Duration::from_secs(30);
/// How often, and with which pause, the kernel is asked to let go of a module that it still uses.
const UNLOADS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// A module that is being loaded: its first call may go on for as long as it likes.
pub struct Loading {
    answer: Receiver<Result<(), Errno>>,
    early: std::cell::OnceCell<Result<(), Errno>>,
}

impl Loading {
    /// What `load` does on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn start(
        load: impl FnOnce() -> Result<(), Errno> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (reply, answer) = channel();
        thread::Builder::new()
            .name("load".to_owned())
            // Nobody may wait for the answer any more.
            .spawn(move || reply.send(load()).unwrap_or_default())?;
        Ok(Self {
            answer,
            early: std::cell::OnceCell::new(),
        })
    }

    /// Whether the call has returned.
    pub fn is_over(&self) -> bool {
        if self.early.get().is_none() {
            match self.answer.try_recv() {
                Ok(result) => drop(self.early.set(result)),
                Err(TryRecvError::Disconnected) => drop(self.early.set(Err(Errno::EINTR))),
                Err(TryRecvError::Empty) => {}
            }
        }
        self.early.get().is_some()
    }

    /// What the call returned.
    ///
    /// # Errors
    /// The kernel's; ETIMEDOUT when the call does not return although nobody reads from the module any more.
    pub fn end(self) -> Result<(), Errno> {
        let late = || match self.answer.recv_timeout(ENDING) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(Errno::ETIMEDOUT),
            Err(RecvTimeoutError::Disconnected) => Err(Errno::EINTR),
        };
        self.early.get().copied().unwrap_or_else(late)
    }
}

impl Host {
    /// Starts loading a module from memory with finit_module(2). Nothing is written to a disk.
    ///
    /// # Errors
    /// When there is no memory file or thread for it; what the kernel says of the module comes by [`Loading`].
    pub fn load_module(
        &self,
        name: &str,
        module: &[u8],
        parameters: &str,
    ) -> Result<Loading, HostError> {
        let file = sealed(module)?;
        let text = CString::new(parameters).map_err(|_| HostError::Os(Errno::EINVAL))?;
        let sha256 = Digest::of(module);
        self.changed(format!(
            "asked the kernel to load the module {name} (SHA-256 {sha256}) with `{parameters}`"
        ));
        let load = move || finit_module(&file, &text, ModuleInitFlags::empty());
        Loading::start(load).map_err(|_| HostError::Stuck)
    }

    /// Unloads a module, and records whether the kernel did. One that is not there is no matter.
    pub fn unload_module(&self, name: &str) {
        let Ok(text) = CString::new(name) else { return };
        let mut result = Err(Errno::EBUSY);
        for _ in 0..UNLOADS {
            result = delete_module(&text, DeleteModuleFlags::O_NONBLOCK);
            if !matches!(result, Err(Errno::EAGAIN | Errno::EBUSY)) {
                break;
            }
            thread::sleep(PAUSE);
        }
        match result {
            Ok(()) => self.changed(format!("unloaded the module {name}")),
            Err(Errno::ENOENT) => {}
            Err(errno) => self.changed(format!(
                "the module {name} is still loaded: the kernel does not let go of it ({errno:?})"
            )),
        }
    }
}

/// A file in memory with `content`, open for reading alone: the kernel takes no module from one that may be written.
fn sealed(content: &[u8]) -> Result<OwnedFd, HostError> {
    let writable = memfd_create(c"module", MFdFlags::MFD_CLOEXEC)?;
    let mut rest = content;
    while !rest.is_empty() {
        let written = write(&writable, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(own_descriptor(&writable, OFlag::O_RDONLY)?)
}

/// A pipe that a module of the kernel can open by a path, as it opens a file.
pub struct Pipe {
    pub read: OwnedFd,
    /// Kept until the module has opened it: without a writer the pipe would end at once.
    pub write: Option<OwnedFd>,
    path: PathBuf,
    /// What has to be removed again.
    folder: Option<PathBuf>,
}

impl Pipe {
    /// A pipe without a name, reached through our own descriptors: nobody else can open it first.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn unnamed(size: usize) -> Result<Self, Errno> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        widen(&read, size);
        let path = format!("/proc/{}/fd/{}", std::process::id(), write.as_raw_fd());
        Ok(Self {
            read,
            write: Some(write),
            path: path.into(),
            folder: None,
        })
    }

    /// A FIFO that only we may open, in a folder that only we may enter, on a file system in memory. Both are removed
    /// with the value.
    ///
    /// # Errors
    /// As the kernel says of the last place; ENOENT when there is no file system in memory.
    pub fn named(size: usize) -> Result<Self, Errno> {
        let mut why = Errno::ENOENT;
        for place in ["/run", "/dev/shm"] {
            match Self::named_in(Path::new(place), size) {
                Ok(pipe) => return Ok(pipe),
                Err(errno) => why = errno,
            }
        }
        Err(why)
    }

    fn named_in(place: &Path, size: usize) -> Result<Self, Errno> {
        if statfs(place)?.filesystem_type() != TMPFS_MAGIC {
            return Err(Errno::ENOENT);
        }
        let folder = place.join(format!("exhibit-{}", std::process::id()));
        mkdir(&folder, Mode::S_IRWXU)?;
        let path = folder.join("pipe");
        let opened = mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).and_then(|()| {
            let flags = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            let read = open(&path, flags | OFlag::O_RDONLY, Mode::empty())?;
            let write = open(&path, flags | OFlag::O_WRONLY, Mode::empty())?;
            Ok((read, write))
        });
        let (read, write) = opened.inspect_err(|_| remove(&folder))?;
        widen(&read, size);
        Ok(Self {
            read,
            write: Some(write),
            path,
            folder: Some(folder),
        })
    }

    /// The path by which the kernel opens its writing end.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            remove(folder);
        }
    }
}

fn remove(folder: &Path) {
    let _ = unlink(&folder.join("pipe"));
    let _ = unlinkat(AT_FDCWD, folder, UnlinkatFlags::RemoveDir);
}

/// Lets a pipe hold `size` bytes, where the kernel allows it: a smaller one is slower, nothing else.
fn widen(pipe: &OwnedFd, size: usize) {
    let size = i32::try_from(size).unwrap_or(i32::MAX);
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(size));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_pipe_is_ours_alone_and_leaves_nothing() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        let pipe = Pipe::named(1 << 16).unwrap();
        let path = pipe.path().to_owned();
        let folder = path.parent().unwrap().to_owned();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert!(path.metadata().unwrap().file_type().is_fifo());
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        drop(pipe);
        assert!(!folder.exists());
    }

    #[test]
    fn a_call_that_has_not_returned_is_not_over() {
        let (go, wait) = channel::<()>();
        let loading = Loading::start(move || wait.recv().map_err(|_| Errno::EPERM)).unwrap();
        assert!(!loading.is_over());
        go.send(()).unwrap();
        assert_eq!(loading.end(), Ok(()));
        let failed = Loading::start(|| Err(Errno::ENOEXEC)).unwrap();
        while !failed.is_over() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(failed.end(), Err(Errno::ENOEXEC));
    }
}
