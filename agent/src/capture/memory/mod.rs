//! *memory*: physical memory.

use crate::host::Host;

/// RAM in bytes, as the kernel counts what it manages (`MemTotal` of `/proc/meminfo`); 0 when it does not say.
pub fn managed_bytes(host: &Host) -> u64 {
    let line = host.line("proc/meminfo").unwrap_or_default();
    let kib = line
        .strip_prefix("MemTotal:")
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib.saturating_mul(1 << 10))
}
