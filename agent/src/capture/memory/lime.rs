//! LiME: a kernel module that writes physical memory into a pipe of ours while it is being loaded.
//!
//! The call that loads it returns when the dump is over, so one thread loads and this one reads. It is always given
//! `timeout=0` (after a second without a reader LiME goes on with zeros) and never `digest=` (a third of the speed, and
//! no protection from that). Whatever happens, it is unloaded again, and both are recorded as changes of the host.

mod channel;
mod dump;

use evidence::lime::{LimeError, Range};
use nix::errno::Errno;

use super::image::Image;
use super::physical::Physical;
use crate::capture::CaptureError;
use crate::host::{Host, Loading};
use channel::Channel;
use dump::{Dump, End, SILENCE};

/// The module's name, once it is loaded.
pub const NAME: &str = "lime";
/// Why LiME gave no image.
#[derive(Debug, thiserror::Error)]
pub enum LimeFailure {
    #[error("{}", refusal(*.0))]
    Refused(Errno),
    #[error("a pipe, a port or a thread can not be made: {0}")]
    Rig(String),
    #[error("it was loaded and wrote nothing")]
    Nothing,
    #[error("what it wrote is not its format: {0}")]
    Format(#[from] LimeError),
    #[error("it wrote nothing for {} seconds and was given up", SILENCE.as_secs())]
    Silent,
    #[error("reading from it failed: {0}")]
    Read(Errno),
}

impl LimeFailure {
    fn rig(error: impl std::fmt::Display) -> Self {
        Self::Rig(error.to_string())
    }

    /// Whether a policy of the kernel's stands against it.
    pub fn is_denied(&self) -> bool {
        matches!(
            self,
            Self::Refused(Errno::EPERM | Errno::EACCES | Errno::EKEYREJECTED | Errno::ENOKEY)
        )
    }
}

/// What the kernel means by an errno of finit_module(2) (measured with LiME 1.9.1).
fn refusal(errno: Errno) -> String {
    let meaning = match errno {
        Errno::EINVAL => "LiME takes not the parameters that it was given",
        Errno::EEXIST => "a module of this name is loaded already",
        Errno::EADDRINUSE => "the port is in use",
        Errno::ENOENT => {
            "the pipe's path can not be opened, or a symbol that the module needs is not there"
        }
        Errno::EISDIR => "the pipe's path is a directory",
        Errno::ENOEXEC => {
            "the module was built for another kernel: a symbol has another version, or the file is damaged"
        }
        Errno::EKEYREJECTED | Errno::ENOKEY => {
            "the kernel takes only modules that are signed with a key it knows (module.sig_enforce, Secure Boot)"
        }
        Errno::EPERM => {
            "the kernel loads no such module: lockdown, kernel.modules_disabled, or CAP_SYS_MODULE is missing"
        }
        Errno::EINTR => "loading was interrupted",
        Errno::ETIMEDOUT => {
            "the module does not end, although nobody reads from it any more; it may still be loaded"
        }
        Errno::EBUSY => "the kernel is busy with a module of this name",
        _ => "the kernel does not load the module",
    };
    format!("{meaning} ({errno:?})")
}

/// Loads `module`, writes what it dumps to `image`, unloads it. `ranges` is what has to come.
///
/// # Errors
/// The outer error ends the artifact; the inner one says why this way gave nothing.
pub fn capture(
    host: &Host,
    module: &[u8],
    over_port: bool,
    ranges: &[Range],
    image: &mut Image<'_, '_>,
) -> Result<Result<(), LimeFailure>, CaptureError> {
    let mut result = Err(LimeFailure::Nothing);
    for channel in channels(over_port) {
        let loaded = channel().and_then(|channel| {
            let loading = host.load_module(NAME, module, &channel.parameters());
            Ok(Session::new(channel, loading.map_err(LimeFailure::rig)?))
        });
        result = match loaded {
            Ok(session) => {
                let check = Physical::kcore(host).ok();
                session.dump(Dump::new(ranges, check, image))?
            }
            Err(failure) => Err(failure),
        };
        // The path, not the module, may be what the kernel did not take: the next channel has another.
        let again = matches!(
            result,
            Err(
                LimeFailure::Refused(Errno::ENOENT | Errno::EACCES | Errno::ENXIO)
                    | LimeFailure::Nothing
                    | LimeFailure::Rig(_)
            )
        );
        if !again || image.written() > 0 {
            break;
        }
    }
    Ok(result)
}

/// The channels that are tried, one after the other.
fn channels(over_port: bool) -> &'static [fn() -> Result<Channel, LimeFailure>] {
    match over_port {
        true => &[Channel::port],
        false => &[Channel::unnamed, Channel::named],
    }
}

/// A module that writes into a channel. Whatever happens, a fault of ours included, it is let go of and unloaded.
struct Session<'h> {
    channel: Channel,
    loading: Option<Loading<'h>>,
}

impl<'h> Session<'h> {
    fn new(channel: Channel, loading: Loading<'h>) -> Self {
        Self {
            channel,
            loading: Some(loading),
        }
    }

    fn dump(mut self, mut dump: Dump<'_, '_, '_>) -> Result<Result<(), LimeFailure>, CaptureError> {
        let read = match &self.loading {
            Some(loading) => dump.read(&mut self.channel, loading),
            None => End::Closed,
        };
        let loaded = self.end();
        dump.end(read, loaded)
    }

    fn end(&mut self) -> Result<(), Errno> {
        let Some(loading) = self.loading.take() else {
            return Ok(());
        };
        self.channel.let_go(&loading);
        loading.end()
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests;
