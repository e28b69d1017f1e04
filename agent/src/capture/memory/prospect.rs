//! Which way to memory would work, found out without changing anything.

use std::time::Instant;

use evidence::lime::Range;
use serde::Serialize;

use super::physical::{OpenError, Physical, piece};
use super::{Memory, Way, ram, refused, sum};
use crate::host::{Host, HostError};

/// What each way promises, for who asks before.
#[derive(Debug, Serialize)]
pub struct Prospect {
    /// Bytes of System RAM, when they are known.
    pub ram_bytes: Option<u64>,
    /// Why they are not.
    pub ram_unknown: Option<String>,
    pub ways: Vec<WayProspect>,
}

/// What one way promises.
#[derive(Debug, Serialize)]
pub struct WayProspect {
    pub name: &'static str,
    /// Why it would not work; absent when nothing speaks against it.
    pub why_not: Option<String>,
    /// Seconds that reading all of memory takes at the speed of a sample, hashing and sending aside.
    pub seconds: Option<f64>,
}

impl Prospect {
    /// Whether one of the ways promises an image.
    pub fn works(&self) -> bool {
        self.ram_bytes.is_some() && self.ways.iter().any(|way| way.why_not.is_none())
    }
}

impl Memory {
    /// Which way would work, found out without changing anything.
    pub fn check(&self, host: &Host) -> Prospect {
        let ranges = ram(host);
        let bytes = ranges.as_ref().map_or(0, |ranges| sum(ranges));
        let known = ranges.as_deref().unwrap_or_default();
        let of_file = |opened: Result<Physical<'_>, OpenError>| {
            let sampled = opened.and_then(|physical| {
                physical.probe(known)?;
                Ok(sample(&physical, known.last())?)
            });
            match sampled {
                Ok(speed) => (None, speed.map(|speed| bytes as f64 / speed)),
                Err(error) => (Some(refused(host, &error).why), None),
            }
        };
        let way = |way: &Way| {
            let (why_not, seconds) = match way {
                Way::Lime => (self.module(host).err().map(|refusal| refusal.why), None),
                Way::Kcore => of_file(Physical::kcore(host)),
                Way::Crash => of_file(Physical::crash(host)),
            };
            WayProspect {
                name: way.name(),
                why_not,
                seconds,
            }
        };
        Prospect {
            ways: self.ways().iter().map(way).collect(),
            ram_bytes: ranges.is_ok().then_some(bytes),
            ram_unknown: ranges.err().map(|error| error.to_string()),
        }
    }
}

/// Bytes a second at which the start of `range` is read; `None` when there is too little of it to tell.
fn sample(physical: &Physical<'_>, range: Option<&Range>) -> Result<Option<f64>, HostError> {
    const SAMPLE: u64 = 64 << 20;
    let Some(range) = range else { return Ok(None) };
    let (started, mut bytes, mut holes) = (Instant::now(), Vec::new(), Vec::new());
    let length = range.len().min(SAMPLE);
    let mut done = 0;
    while done < length {
        let want = piece(length - done);
        bytes = physical.read(range.first() + done, want, bytes, &mut holes)?;
        done += want as u64;
    }
    Ok((length == SAMPLE).then(|| length as f64 / started.elapsed().as_secs_f64()))
}
