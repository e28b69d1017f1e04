//! Runs artifacts in order of volatility and gives each its outcome.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use evidence::inventory::Status;
use evidence::manifest::{ArtifactReport, Outcome};

use super::sink::{Budget, Watch};
use super::{Artifact, CaptureError, Halt, Sink, Tally};
use crate::bundle::Writer;
use crate::host::{Host, clocks};
use crate::limits::Throttle;

/// Limits of the whole run, as the operator set them.
pub struct Limits<'a> {
    pub run_deadline: Option<Instant>,
    pub max_file_bytes: u64,
    /// Bytes that the evidence stream may still have before it is compressed.
    pub total_left: Cell<u64>,
    pub throttle: Throttle,
    pub watch: Watch<'a>,
}

/// Captures one artifact. Whatever happens in it, the answer is a report.
pub fn run(
    artifact: &dyn Artifact,
    host: &Host,
    bundle: &mut Writer,
    limits: &Limits<'_>,
    interrupted: &AtomicBool,
) -> ArtifactReport {
    let spec = artifact.spec();
    let started = clocks();
    let budget = Budget {
        deadline: Instant::now() + spec.deadline(),
        run_deadline: limits.run_deadline,
        max_bytes: spec.max_bytes,
        max_file_bytes: limits.max_file_bytes,
        total_left: limits.total_left.get(),
        interrupted,
        throttle: &limits.throttle,
        watch: limits.watch,
        told: Cell::new(Instant::now()),
    };
    let mut sink = Sink::new(bundle, spec.name, budget);
    // A fault in one artifact must not cost the others.
    let result = match sink.check() {
        Ok(()) => catch_unwind(AssertUnwindSafe(|| artifact.capture(host, &mut sink))),
        Err(halt) => Ok(Err(CaptureError::Halt(halt))),
    };
    let mut tally = sink.tally().clone();
    let left = limits.total_left.get().saturating_sub(tally.streamed());
    limits.total_left.set(left);
    let unnameable = bundle.take_unnameable();
    if unnameable > 0 {
        tally.losses.insert("failed:name".to_owned(), unnameable);
    }
    let _ = bundle.end_artifact(spec.name);
    let (outcome, reason) = match result {
        Ok(result) => outcome(&result, &tally),
        Err(_) => (
            Outcome::Failed,
            Some("a fault in the program; what it captured before is kept".to_owned()),
        ),
    };
    let notes = std::mem::take(&mut tally.notes);
    let reasons: Vec<String> = reason.into_iter().chain(notes).collect();
    ArtifactReport {
        name: spec.name.to_owned(),
        outcome,
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        started,
        ended: clocks(),
        items: tally.items,
        bytes: tally.bytes,
        vanished: tally.vanished,
        losses: tally.losses,
    }
}

/// The report of an artifact that was not tried.
pub fn skipped(artifact: &dyn Artifact, reason: &str) -> ArtifactReport {
    let now = clocks();
    ArtifactReport {
        name: artifact.spec().name.to_owned(),
        outcome: Outcome::Skipped,
        reason: Some(reason.to_owned()),
        started: now,
        ended: now,
        items: 0,
        bytes: 0,
        vanished: 0,
        losses: Default::default(),
    }
}

fn outcome(result: &Result<(), CaptureError>, tally: &Tally) -> (Outcome, Option<String>) {
    let some = tally.items > 0;
    let denied_only =
        !tally.losses.is_empty() && tally.losses.keys().all(|kind| kind.starts_with("denied"));
    match result {
        Ok(()) => match (some, tally.losses.is_empty()) {
            (true, true) => (Outcome::Captured, None),
            (true, false) => (Outcome::Partial, Some(losses(tally))),
            (false, true) => (Outcome::Empty, None),
            (false, false) if denied_only => (Outcome::Denied, Some(losses(tally))),
            (false, false) => (Outcome::Failed, Some(losses(tally))),
        },
        Err(CaptureError::Absent(why)) => (Outcome::Absent, Some(why.clone())),
        Err(error) => {
            let outcome = match error {
                _ if some => Outcome::Partial,
                CaptureError::Halt(Halt::Deadline | Halt::RunDeadline) => Outcome::TimedOut,
                CaptureError::Halt(Halt::Interrupted) => Outcome::Skipped,
                CaptureError::Host { source, .. } if source.status() == Status::Denied => {
                    Outcome::Denied
                }
                CaptureError::Denied(_) => Outcome::Denied,
                CaptureError::Host { source, .. } if source.status() == Status::TimedOut => {
                    Outcome::TimedOut
                }
                _ => Outcome::Failed,
            };
            (outcome, Some(error.to_string()))
        }
    }
}

fn losses(tally: &Tally) -> String {
    let kinds: Vec<String> = tally
        .losses
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    format!("not captured: {}", kinds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostError;
    use nix::errno::Errno;

    fn tally(items: u64, losses: &[&str]) -> Tally {
        Tally {
            items,
            losses: losses.iter().map(|kind| ((*kind).to_owned(), 1)).collect(),
            ..Tally::default()
        }
    }

    fn host_error(errno: Errno) -> Result<(), CaptureError> {
        Err(CaptureError::Host {
            what: "/proc".to_owned(),
            source: HostError::Os(errno),
        })
    }

    #[test]
    fn nothing_there_is_not_could_not_look() {
        for (result, tally, want) in [
            (Ok(()), tally(1, &[]), Outcome::Captured),
            (Ok(()), tally(0, &[]), Outcome::Empty),
            (Ok(()), tally(1, &["denied:EACCES"]), Outcome::Partial),
            (Ok(()), tally(0, &["denied:EACCES"]), Outcome::Denied),
            (
                Ok(()),
                tally(0, &["failed:EIO", "denied:EACCES"]),
                Outcome::Failed,
            ),
            (
                Err(CaptureError::Absent("no journal".to_owned())),
                tally(0, &[]),
                Outcome::Absent,
            ),
            (host_error(Errno::EPERM), tally(0, &[]), Outcome::Denied),
            (host_error(Errno::EIO), tally(0, &[]), Outcome::Failed),
            (Err(Halt::Deadline.into()), tally(0, &[]), Outcome::TimedOut),
            (Err(Halt::Deadline.into()), tally(9, &[]), Outcome::Partial),
            (
                Err(Halt::Interrupted.into()),
                tally(0, &[]),
                Outcome::Skipped,
            ),
        ] {
            let (got, reason) = outcome(&result, &tally);
            assert_eq!(got, want, "{result:?} {tally:?}");
            assert_eq!(
                reason.is_none(),
                matches!(got, Outcome::Captured | Outcome::Empty)
            );
        }
    }
}
