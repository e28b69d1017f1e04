//! How much of the host a run may use.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::host;

/// Keeps the CPU time of the process below a share of the time that passed.
pub struct Throttle {
    started: Instant,
    /// Share of one core, in percent.
    cpu_percent: Option<u32>,
}

impl Throttle {
    /// A throttle at `cpu_percent` of one core; `None` for no limit.
    pub fn new(cpu_percent: Option<u32>) -> Self {
        Self {
            started: Instant::now(),
            cpu_percent,
        }
    }

    /// Sleeps as long as the process is ahead of its share, half a second at most.
    pub fn pause(&self) {
        let Some(percent) = self.cpu_percent else {
            return;
        };
        let usage = host::usage();
        let used = Duration::from_micros(usage.cpu_user_us + usage.cpu_system_us);
        let due = used * 100 / percent.max(1);
        let ahead = due.saturating_sub(self.started.elapsed());
        if ahead > Duration::from_millis(5) {
            thread::sleep(ahead.min(Duration::from_millis(500)));
        }
    }
}

/// Keeps the bytes sent below a rate.
pub struct Rate {
    bytes_per_second: Option<u64>,
    next: Mutex<Instant>,
}

impl Rate {
    /// A limit of `bytes_per_second`; `None` for no limit.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            bytes_per_second,
            next: Mutex::new(Instant::now()),
        }
    }

    /// Sleeps until `bytes` may be sent.
    pub fn wait(&self, bytes: u64) {
        thread::sleep(self.reserve(bytes, Instant::now()));
    }

    /// How long a sender of `bytes` has to wait at `now`; its share is taken.
    fn reserve(&self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.bytes_per_second else {
            return Duration::ZERO;
        };
        let Ok(mut next) = self.next.lock() else {
            return Duration::ZERO;
        };
        let start = (*next).max(now);
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        *next = start + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        start.saturating_duration_since(now)
    }
}

/// A time such as `90s`, `15m`, `2h` or `3d`.
///
/// # Errors
/// What is wanted.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err("want a number with s, m, h or d".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "want a number with s, m, h or d")?;
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(|| "too long".to_owned())
}

/// A number of bytes such as `512`, `20M` or `8G`, in powers of 1024.
///
/// # Errors
/// What is wanted.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err("want a number with K, M, G or T (powers of 1024)".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "want a number with K, M, G or T (powers of 1024)")?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_share_one_rate() {
        let rate = Rate::new(Some(1000));
        let now = Instant::now() + Duration::from_secs(60);
        assert_eq!(rate.reserve(500, now), Duration::ZERO);
        assert_eq!(rate.reserve(2000, now), Duration::from_millis(500));
        assert_eq!(rate.reserve(1, now), Duration::from_millis(2500));
        assert_eq!(Rate::new(None).reserve(u64::MAX, now), Duration::ZERO);
    }

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(
            (size("512"), size("8G"), size("1KiB")),
            (Ok(512), Ok(8 << 30), Ok(1024))
        );
        assert_eq!(
            (duration("90s"), duration("2h")),
            (Ok(Duration::from_secs(90)), Ok(Duration::from_secs(7200)))
        );
        for wrong in [
            "",
            "x",
            "-1",
            "1X",
            "0",
            "99999999999999999999",
            "99999999T",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(duration("1w").is_err() && duration("").is_err());
    }
}
