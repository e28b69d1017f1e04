//! *clock*: what the host thinks the time is, and how sure the kernel is of it.

use serde::Serialize;

use super::{Artifact, CaptureError, Sink, Spec, Volatility};
use crate::host::{Discipline, Host, SMALL, clock_discipline, clocks};
use crate::text::rfc3339;

/// The host's clock. Its offset against the store's clock stands in the manifest.
pub struct Clock;

static SPEC: Spec = Spec {
    name: "clock",
    volatility: Volatility::System,
    what: "the three clocks, the state of time synchronisation, the hardware clock, the time zone",
    why: "every time in the evidence is a claim of this clock",
    deadline_s: 30,
    max_bytes: 16 << 20,
};

#[derive(Serialize)]
struct Record {
    utc: String,
    utc_ns: i64,
    monotonic_ns: i64,
    boottime_ns: i64,
    discipline: Option<Discipline>,
    clock_source: Option<String>,
    /// Seconds since the epoch of the hardware clock, and how far the system clock is from it.
    hardware_clock_s: Option<i64>,
    system_minus_hardware_s: Option<i64>,
    time_zone_link: Option<String>,
    time_zone: Option<String>,
}

impl Artifact for Clock {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        let now = clocks();
        let hardware = host
            .line("sys/class/rtc/rtc0/since_epoch")
            .and_then(|seconds| seconds.parse().ok());
        let link = host.root().read_link("etc/localtime").ok();
        let record = Record {
            utc: rfc3339(now.utc_ns),
            utc_ns: now.utc_ns,
            monotonic_ns: now.monotonic_ns,
            boottime_ns: now.boottime_ns,
            discipline: host.is_live().then(clock_discipline).flatten(),
            clock_source: host
                .line("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            hardware_clock_s: hardware,
            system_minus_hardware_s: hardware
                .map(|hardware: i64| now.utc_ns / 1_000_000_000 - hardware),
            time_zone_link: link.map(|link| String::from_utf8_lossy(&link).into_owned()),
            time_zone: host.line("etc/timezone"),
        };
        let adjtime = std::path::Path::new("/etc/adjtime");
        match host.root().read(adjtime, SMALL) {
            Err(error) if error.is_gone() => {}
            content => sink.raw(adjtime, &content)?,
        }
        Ok(sink.record("system/clock", &record)?)
    }
}
