//! What an artifact may take, and what it took.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bundle::Stopped;
use crate::limits::Throttle;

/// Why an artifact has to end now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    #[error("its deadline passed")]
    Deadline,
    #[error("its cap of {0} bytes is reached")]
    Cap(u64),
    #[error("its budget of {0} names is used up")]
    Names(u64),
    #[error("--max-total-size is reached")]
    Total,
    #[error("the run's deadline passed")]
    RunDeadline,
    #[error("the run was interrupted by a signal")]
    Interrupted,
    #[error("the store takes no more evidence")]
    Stopped,
}

impl From<Stopped> for Halt {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// What an artifact captured and lost, in numbers.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub items: u64,
    pub bytes: u64,
    /// Of `bytes`, those of the memory stream.
    pub memory: u64,
    pub vanished: u64,
    /// By status and error, such as `denied:EACCES`.
    pub losses: BTreeMap<String, u64>,
    /// What the report has to say beside the outcome.
    pub notes: Vec<String>,
}

impl Tally {
    /// Bytes in the evidence stream.
    pub fn streamed(&self) -> u64 {
        self.bytes.saturating_sub(self.memory)
    }
}

/// How far an artifact is that takes long.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Bytes so far, and in all.
    Bytes { done: u64, of: u64 },
    /// Items and bytes so far, where nobody knows how many there are.
    Items { items: u64, bytes: u64 },
}

/// Is told of an artifact that takes long, and how far it is.
pub type Watch<'a> = &'a dyn Fn(&'static str, Step);

/// How often whoever watches is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The limits that hold for an artifact.
pub struct Budget<'a> {
    pub deadline: Instant,
    pub run_deadline: Option<Instant>,
    pub max_bytes: u64,
    pub max_file_bytes: u64,
    /// Bytes of evidence that the whole run may still have, the memory stream apart.
    pub total_left: u64,
    pub interrupted: &'a AtomicBool,
    pub throttle: &'a Throttle,
    pub watch: Watch<'a>,
    /// When whoever watches was told last.
    pub told: Cell<Instant>,
}

impl Budget<'_> {
    /// What is left of the run's total after `used` bytes of this artifact.
    pub(super) fn left(&self, used: u64) -> u64 {
        self.total_left.saturating_sub(used)
    }

    /// Tells whoever watches how far `artifact` is, when it is time to.
    pub(super) fn tell(&self, now: Instant, artifact: &'static str, step: Step) {
        if now.saturating_duration_since(self.told.get()) >= TELL_EVERY {
            (self.watch)(artifact, step);
            self.told.set(now);
        }
    }

    /// Whether the artifact may go on; the time at which it may.
    pub(super) fn check(&self) -> Result<Instant, Halt> {
        self.throttle.pause();
        let now = Instant::now();
        if self.interrupted.load(Ordering::Relaxed) {
            Err(Halt::Interrupted)
        } else if self.run_deadline.is_some_and(|deadline| now >= deadline) {
            Err(Halt::RunDeadline)
        } else if now >= self.deadline {
            Err(Halt::Deadline)
        } else {
            Ok(now)
        }
    }
}
