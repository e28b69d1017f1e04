//! The Exhibit evidence format: what a collection is made of and how anyone proves that it is intact.
//!
//! `docs/format.md` is the specification; this crate is its reference implementation. It knows no network, no clock and
//! nothing of the host: bytes come in, verdicts go out. Both programs use it, neither can see the other.
//!
//! ```text
//! frame -> segment -> chain -> manifest -> receipt        written by the agent
//! custody -> statement -> sums -> signature, time stamp   added by whoever seals
//! objects -> verify -> report                             read by anyone
//! ```

pub mod chain;
pub mod custody;
pub mod digest;
pub mod exit;
pub mod frame;
pub mod inventory;
pub mod keys;
pub mod lime;
mod line;
pub mod manifest;
pub mod member;
pub mod objects;
pub mod receipt;
pub mod seal;
pub mod segment;
pub mod signature;
pub mod sums;
pub mod timestamp;
pub mod verify;

pub use chain::Chain;
pub use custody::Custody;
pub use digest::Digest;
pub use exit::Exit;
pub use keys::{CaseId, CollectionId, HostKey, Prefix, Stream};
pub use manifest::Manifest;
pub use receipt::Receipt;
pub use seal::Statement;
pub use signature::{PrivateKey, PublicKey};
pub use sums::Sums;
pub use timestamp::TimeStamp;

/// Version of the format that this crate writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;
