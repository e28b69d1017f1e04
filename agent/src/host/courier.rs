//! Calls into the kernel that may never return are made by a thread that can be given up.
//!
//! A read of a FUSE-backed argument list, or a path walk into a dead NFS server, blocks without end and can not be
//! cancelled. The courier waits for the answer until the deadline, then leaves the thread behind and starts another.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::HostError;

/// How long a single call may take. A local disk under load answers within it; what does not is named in the inventory.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// Threads that may be stuck at one time before nothing more is tried.
const MAX_ABANDONED: u32 = 64;
/// Stack of a courier thread: it makes system calls, nothing more.
const STACK: usize = 256 << 10;

type Job = Box<dyn FnOnce() + Send>;
type Answer<T> = Receiver<Result<T, HostError>>;

/// Runs calls on disposable threads, each with a deadline.
pub struct Courier {
    /// Threads that wait for a call.
    idle: Mutex<Vec<Sender<Job>>>,
    /// Calls that were given up, ever, and those of them that have not returned since.
    abandoned: AtomicU32,
    stuck: Arc<AtomicU32>,
    deadline: Duration,
}

impl Default for Courier {
    fn default() -> Self {
        Self::with_deadline(DEADLINE)
    }
}

impl Courier {
    /// A courier with the usual deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// A courier that waits `deadline` for each call.
    pub fn with_deadline(deadline: Duration) -> Self {
        Self {
            idle: Mutex::default(),
            abandoned: AtomicU32::new(0),
            stuck: Arc::default(),
            deadline,
        }
    }

    /// Threads left behind so far.
    pub fn abandoned(&self) -> u32 {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// The answer of `job`, when it comes in time.
    ///
    /// # Errors
    /// What the job says; [`HostError::TimedOut`]; [`HostError::Stuck`] after too many of those.
    pub fn call<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce() -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, HostError> {
        self.ask(job)?.answer()
    }

    /// Has `job` done while the caller goes on.
    ///
    /// # Errors
    /// [`HostError::Stuck`] after too many calls that were given up.
    pub fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce() -> Result<T, HostError> + Send + 'static,
    ) -> Result<Asked<T>, HostError> {
        if self.stuck.load(Ordering::Relaxed) >= MAX_ABANDONED {
            return Err(HostError::Stuck);
        }
        let (reply, answer) = mpsc::sync_channel(1);
        let stuck = Arc::clone(&self.stuck);
        let job: Job = Box::new(move || {
            if reply.send(job()).is_err() {
                // Too late for the caller, but the thread is free again.
                stuck.fetch_sub(1, Ordering::Relaxed);
            }
        });
        let idle = self.idle.lock().map_err(|_| HostError::Stuck)?.pop();
        let worker = idle.map_or_else(start, Ok)?;
        worker.send(job).map_err(|_| HostError::Stuck)?;
        Ok(Asked {
            courier: Arc::clone(self),
            pending: Some((worker, answer)),
        })
    }

    fn wait<T>(&self, worker: Sender<Job>, answer: &Answer<T>) -> Result<T, HostError> {
        match answer.recv_timeout(self.deadline) {
            Ok(result) => {
                if let Ok(mut idle) = self.idle.lock() {
                    idle.push(worker);
                }
                result
            }
            Err(RecvTimeoutError::Timeout) => {
                self.abandoned.fetch_add(1, Ordering::Relaxed);
                self.stuck.fetch_add(1, Ordering::Relaxed);
                Err(HostError::TimedOut)
            }
            Err(RecvTimeoutError::Disconnected) => Err(HostError::Stuck),
        }
    }
}

/// A call under way. Whoever drops it waits for its answer, or gives the thread up, all the same.
pub struct Asked<T> {
    courier: Arc<Courier>,
    pending: Option<(Sender<Job>, Answer<T>)>,
}

impl<T> Asked<T> {
    /// The answer, when it comes in time from now.
    ///
    /// # Errors
    /// As [`Courier::call`].
    pub fn answer(mut self) -> Result<T, HostError> {
        let (worker, answer) = self.pending.take().ok_or(HostError::Stuck)?;
        self.courier.wait(worker, &answer)
    }
}

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        if let Some((worker, answer)) = self.pending.take() {
            let _ = self.courier.wait(worker, &answer);
        }
    }
}

fn start() -> Result<Sender<Job>, HostError> {
    let (sender, jobs) = mpsc::channel::<Job>();
    let run = move || jobs.into_iter().for_each(|job| job());
    match thread::Builder::new()
        .name("courier".to_owned())
        .stack_size(STACK)
        .spawn(run)
    {
        Ok(_) => Ok(sender),
        Err(_) => Err(HostError::Stuck),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_never_returns_costs_its_deadline_and_a_thread() {
        let courier = Arc::new(Courier::with_deadline(Duration::from_millis(20)));
        let (hold, held) = mpsc::channel::<()>();
        let stuck = courier.call(move || held.recv().map_err(|_| HostError::Stuck));
        assert_eq!(stuck, Err(HostError::TimedOut));
        assert_eq!(courier.abandoned(), 1);
        assert_eq!(
            courier.call(|| Ok(7)),
            Ok(7),
            "the next call gets a new thread"
        );
        drop(hold);
    }

    #[test]
    fn calls_that_are_asked_are_made_side_by_side_and_one_that_is_dropped_gives_its_thread_back() {
        let courier = Arc::new(Courier::new());
        let both = Arc::new(std::sync::Barrier::new(2));
        let asked = [1, 2].map(|number| {
            let both = Arc::clone(&both);
            let job = move || {
                both.wait();
                Ok((number, thread::current().id()))
            };
            courier.ask(job).unwrap()
        });
        let threads = asked.map(|asked| asked.answer().unwrap());
        assert_eq!(threads.map(|(number, _)| number), [1, 2]);
        drop(courier.ask(|| Ok(())).unwrap());
        let again = courier.call(|| Ok(thread::current().id())).unwrap();
        assert!(threads.iter().any(|(_, thread)| *thread == again));
        assert_eq!(courier.abandoned(), 0);
    }

    #[test]
    fn after_too_many_stuck_calls_nothing_more_is_tried() {
        let courier = Arc::new(Courier::with_deadline(Duration::from_millis(1)));
        let (hold, held) = mpsc::channel::<()>();
        let held = std::sync::Arc::new(Mutex::new(held));
        for _ in 0..MAX_ABANDONED {
            let held = std::sync::Arc::clone(&held);
            let _ = courier.call(move || held.lock().unwrap().recv().map_err(|_| HostError::Stuck));
        }
        assert_eq!(courier.call(|| Ok(())), Err(HostError::Stuck));
        drop(hold);
        // The late ones come back, one after the other, and so does the courier.
        let back = (0..500).any(|_| {
            thread::sleep(Duration::from_millis(2));
            courier.call(|| Ok(())) == Ok(())
        });
        assert!(back && courier.abandoned() >= MAX_ABANDONED);
    }
}
