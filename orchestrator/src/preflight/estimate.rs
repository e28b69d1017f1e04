//! What a collection may take at most: time, memory, requests, snapshots; and money, where prices are configured.

use std::collections::BTreeMap;

use evidence::segment;

use crate::collect;
use crate::config::Cost;

/// Quantities of one or many instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Estimate {
    pub(super) instances: usize,
    /// Memory of all, and of the largest, in bytes.
    pub(super) memory: u64,
    pub(super) largest: u64,
    /// PUT requests of the segments of memory, if nothing of it can be compressed.
    pub(super) puts: u64,
    pub(super) snapshots_gib: u64,
}

impl Estimate {
    /// Adds an instance with so much memory (0: unknown) and such volumes.
    pub(super) fn add(&mut self, memory: u64, volumes_gib: u64) {
        self.instances += 1;
        self.memory += memory;
        self.largest = self.largest.max(memory);
        let segment = u64::try_from(segment::target_bytes(memory)).unwrap_or(u64::MAX);
        self.puts += memory.div_ceil(segment.max(1));
        self.snapshots_gib += volumes_gib;
    }

    /// For the table.
    pub(super) fn text(&self, cost: Option<&Cost>) -> String {
        let minutes = collect::run_within(self.largest) / 60;
        let gib = self.memory >> 30;
        let text = format!(
            "{} instances, {minutes} minutes at most (the largest has {} GiB of memory); at most {gib} GiB of memory in \
             {} PUT requests, {} GiB of snapshots",
            self.instances,
            self.largest >> 30,
            self.puts,
            self.snapshots_gib
        );
        match cost {
            Some(cost) => format!(
                "{text}; {} {:.2} for a month at most",
                cost.currency,
                self.month(cost)
            ),
            None => text,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "an amount of money, rounded to cents"
    )]
    fn month(&self, cost: &Cost) -> f64 {
        let gib = self.memory as f64 / f64::from(1 << 30);
        gib * cost.s3_gib_month
            + self.puts as f64 / 1000.0 * cost.s3_thousand_puts
            + self.snapshots_gib as f64 * cost.snapshot_gib_month
    }
}

/// Memory of a type, in bytes; 0 when EC2 does not tell.
pub(super) fn memory_of(types: &BTreeMap<String, u64>, name: &str) -> u64 {
    types.get(name).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_add_up_and_prices_make_an_amount() {
        let mut estimate = Estimate::default();
        estimate.add(8 << 30, 100);
        estimate.add(64 << 30, 100);
        estimate.add(0, 0);
        assert_eq!(estimate.puts, (72 << 30) / (8 << 20));
        let text = estimate.text(None);
        for part in [
            "3 instances, 114 minutes at most",
            "64 GiB of memory)",
            "72 GiB of memory in 9216 PUT requests",
            "200 GiB of snapshots",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let cost = Cost {
            currency: "EUR".into(),
            s3_gib_month: 0.5,
            s3_thousand_puts: 1.0,
            snapshot_gib_month: 0.25,
        };
        let text = estimate.text(Some(&cost));
        assert!(text.ends_with("; EUR 95.22 for a month at most"), "{text}");
    }

    #[test]
    fn larger_hosts_have_larger_segments() {
        let mut estimate = Estimate::default();
        estimate.add(1 << 40, 0);
        assert_eq!(estimate.puts, (1 << 40) / (64 << 20));
    }
}
