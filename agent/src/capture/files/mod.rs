//! *files*: what a disk keeps, as data: each family is a name, a reason and its globs (`families.toml`).
//!
//! The walk finds the files of all families at once; here each family takes its own, in the order of the list. A file
//! that another family took before is not taken twice.

mod definition;
mod take;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::rc::Rc;

pub use self::definition::{
    Content, DefinitionError, Definitions, Family, Guarded, Level, own, parse,
};
use super::filesystem::Survey;
use super::{Artifact, CaptureError, Sink, Spec};
use crate::host::Host;

/// A family as an artifact.
pub(super) struct Files {
    pub(super) family: usize,
    pub(super) spec: &'static Spec,
    pub(super) survey: Rc<Survey>,
}

/// All families that `survey` knows.
pub(super) fn artifacts(survey: &Rc<Survey>) -> impl Iterator<Item = Box<dyn Artifact>> {
    let families = survey.plan().families.iter().enumerate();
    families.map(|(family, known)| {
        let (spec, survey) = (known.spec, Rc::clone(survey));
        Box::new(Files {
            family,
            spec,
            survey,
        }) as Box<dyn Artifact>
    })
}

impl Artifact for Files {
    fn spec(&self) -> &'static Spec {
        self.spec
    }

    fn left_out(&self) -> Option<Cow<'static, str>> {
        let plan = self.survey.plan();
        let family = plan.families.get(self.family)?;
        if plan.selection.has(family.profile) {
            return None;
        }
        let why = match family.profile {
            Level::Asked => "only with --include".to_owned(),
            _ => format!("not in the profile {}", plan.profile.name),
        };
        Some(match self.survey.matches(self.family) {
            Some(0) => format!("{why}; nothing of it is on this host").into(),
            Some(count) => format!("{why}; {count} names on this host").into(),
            None => why.into(),
        })
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let plan = self.survey.plan();
        let harvest = self.survey.harvest(host, sink, false)?;
        let (Some(family), Some(share)) = (
            plan.families.get(self.family),
            harvest.shares.get(self.family),
        ) else {
            return Ok(());
        };
        for (path, error) in &share.lost {
            sink.lost(path, error)?;
        }
        take::all(host, family, plan, share.list.iter(), sink)?;
        if share.overflow > 0 {
            sink.loss("truncated");
            sink.note(format!("{} names did not fit", share.overflow));
        }
        match harvest.stopped {
            Some(stopped) if !stopped.wanted_seen || family.is_anywhere() => {
                sink.loss("failed:walk");
                sink.note(format!("the walk of the file systems ended early ({}): what it did not reach is missing", stopped.halt));
                Ok(())
            }
            _ if sink.tally().items == 0 && sink.tally().losses.is_empty() => {
                Err(CaptureError::Absent(
                    "no such file on this host that no other family took".to_owned(),
                ))
            }
            _ => Ok(()),
        }
    }
}
