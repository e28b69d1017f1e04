//! Kernel modules: the one thing that is changed on the host, and recorded.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::thread::JoinHandleExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use evidence::Digest;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl, open};
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{UnlinkatFlags, mkdir, mkfifo, pipe2, unlink, unlinkat, write};

use super::open::own_descriptor;
use super::{Host, sys};

/// The signal that ends a call which loads a module.
const INTERRUPT: Signal = Signal::SIGUSR1;
/// How long a module that has done its work may take to say so.
const ENDING: Duration = Duration::from_secs(10);
/// How often, and with which pause, the kernel is asked to let go of a module that it still uses.
const UNLOADS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(10);

/// A module that is being loaded: its first call may go on for as long as it likes. Whatever happens, it is unloaded.
pub struct Loading<'h> {
    /// Where what is done is recorded, and the module's name; a stand-in for tests has neither.
    host: Option<(&'h Host, &'static str)>,
    thread: JoinHandle<Result<(), Errno>>,
}

impl<'h> Loading<'h> {
    /// What `load` does on a thread of its own, which only [`INTERRUPT`] reaches: a signal in the middle of a write
    /// makes a module lose bytes.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn start(
        load: impl FnOnce() -> Result<(), Errno> + Send + 'static,
    ) -> std::io::Result<Self> {
        sys::let_interrupt(INTERRUPT)?;
        let alone = move || {
            let mut signals = SigSet::all();
            signals.remove(INTERRUPT);
            let _ = signals.thread_block();
            load()
        };
        let thread = thread::Builder::new()
            .name("load".to_owned())
            .spawn(alone)?;
        Ok(Self { host: None, thread })
    }

    /// Whether the call has returned.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// What the call returned; then the module is unloaded, unless the kernel never took it.
    ///
    /// # Errors
    /// The kernel's; ETIMEDOUT when the call does not return although nobody reads from the module any more.
    pub fn end(self) -> Result<(), Errno> {
        let Self { host, thread } = self;
        let result = match finished(&thread) {
            true => thread.join().unwrap_or(Err(Errno::EINTR)),
            false => Err(Errno::ETIMEDOUT),
        };
        if let Some((host, name)) = host {
            host.changed(match result {
                Ok(()) => format!("the module {name} was loaded"),
                Err(errno) => format!("loading the module {name} ended with {errno:?}"),
            });
            // What the kernel refused is not there, or is somebody else's.
            if matches!(result, Ok(()) | Err(Errno::EINTR | Errno::ETIMEDOUT)) {
                host.unload_module(name);
            }
        }
        result
    }
}

/// Waits for the call to return; one that does not is interrupted.
fn finished(thread: &JoinHandle<Result<(), Errno>>) -> bool {
    let wait = |time: Duration| {
        let until = Instant::now() + time;
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(POLL);
        }
        thread.is_finished()
    };
    wait(ENDING) || {
        let _ = pthread_kill(thread.as_pthread_t(), INTERRUPT);
        wait(ENDING)
    }
}

impl Host {
    /// Starts loading a module from memory with finit_module(2). Nothing is written to a disk.
    ///
    /// # Errors
    /// When there is no memory file or thread for it; what the kernel says of the module comes by [`Loading`].
    pub fn load_module(
        &self,
        name: &'static str,
        module: &[u8],
        parameters: &str,
    ) -> Result<Loading<'_>, std::io::Error> {
        let file = in_memory(module)?;
        let text = CString::new(parameters)?;
        let sha256 = Digest::of(module);
        let load = move || finit_module(&file, &text, ModuleInitFlags::empty());
        let loading = Loading::start(load)?;
        self.changed(format!(
            "asked the kernel to load the module {name} (SHA-256 {sha256}) with `{parameters}`"
        ));
        Ok(Loading {
            host: Some((self, name)),
            ..loading
        })
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
fn in_memory(content: &[u8]) -> Result<OwnedFd, Errno> {
    let writable = memfd_create(c"module", MFdFlags::MFD_CLOEXEC)?;
    let mut rest = content;
    while !rest.is_empty() {
        let written = write(&writable, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    own_descriptor(&writable, OFlag::O_RDONLY)
}

/// A pipe that a module of the kernel can open by a path, as it opens a file.
pub struct Pipe {
    /// Ours; without it the module's writes fail.
    pub read: Option<OwnedFd>,
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
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        widen(&read, size);
        // Never by our number: where `/proc` is another namespace's, that is somebody else.
        let path = format!("/proc/self/fd/{}", write.as_raw_fd());
        Ok(Self {
            read: Some(read),
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
            read: Some(read),
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
        let (go, wait) = std::sync::mpsc::channel::<()>();
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

    #[test]
    fn a_call_that_does_not_return_is_interrupted() {
        // Nobody ever writes into the pipe, and only a signal ends the wait for it.
        let endless = || {
            let (read, _write) = pipe2(OFlag::O_CLOEXEC)?;
            nix::unistd::read(&read, &mut [0; 1]).map(drop)
        };
        let loading = Loading::start(endless).unwrap();
        assert_eq!(loading.end(), Err(Errno::EINTR));
    }
}
