//! *filesystem*: every name on the local file systems with its times, and what is notable of it.
//!
//! It makes the one walk that the families of files live from, too. It opens no file and follows no link; network and
//! FUSE mounts are named, not entered.

mod bodyfile;
mod facts;
mod findings;
mod harvest;
mod survey;

use std::rc::Rc;

pub(crate) use self::survey::Survey;
use super::{Artifact, CaptureError, Sink, Spec, Volatility};
use crate::host::Host;

/// The walk as an artifact.
pub(crate) struct Filesystem(pub(crate) Rc<Survey>);

static SPEC: Spec = Spec {
    name: "filesystem",
    volatility: Volatility::VolatileFiles,
    what: "every name on the local file systems: the bodyfile with birth times, SUID, SGID, capabilities, attributes, \
           immutable and hidden files, odd names, what changed lately",
    why: "the timeline, and where intruders hide rights and files",
    deadline_s: 1800,
    max_bytes: 16 << 30,
};

impl Artifact for Filesystem {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let harvest = self.0.harvest(host, sink, true)?;
        let plan = self.0.plan();
        for (family, share) in plan.families.iter().zip(&harvest.shares) {
            if plan.selection.has(family.profile) {
                continue;
            }
            // Nobody takes them: that they are there is told here.
            let reason = format!(
                "{}: not in the profile {}",
                family.spec.name, plan.profile.name
            );
            for (path, _) in share.list.iter() {
                if let Ok(stat) = host.root().stat(&path) {
                    sink.metadata_only(&path, &stat, &reason)?;
                }
            }
        }
        match harvest.stopped {
            Some(stopped) => Err(stopped.halt.into()),
            None => Ok(()),
        }
    }
}
