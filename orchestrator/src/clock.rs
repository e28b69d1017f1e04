//! The one place that asks what time it is.

use time::OffsetDateTime;

/// Now, in UTC, to the second: what the journal can write and read back.
#[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
pub(crate) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}
