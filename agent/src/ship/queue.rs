//! Segments on their way to the store: a bounded queue, a few senders, and the spool when the store fails for good.
//!
//! Memory is bounded by the segments in the queue and in the senders' hands. When the store fails and there is no
//! spool, the queue closes, so that capture stops instead of reading for nobody.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use evidence::manifest::StoredObject;
use evidence::segment::{self, Segment};

use super::{Directory, Object, ShipError, Store};
use crate::limits::Rate;

/// Segments sent at the same time. None waits besides: each is 8 MiB of the host's memory.
const SENDERS: usize = 3;
/// How far sending may be ahead of the first segment that is not stored yet: a run that is killed then has a gap that
/// verification knows to be one (`docs/format.md`).
const WINDOW: u64 = segment::MAX_UNDER_WAY as u64;

/// What became of the objects.
#[derive(Debug)]
pub struct Shipped {
    /// Each object, in the order of its key.
    pub objects: Vec<StoredObject>,
    /// What the store failed with for good.
    pub failure: Option<ShipError>,
    /// What the spool failed with.
    pub spool_failure: Option<ShipError>,
}

#[derive(Default)]
struct State {
    /// Numbers of the segments under way, in the order in which they were sealed.
    under_way: BTreeSet<u64>,
    objects: Vec<StoredObject>,
    failure: Option<ShipError>,
    spool_failure: Option<ShipError>,
}

struct Shared {
    store: Arc<dyn Store>,
    spool: Option<Directory>,
    rate: Rate,
    bytes: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

/// Takes segments and sends them.
pub struct Queue {
    shared: Arc<Shared>,
    sender: SyncSender<Object>,
    threads: Vec<JoinHandle<()>>,
}

impl Queue {
    /// Starts sending to `store`.
    ///
    /// # Errors
    /// When a thread can not be started.
    pub fn start(
        store: Arc<dyn Store>,
        spool: Option<Directory>,
        rate: Rate,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            store,
            spool,
            rate,
            bytes: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (sender, objects) = sync_channel::<Object>(0);
        let objects = Arc::new(Mutex::new((objects, 0)));
        let threads = (0..SENDERS)
            .map(|_| {
                let (shared, objects) = (Arc::clone(&shared), Arc::clone(&objects));
                thread::Builder::new()
                    .name("ship".to_owned())
                    .spawn(move || shared.send_all(&objects))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            shared,
            sender,
            threads,
        })
    }

    /// What hands a segment to the queue: false once segments can go nowhere.
    pub fn take(&self) -> impl FnMut(Segment) -> bool + Send + 'static {
        let (shared, sender) = (Arc::clone(&self.shared), self.sender.clone());
        move |segment| {
            let Segment { key, bytes, sha256 } = segment;
            let sent = sender
                .send(Object {
                    key,
                    bytes: Bytes::from(bytes),
                    sha256,
                })
                .is_ok();
            sent && shared.open()
        }
    }

    /// Bytes that the store has taken so far.
    pub fn shipped_bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Waits until the first object is stored.
    ///
    /// # Errors
    /// What the store failed with.
    pub fn first(&self) -> Result<(), ShipError> {
        let state = self.shared.lock();
        let nothing = |state: &mut State| state.objects.is_empty() && state.failure.is_none();
        let state = self
            .shared
            .changed
            .wait_while(state, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        state.failure.clone().map_or(Ok(()), Err)
    }

    /// Waits until all segments are where they can go.
    pub fn drain(self) -> Drained {
        let Self {
            shared,
            sender,
            threads,
        } = self;
        drop(sender);
        threads.into_iter().for_each(|thread| drop(thread.join()));
        Drained { shared }
    }
}

/// A queue that has sent all its segments; it still takes the objects that describe them.
pub struct Drained {
    shared: Arc<Shared>,
}

impl Drained {
    /// Sends one more object and waits for it; the answer is where it is now.
    pub fn put(&self, object: &Object) -> StoredObject {
        self.shared.put(object)
    }

    /// What became of the objects so far.
    pub fn shipped(&self) -> Shipped {
        let state = self.shared.lock();
        let mut objects = state.objects.clone();
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Shipped {
            objects,
            failure: state.failure.clone(),
            spool_failure: state.spool_failure.clone(),
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another segment would find a place.
    fn open(&self) -> bool {
        let state = self.lock();
        state.failure.is_none() || (self.spool.is_some() && state.spool_failure.is_none())
    }

    fn send_all(&self, objects: &Mutex<(Receiver<Object>, u64)>) {
        while let Some((number, object)) = self.next(objects) {
            let stored = self.put(&object);
            let mut state = self.lock();
            state.under_way.remove(&number);
            state.objects.push(stored);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The next object and its number, once it may be sent; `None` when there will be no more.
    fn next(&self, objects: &Mutex<(Receiver<Object>, u64)>) -> Option<(u64, Object)> {
        let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
        let object = objects.0.recv().ok()?;
        let number = objects.1;
        objects.1 += 1;
        let mut state = self.lock();
        state.under_way.insert(number);
        let ahead = |state: &mut State| {
            state
                .under_way
                .first()
                .is_some_and(|first| number >= first + WINDOW)
        };
        // Whoever waits here keeps the others from taking a later one.
        drop(
            self.changed
                .wait_while(state, ahead)
                .unwrap_or_else(PoisonError::into_inner),
        );
        Some((number, object))
    }

    /// Stores an object, or spools it, or gives it up: the answer says which.
    fn put(&self, object: &Object) -> StoredObject {
        let failed = self.lock().failure.is_some();
        if !failed {
            self.rate.wait(object.bytes.len() as u64);
            match self.store.put(object) {
                Ok(stored) => {
                    self.bytes.fetch_add(stored.bytes, Ordering::Relaxed);
                    return stored;
                }
                Err(error) => drop(self.lock().failure.get_or_insert(error)),
            }
        }
        let unshipped = object.unshipped();
        let Some(spool) = &self.spool else {
            return StoredObject {
                unread: Some("lost: the store failed and there is no --spool".to_owned()),
                ..unshipped
            };
        };
        match spool.put(object) {
            Ok(_) => StoredObject {
                unread: Some("in the spool".to_owned()),
                ..unshipped
            },
            Err(error) => {
                let lost = format!("lost: the store failed, and the spool too: {error}");
                self.lock().spool_failure.get_or_insert(error);
                StoredObject {
                    unread: Some(lost),
                    ..unshipped
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;
    use std::time::Duration;

    use super::*;
    use crate::ship::Readiness;

    /// Keeps the first object until it is told to let go, and tells of each that it is given.
    struct Slow {
        release: Mutex<Receiver<()>>,
        given: Mutex<Sender<String>>,
    }

    impl Store for Slow {
        fn kind(&self) -> &'static str {
            "slow"
        }

        fn place(&self) -> String {
            String::new()
        }

        fn prepare(&self) -> Result<Readiness, ShipError> {
            Ok(Readiness::default())
        }

        fn put(&self, object: &Object) -> Result<StoredObject, ShipError> {
            self.given.lock().unwrap().send(object.key.clone()).unwrap();
            if object.key == "0" {
                self.release.lock().unwrap().recv().unwrap();
            }
            Ok(StoredObject {
                shipped: true,
                ..object.unshipped()
            })
        }
    }

    #[test]
    fn nothing_is_sent_far_ahead_of_a_segment_that_is_not_stored() {
        let (release, held) = std::sync::mpsc::channel();
        let (given, seen) = std::sync::mpsc::channel();
        let store = Slow {
            release: Mutex::new(held),
            given: Mutex::new(given),
        };
        let queue = Queue::start(Arc::new(store), None, Rate::new(None)).unwrap();
        let mut take = queue.take();
        let writer = thread::spawn(move || {
            (0..20).for_each(|number| {
                let bytes = vec![number];
                let sha256 = evidence::Digest::of(&bytes);
                assert!(take(Segment {
                    key: number.to_string(),
                    bytes,
                    sha256
                }));
            });
        });
        let mut early = Vec::new();
        while let Ok(key) = seen.recv_timeout(Duration::from_millis(300)) {
            early.push(key);
        }
        early.sort();
        assert_eq!(early, ["0", "1", "2", "3"]);
        release.send(()).unwrap();
        writer.join().unwrap();
        assert_eq!(queue.drain().shipped().objects.len(), 20);
    }
}
