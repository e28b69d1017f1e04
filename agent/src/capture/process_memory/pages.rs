//! Which pages of a mapping are there: `/proc/PID/pagemap`, and the data of files by their holes.

use std::ops::Range;

use crate::bundle::all_zero;
use crate::capture::Halt;
use crate::host::{HostError, HostFile};

/// Bytes of pagemap that are read in one go: eight for a page.
const PIECE: u64 = 1 << 20;

/// What pagemap says of a page (`Documentation/admin-guide/mm/pagemap.rst`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    fn is_swapped(self) -> bool {
        self.0 >> 62 & 1 == 1
    }

    /// Whether it is in memory or in swap.
    pub fn is_there(self) -> bool {
        self.0 >> 62 != 0
    }

    /// Whether it is there and nobody's but the process's own: no page of a file, no shared memory.
    pub fn is_own(self) -> bool {
        self.is_there() && self.0 >> 61 & 1 == 0
    }
}

/// Parts of a mapping that are stored, ascending. When they are too many, small gaps between them are stored as well.
pub struct Runs {
    list: Vec<Range<u64>>,
    most: usize,
    page: u64,
    /// The largest gap that is stored; `None` where nothing but the runs may be read.
    gap: Option<u64>,
    /// Bytes that had no place.
    pub dropped: u64,
}

impl Runs {
    /// At most `most` runs, unless gaps must not be read: then what comes later is dropped.
    pub fn new(most: usize, page: u64, may_join: bool) -> Self {
        Self {
            list: Vec::new(),
            most: most.max(1),
            page,
            gap: may_join.then_some(0),
            dropped: 0,
        }
    }

    pub fn push(&mut self, run: Range<u64>) {
        let gap = self.gap.unwrap_or(0);
        match self.list.last_mut() {
            Some(last) if run.start <= last.end.saturating_add(gap) => {
                last.end = last.end.max(run.end);
            }
            _ => self.list.push(run),
        }
        while self.list.len() > self.most {
            match self.gap {
                Some(gap) => self.join((2 * gap).max(self.page)),
                None => {
                    let last = self.list.pop().unwrap_or_default();
                    self.dropped += last.end - last.start;
                }
            }
        }
    }

    fn join(&mut self, gap: u64) {
        self.gap = Some(gap);
        self.list.dedup_by(|next, last| {
            let close = next.start <= last.end.saturating_add(gap);
            if close {
                last.end = last.end.max(next.end);
            }
            close
        });
    }

    /// These runs and those of `other`.
    pub fn with(self, other: Self) -> Self {
        let mut both = Self::new(self.most, self.page, self.gap.is_some());
        both.dropped = self.dropped + other.dropped;
        let mut all = self.list;
        all.extend(other.list);
        all.sort_unstable_by_key(|run| run.start);
        all.into_iter().for_each(|run| both.push(run));
        both
    }

    pub fn into_list(self) -> Vec<Range<u64>> {
        self.list
    }
}

/// Adds the pages of `range` that `wanted` names to `runs`; the answer is how many of them are in swap.
///
/// # Errors
/// As the kernel says, inside; when the artifact has to end, outside.
pub fn scan(
    pagemap: &HostFile,
    range: Range<u64>,
    page: u64,
    wanted: impl Fn(Entry) -> bool,
    runs: &mut Runs,
    check: &dyn Fn() -> Result<(), Halt>,
) -> Result<Result<u64, HostError>, Halt> {
    let (mut buffer, mut swapped, mut at) = (Vec::new(), 0, range.start);
    while at < range.end {
        check()?;
        let want = ((range.end - at) / page * 8).min(PIECE);
        buffer = match pagemap.read_at(at / page * 8, usize::try_from(want).unwrap_or(0), buffer) {
            Ok(bytes) if bytes.len() < 8 => break,
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error)),
        };
        if !all_zero(&buffer) {
            for (number, entry) in (0_u64..).zip(entries(&buffer)) {
                if wanted(entry) {
                    let start = at + number * page;
                    runs.push(start..start + page);
                    swapped += u64::from(entry.is_swapped());
                }
            }
        }
        at += buffer.len() as u64 / 8 * page;
    }
    Ok(Ok(swapped))
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    let (entries, _) = bytes.as_chunks::<8>();
    entries.iter().map(|raw| Entry(u64::from_ne_bytes(*raw)))
}

/// Adds what of `range` is data of `file`, whose byte `offset` stands at the start of the range.
///
/// # Errors
/// As [`scan`].
pub fn data(
    file: &HostFile,
    range: Range<u64>,
    offset: u64,
    page: u64,
    runs: &mut Runs,
    check: &dyn Fn() -> Result<(), Halt>,
) -> Result<Result<(), HostError>, Halt> {
    let end = offset.saturating_add(range.end - range.start);
    let mut at = offset;
    while at < end {
        check()?;
        let start = match file.next_data(at) {
            Ok(Some(start)) if start < end => start.max(at) / page * page,
            Ok(_) => break,
            Err(error) => return Ok(Err(error)),
        };
        let hole = match file.next_hole(start) {
            Ok(hole) => hole.next_multiple_of(page).max(start + page).min(end),
            Err(error) => return Ok(Err(error)),
        };
        let address = |place: u64| range.start + place.saturating_sub(offset);
        runs.push(address(start)..address(hole));
        at = hole;
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    fn runs(most: usize, may_join: bool, pages: &[u64]) -> (Vec<Range<u64>>, u64) {
        let mut runs = Runs::new(most, PAGE, may_join);
        for page in pages {
            runs.push(page * PAGE..(page + 1) * PAGE);
        }
        let dropped = runs.dropped;
        (runs.into_list(), dropped)
    }

    #[test]
    fn neighbours_are_one_run() {
        let (list, _) = runs(10, true, &[1, 2, 3, 7]);
        assert_eq!(list, [PAGE..4 * PAGE, 7 * PAGE..8 * PAGE]);
    }

    #[test]
    fn too_many_runs_are_joined_over_the_smallest_gaps_or_dropped() {
        let pages = [0, 2, 10, 12, 100];
        let (list, dropped) = runs(3, true, &pages);
        assert_eq!(
            (list, dropped),
            (
                vec![0..3 * PAGE, 10 * PAGE..13 * PAGE, 100 * PAGE..101 * PAGE],
                0
            )
        );
        let scattered: Vec<u64> = (0..10_000).map(|n| 2 * n).collect();
        let (list, _) = runs(64, true, &scattered);
        assert!(list.len() <= 64 && list[list.len() - 1].end == 19_999 * PAGE);
        let (list, dropped) = runs(3, false, &pages);
        assert_eq!((list.len(), dropped), (3, 2 * PAGE));
    }

    #[test]
    fn two_lists_become_one() {
        let mut left = Runs::new(9, PAGE, true);
        left.push(0..PAGE);
        left.push(4 * PAGE..5 * PAGE);
        let mut right = Runs::new(9, PAGE, true);
        right.push(PAGE..2 * PAGE);
        right.push(3 * PAGE..6 * PAGE);
        assert_eq!(
            left.with(right).into_list(),
            [0..2 * PAGE, 3 * PAGE..6 * PAGE]
        );
    }

    #[test]
    fn entries_tell_own_pages_from_those_of_files() {
        let bytes: Vec<u8> = [1_u64 << 63, 1 << 63 | 1 << 61, 1 << 62, 0]
            .iter()
            .flat_map(|entry| entry.to_ne_bytes())
            .collect();
        let told: Vec<_> = entries(&bytes)
            .map(|entry| (entry.is_there(), entry.is_own(), entry.is_swapped()))
            .collect();
        assert_eq!(
            told,
            [
                (true, true, false),
                (true, false, false),
                (true, true, true),
                (false, false, false)
            ]
        );
    }
}
