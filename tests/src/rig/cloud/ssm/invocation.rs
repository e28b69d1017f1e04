//! One command on one instance.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::instance::{Fate, Script, When};
use super::job::Job;

/// One command on one instance.
pub(super) struct Invocation {
    pub(super) instance: String,
    /// Questions that still come too early.
    pub(super) lost: usize,
    sent: Instant,
    polls: usize,
    cancelled: bool,
    steps: Vec<String>,
    way: Way,
}

/// What happens to it.
pub(super) enum Way {
    Job(Arc<Job>, Fate),
    Script(Script),
    Undeliverable,
}

/// How it looks right now.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) status: String,
    pub(super) details: String,
    pub(super) plugins: Vec<Plugin>,
}

/// A step, as Systems Manager shows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) status: String,
    pub(super) details: String,
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) started: Option<SystemTime>,
    pub(super) ended: Option<SystemTime>,
}

impl Plugin {
    pub(super) fn pending(name: &str) -> Self {
        Self {
            name: name.into(),
            status: "Pending".into(),
            details: "Pending".into(),
            code: -1,
            ..Self::default()
        }
    }

    pub(super) fn end(&mut self, status: &str, details: &str, code: i32) {
        self.status = status.into();
        self.details = details.into();
        self.code = code;
        self.ended = Some(SystemTime::now());
    }
}

/// Whether nothing more will change.
pub(super) fn is_final(status: &str) -> bool {
    ["Success", "Failed", "TimedOut", "Cancelled"].contains(&status)
}

impl Invocation {
    pub(super) fn new(instance: &str, lost: usize, steps: Vec<String>, way: Way) -> Self {
        Self {
            instance: instance.into(),
            lost,
            sent: Instant::now(),
            polls: 0,
            cancelled: false,
            steps,
            way,
        }
    }

    /// Counts an answer about it.
    pub(super) fn poll(&mut self) -> View {
        self.polls += 1;
        self.view()
    }

    pub(super) fn view(&self) -> View {
        match &self.way {
            Way::Undeliverable => self.all("Failed", "Undeliverable"),
            Way::Job(job, Fate::DeliveryTimedOut(after)) => {
                let given_up = self.sent + *after;
                let in_time = job.ended().is_some_and(|ended| ended <= given_up);
                if in_time || Instant::now() < given_up {
                    job.view()
                } else {
                    self.all("TimedOut", "DeliveryTimedOut")
                }
            }
            Way::Job(job, _) => job.view(),
            Way::Script(script) => self.scripted(script),
        }
    }

    pub(super) fn cancel(&mut self) {
        if !is_final(&self.view().status) {
            self.cancelled = true;
            if let Way::Job(job, _) = &self.way {
                job.cancel();
            }
        }
    }

    pub(super) fn kill(&self) {
        if let Way::Job(job, _) = &self.way {
            job.kill();
        }
    }

    pub(super) fn stop(self) {
        if let Way::Job(job, _) = self.way {
            job.stop();
        }
    }

    /// Every step with the same status.
    fn all(&self, status: &str, details: &str) -> View {
        let plugin = |name: &String| Plugin {
            name: name.clone(),
            status: status.into(),
            details: details.into(),
            code: -1,
            ..Plugin::default()
        };
        View {
            status: status.into(),
            details: details.into(),
            plugins: self.steps.iter().map(plugin).collect(),
        }
    }

    fn scripted(&self, script: &Script) -> View {
        if self.cancelled {
            return self.all("Cancelled", "Cancelled");
        }
        let reached = script.0.iter().rev().find(|stage| match stage.when {
            When::Polls(polls) => self.polls >= polls,
            When::After(time) => self.sent.elapsed() >= time,
        });
        let Some(stage) = reached else {
            return self.all("Pending", "Pending");
        };
        let mut view = self.all(&stage.status, &stage.details);
        for plugin in &mut view.plugins {
            plugin.code = stage.code;
            plugin.stdout.clone_from(&stage.stdout);
            plugin.stderr.clone_from(&stage.stderr);
        }
        view
    }
}
