//! *hidden*: views of the same thing that must agree, compared: what one shows and another does not is being hidden.
//!
//! Each disagreement is looked at again, since a busy host changes between two looks: only what disagrees each time is a
//! finding. Nothing is changed: processes are asked by number with signal 0 at most, and the fresh view of `/proc` is
//! attached nowhere. A rootkit that lies in all views the same way is not seen here; the memory image shows it.

mod cgroups;
mod covered;
mod links;
mod machine;
mod names;
mod pids;
mod preload;
mod sockets;
mod threads;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;

use serde::Serialize;

use super::{Artifact, CaptureError, Halt, Sink, Spec, Volatility};
use crate::host::Host;
pub use cgroups::numbers;
pub use covered::options;

/// Processes that hide, for who wants to look at them; `None` when they were not looked for.
pub type Found = Rc<RefCell<Option<BTreeSet<i32>>>>;

/// What hides.
pub struct Hidden {
    pub found: Found,
    /// Places of files that are known, whatever is there.
    known: BTreeSet<PathBuf>,
}

impl Hidden {
    /// Also looks for files at the places that `globs` name without a wildcard.
    pub fn new<'g>(globs: impl Iterator<Item = &'g String>) -> Self {
        Self {
            found: Found::default(),
            known: names::literal(globs),
        }
    }
}

static SPEC: Spec = Spec {
    name: "hidden",
    volatility: Volatility::Processes,
    what: "processes by number, by cgroup and in a fresh view of /proc against its listing, and threads against the list of \
           their process; sockets by netlink against \
           /proc/net; names in directories against link counts and against what runs or is known to be there; what is covered by mounts over /proc; preloaded libraries",
    why: "what one view of the kernel shows and another does not is hidden by somebody",
    deadline_s: 180,
    max_bytes: 256 << 20,
};

impl Artifact for Hidden {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let fresh = covered::fresh(host, sink)?;
        if let Some(fresh) = &fresh {
            covered::records(host, fresh, sink)?;
        }
        let found = pids::capture(host, fresh.as_ref(), sink)?;
        self.found.replace(found);
        preload::capture(host, sink)?;
        links::capture(host, sink)?;
        names::capture(host, &self.known, sink)?;
        sockets::capture(host, sink)?;
        Ok(())
    }
}

/// A place to look, not a verdict.
#[derive(Serialize)]
struct Finding<'a> {
    rule: &'static str,
    technique: &'static str,
    reason: String,
    known_benign: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
}

/// How a view was taken, and how much of it.
#[derive(Default, Serialize)]
struct ViewRecord {
    view: &'static str,
    /// How many things it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<u64>,
    /// First number that was asked for, and the first that was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<(i32, i32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
    /// What is special about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// Why there is no such view here.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn record(sink: &mut Sink<'_>, view: &ViewRecord) -> Result<(), Halt> {
    sink.record("hidden/views", view)
}

#[cfg(test)]
mod tests;
