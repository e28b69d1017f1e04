//! For tests: a journal, and a process that can be killed before each act and each entry.

use evidence::custody::Custody;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::{Case, Event};

/// When all of it begins.
pub(super) const START: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

/// What outlives a process, and when it ends.
#[derive(Clone)]
pub(super) struct Mortal {
    pub(super) custody: Custody,
    pub(super) now: OffsetDateTime,
    /// Acts and entries until the process is killed.
    pub(super) left: Option<usize>,
}

/// The process is gone.
#[derive(Debug)]
pub(super) struct Killed;

impl Mortal {
    pub(super) fn new() -> Self {
        let mut new = Self {
            custody: Custody::new("IR-7".parse().unwrap()),
            now: START,
            left: None,
        };
        new.append(&Event::Opened { reason: "r".into() }).unwrap();
        new
    }

    /// One more thing that a kill can come before.
    pub(super) fn tick(&mut self) -> Result<(), Killed> {
        match &mut self.left {
            Some(0) => return Err(Killed),
            Some(left) => *left -= 1,
            None => {}
        }
        self.now += Duration::seconds(1);
        Ok(())
    }

    pub(super) fn append(&mut self, event: &Event) -> Result<(), Killed> {
        self.tick()?;
        let serde_json::Value::Object(event) = serde_json::to_value(event).unwrap() else {
            panic!("an event is an object")
        };
        let time = crate::custody::text_of(self.now);
        self.custody.append(&time, "ana", event).unwrap();
        Ok(())
    }

    pub(super) fn case(&self) -> Case {
        Case::of(self.custody.records()).unwrap()
    }
}
