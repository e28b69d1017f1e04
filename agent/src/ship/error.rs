//! Why an object could not be stored.

use evidence::Exit;

/// What kind of failure it is; each has its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Target,
    Unlocked,
    Credentials,
    Region,
    Tls,
    Unreachable,
    StoreFailed,
    NoSpace,
    Refused,
}

/// A store that does not take an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ShipError {
    pub kind: Kind,
    /// What was attempted, what happened, and what to do next.
    pub message: String,
}

impl ShipError {
    /// An error of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The exit code when nothing was collected yet.
    pub fn exit(&self) -> Exit {
        match self.kind {
            Kind::Target => Exit::Target,
            Kind::Unlocked => Exit::Unlocked,
            Kind::Credentials => Exit::Credentials,
            Kind::Region => Exit::Region,
            Kind::Tls => Exit::Tls,
            Kind::Unreachable => Exit::Unreachable,
            Kind::StoreFailed => Exit::StoreFailed,
            Kind::NoSpace => Exit::NoSpace,
            Kind::Refused => Exit::Refused,
        }
    }
}
