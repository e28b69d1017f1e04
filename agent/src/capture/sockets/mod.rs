//! *sockets*: the sockets of every network namespace, and who holds them.
//!
//! [`scan`] is a snapshot as plain data, taken in a few milliseconds. The kernel is asked over netlink where that loads no
//! module (see [`modules`]); otherwise the texts below `/proc/PID/net` are read. Each family of each namespace says which
//! it was, and why. Nothing is sent over the network, and no socket is touched: only dumps are asked for.

mod artifact;
mod bytes;
pub mod diag;
mod model;
mod modules;
pub(crate) mod namespaces;
pub mod netlink;
mod owners;
mod record;
mod scan;
pub mod text;

pub use artifact::Sockets;
pub(crate) use artifact::{each_namespace, loss, losses, lost_answers, lost_namespace, texts};
pub use bytes::{Attributes, Reader};
pub(crate) use bytes::{text_of, u32_of};
pub use model::{
    Address, Family, FamilyScan, Handle, NamespaceScan, Owner, Owners, Scan, Socket, Source, Timer,
};
pub(crate) use modules::Modules;
pub use owners::owners;
pub(crate) use owners::word;
pub(crate) use scan::recorded;
pub use scan::scan;
pub(crate) use scan::{asked, told};
