//! Why a database gives no more packages.

use crate::capture::Halt;
use crate::host::HostError;

/// Why a database gives no, or no more, packages.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It is not what its name says, or torn, or made to mislead.
    #[error("{0}")]
    Malformed(&'static str),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Halt(#[from] Halt),
}

/// Takes the header of a package, as the database holds it.
pub type Take<'a> = dyn FnMut(&[u8]) -> Result<(), Halt> + 'a;

/// Longest header of a package that is held in memory, in bytes. Those of the largest packages (kernel sources, with a
/// hundred thousand files) have about 12 MB; rpm itself takes 256 MB.
pub const LARGEST: usize = 24 << 20;
