//! Kernel modules: the one thing that is changed on the host, and recorded.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use evidence::Digest;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{pipe2, write};

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

/// A pipe that holds `size` bytes where the kernel allows it: its reading and its writing end.
///
/// # Errors
/// As the kernel says.
pub fn pipe(size: usize) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    // A smaller pipe is slower, nothing else.
    let _ = fcntl(
        &read,
        FcntlArg::F_SETPIPE_SZ(i32::try_from(size).unwrap_or(i32::MAX)),
    );
    Ok((read, write))
}
