//! Memory that several processes share is stored with the first of them; the others point at it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use super::maps::Mapping;

/// Most stored parts that are remembered, of one file and of all. What is beyond may be stored again.
const MOST_OF_FILE: usize = 1 << 10;
const MOST: usize = 1 << 16;

/// Where the same bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    pub pid: i32,
    pub start_ticks: u64,
    /// First address there.
    pub address: String,
    pub bytes: u64,
}

struct Held {
    /// Offsets in the file.
    range: Range<u64>,
    pid: i32,
    start_ticks: u64,
    address: u64,
}

/// Shared memory that is in a core already, by device and inode.
#[derive(Default)]
pub struct Shared {
    held: BTreeMap<((u32, u32), u64), Vec<Held>>,
    count: usize,
}

impl Shared {
    /// The runs of `mapping` that are in no core yet, which are remembered for this process; and where the others are.
    pub fn split(
        &mut self,
        mapping: &Mapping,
        mut runs: Vec<Range<u64>>,
        (pid, start_ticks): (i32, u64),
    ) -> (Vec<Range<u64>>, Vec<Duplicate>) {
        if !mapping.is_shared() || mapping.inode == 0 {
            return (runs, Vec::new());
        }
        let held = self
            .held
            .entry((mapping.device, mapping.inode))
            .or_default();
        let mut duplicates = Vec::new();
        for held in held.iter() {
            runs = without(runs, held, mapping, &mut duplicates);
        }
        let room = MOST_OF_FILE
            .saturating_sub(held.len())
            .min(MOST.saturating_sub(self.count));
        self.count += runs.len().min(room);
        held.extend(runs.iter().take(room).map(|run| {
            let offset = mapping.offset + (run.start - mapping.start);
            Held {
                range: offset..offset + (run.end - run.start),
                pid,
                start_ticks,
                address: run.start,
            }
        }));
        (runs, duplicates)
    }

    /// The core of this process is not whole: nobody may point at it.
    pub fn forget(&mut self, pid: i32) {
        for held in self.held.values_mut() {
            held.retain(|held| held.pid != pid);
        }
        self.held.retain(|_, held| !held.is_empty());
        self.count = self.held.values().map(Vec::len).sum();
    }
}

/// What of `runs` is not `held`; what is goes to `duplicates`.
fn without(
    runs: Vec<Range<u64>>,
    held: &Held,
    mapping: &Mapping,
    duplicates: &mut Vec<Duplicate>,
) -> Vec<Range<u64>> {
    // Where the held part would stand in this mapping.
    let address = |offset: u64| {
        let offset = offset.max(mapping.offset);
        mapping.start.saturating_add(offset - mapping.offset)
    };
    let (start, end) = (address(held.range.start), address(held.range.end));
    let mut left = Vec::with_capacity(runs.len());
    for run in runs {
        let (from, to) = (run.start.max(start), run.end.min(end));
        if from >= to {
            left.push(run);
            continue;
        }
        let offset = mapping.offset + (from - mapping.start);
        point(duplicates, held, offset, to - from);
        left.extend(
            [run.start..from, to..run.end]
                .into_iter()
                .filter(|part| !part.is_empty()),
        );
    }
    left
}

/// Points at `bytes` bytes in `held` from this offset of the file; once for each process.
fn point(duplicates: &mut Vec<Duplicate>, held: &Held, offset: u64, bytes: u64) {
    match duplicates.iter_mut().find(|known| known.pid == held.pid) {
        Some(known) => known.bytes += bytes,
        None => duplicates.push(Duplicate {
            pid: held.pid,
            start_ticks: held.start_ticks,
            address: format!("{:#x}", held.address + (offset - held.range.start)),
            bytes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, length: u64, offset: u64) -> Mapping {
        Mapping {
            start,
            end: start + length,
            offset,
            inode: 5,
            permissions: *b"rw-s",
            ..Mapping::default()
        }
    }

    fn one(range: Range<u64>) -> Vec<Range<u64>> {
        std::iter::once(range).collect()
    }

    #[test]
    fn what_is_stored_once_is_pointed_at() {
        let mut shared = Shared::default();
        let first = mapping(0x10_000, 0x10_000, 0x1000);
        let whole = one(0x10_000..0x14_000);
        assert_eq!(
            shared.split(&first, whole.clone(), (7, 99)),
            (whole, Vec::new())
        );
        // The file from 0x3000 on: two of four pages are stored, and the rest is with this one from now on.
        let second = mapping(0x70_000, 0x4000, 0x3000);
        let all = || one(0x70_000..0x74_000);
        let duplicate = Duplicate {
            pid: 7,
            start_ticks: 99,
            address: "0x12000".to_owned(),
            bytes: 0x2000,
        };
        assert_eq!(
            shared.split(&second, all(), (8, 100)),
            (one(0x72_000..0x74_000), vec![duplicate])
        );
        let (left, duplicates) = shared.split(&second, all(), (9, 101));
        assert!(left.is_empty());
        let pids: Vec<_> = duplicates.iter().map(|one| (one.pid, one.bytes)).collect();
        assert_eq!(pids, [(7, 0x2000), (8, 0x2000)]);
        shared.forget(7);
        shared.forget(8);
        assert_eq!(shared.split(&second, all(), (9, 101)).0, all());
    }

    #[test]
    fn private_memory_and_other_files_have_nothing_to_do_with_it() {
        let mut shared = Shared::default();
        let first = mapping(0x10_000, 0x10_000, 0);
        let runs = || one(0x10_000..0x20_000);
        shared.split(&first, runs(), (7, 99));
        let private = Mapping {
            permissions: *b"rw-p",
            ..first
        };
        let other = Mapping { inode: 6, ..first };
        for mapping in [private, other] {
            assert_eq!(shared.split(&mapping, runs(), (8, 1)), (runs(), Vec::new()));
        }
    }

    #[test]
    fn only_so_many_parts_are_remembered() {
        let mut shared = Shared::default();
        let whole = mapping(0, 1 << 30, 0);
        let scattered = |count: u64| (0..count).map(|n| n << 13..(n << 13) + 4096).collect();
        let (left, _) = shared.split(&whole, scattered(3000), (7, 1));
        assert_eq!(left.len(), 3000);
        let (left, duplicates) = shared.split(&whole, scattered(3000), (8, 1));
        assert_eq!(left.len(), 3000 - MOST_OF_FILE);
        assert_eq!(duplicates[0].bytes, (MOST_OF_FILE as u64) << 12);
    }
}
