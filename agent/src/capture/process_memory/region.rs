//! The parts of a process's memory: what of each is in the core, what is not, and why.

use std::borrow::Cow;
use std::ops::Range;

use evidence::digest::Digest;
use nix::errno::Errno;

use super::core::Load;
use super::maps::Mapping;
use super::shared::Duplicate;

/// Why bytes are not in the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Never written, never read: zeros that no page stands for.
    Untouched,
    /// As in the file on disk.
    OnDisk,
    /// A hole of a file.
    Hole,
    /// Memory of a device: reading it may do something.
    Device,
    /// A program answers for pages that are not there: reading such a one may wait without end.
    Userfaultfd,
    /// Made by the kernel for all processes, such as `[vvar]`.
    KernelPage,
    /// Of a file that answers from elsewhere, and not in memory.
    NotResident,
    /// Refused by the kernel.
    Refused(Errno),
    /// No answer in time.
    TimedOut,
    /// The process ended, or runs another program.
    Ended,
    /// A limit ended the core, or the artifact.
    Cut,
}

impl Reason {
    /// The word in the table.
    pub fn word(self) -> Cow<'static, str> {
        match self {
            Self::Untouched => "untouched".into(),
            Self::OnDisk => "on_disk".into(),
            Self::Hole => "hole".into(),
            Self::Device => "device".into(),
            Self::Userfaultfd => "userfaultfd".into(),
            Self::KernelPage => "kernel_page".into(),
            Self::NotResident => "not_resident".into(),
            Self::Refused(errno) => format!("{errno:?}").into(),
            Self::TimedOut => "timed_out".into(),
            Self::Ended => "ended".into(),
            Self::Cut => "cut".into(),
        }
    }

    /// The kind of loss that it is, when it is one. That a core ended early is counted with the core.
    pub fn loss(self) -> Option<&'static str> {
        match self {
            Self::Userfaultfd => Some("skipped:userfaultfd"),
            Self::Refused(_) => Some("failed:unreadable"),
            Self::TimedOut => Some("timed_out:pages"),
            _ => None,
        }
    }
}

/// Bytes of a region that are zeros in the core, though they were to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    pub reason: Reason,
    pub range: Range<u64>,
}

/// A mapping, and what became of it.
#[derive(Debug)]
pub struct Region {
    pub mapping: Mapping,
    /// Which runs are its.
    pub runs: Range<usize>,
    /// Why what is in no run is not stored.
    pub rest: Reason,
    /// Bytes in too many pieces, which had to be left out of the runs.
    pub scattered: u64,
    /// Pages of the runs that were in swap.
    pub swapped: u64,
    /// Where runs of it are already.
    pub duplicates: Vec<Duplicate>,
    /// Bytes in the core that are the process's.
    pub stored: u64,
    /// Of what the core has of it, in the order of addresses; `None` when that was cut.
    pub sha256: Option<Digest>,
    pub absent: Vec<Absent>,
    /// Bytes that are absent as well, and not listed.
    pub more_absent: u64,
}

/// Most parts that are listed for one region; of what is beyond only the bytes are counted.
const MOST_ABSENT: usize = 256;

impl Region {
    pub fn new(mapping: Mapping, runs: Range<usize>, rest: Reason) -> Self {
        Self {
            mapping,
            runs,
            rest,
            scattered: 0,
            swapped: 0,
            duplicates: Vec::new(),
            stored: 0,
            sha256: None,
            absent: Vec::new(),
            more_absent: 0,
        }
    }

    /// Tells that `range` could not be had.
    pub fn lacks(&mut self, reason: Reason, range: Range<u64>) {
        let full = self.absent.len() >= MOST_ABSENT;
        match self.absent.last_mut() {
            Some(last) if last.reason == reason && last.range.end == range.start => {
                last.range.end = range.end;
            }
            _ if full => self.more_absent += range.end - range.start,
            _ => self.absent.push(Absent { reason, range }),
        }
    }

    /// Its runs among those of the process.
    pub fn own<'r>(&self, runs: &'r [Range<u64>]) -> &'r [Range<u64>] {
        runs.get(self.runs.clone()).unwrap_or_default()
    }

    /// Bytes that are stored with another region.
    pub fn duplicated(&self) -> u64 {
        self.duplicates.iter().map(|one| one.bytes).sum()
    }

    /// Bytes that are to be stored.
    pub fn planned(&self, runs: &[Range<u64>]) -> u64 {
        let own = self.own(runs).iter();
        own.map(|run| run.end - run.start).sum()
    }
}

/// The loads of a core: all of the address space, each run at the start of one.
pub fn loads<'p>(
    regions: &'p [Region],
    runs: &'p [Range<u64>],
) -> impl Iterator<Item = Load> + Clone + 'p {
    regions.iter().flat_map(move |region| {
        let (mapping, own) = (&region.mapping, region.own(runs));
        let flags = mapping.elf_flags();
        let first = own.first().map_or(mapping.end, |run| run.start);
        let before = (first > mapping.start).then_some(Load {
            address: mapping.start,
            memory: first - mapping.start,
            stored: 0,
            flags,
        });
        let ends = own.iter().skip(1).map(|next| next.start);
        let stored = own.iter().zip(ends.chain([mapping.end]));
        before.into_iter().chain(stored.map(move |(run, end)| Load {
            address: run.start,
            memory: end - run.start,
            stored: run.end - run.start,
            flags,
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64, runs: Range<usize>) -> Region {
        let mapping = Mapping {
            start,
            end,
            permissions: *b"rw-p",
            ..Mapping::default()
        };
        Region::new(mapping, runs, Reason::Untouched)
    }

    #[test]
    fn loads_cover_each_mapping_without_a_gap() {
        let runs = [0x2000..0x3000, 0x5000..0x7000, 0x8000..0x9000];
        let regions = [
            region(0x1000, 0x8000, 0..2),
            region(0x8000, 0xa000, 2..3),
            region(0xb000, 0xc000, 3..3),
        ];
        let told: Vec<_> = loads(&regions, &runs)
            .map(|load| (load.address, load.memory, load.stored))
            .collect();
        let want = [
            (0x1000, 0x1000, 0),
            (0x2000, 0x3000, 0x1000),
            (0x5000, 0x3000, 0x2000),
            (0x8000, 0x2000, 0x1000),
            (0xb000, 0x1000, 0),
        ];
        assert_eq!(told, want);
        assert_eq!(regions[0].planned(&runs), 0x3000);
    }

    #[test]
    fn what_is_lacking_is_joined_and_bounded() {
        let mut region = region(0, 1 << 30, 0..0);
        region.lacks(Reason::Ended, 0..4096);
        region.lacks(Reason::Ended, 4096..8192);
        region.lacks(Reason::Refused(Errno::EIO), 8192..12288);
        assert_eq!(region.absent.len(), 2);
        for page in 10..5000_u64 {
            region.lacks(Reason::TimedOut, page * 8192..page * 8192 + 4096);
        }
        assert_eq!(region.absent.len(), MOST_ABSENT);
        assert_eq!(region.more_absent, (4990 - 254) * 4096);
    }

    #[test]
    fn only_what_could_have_been_is_a_loss() {
        assert_eq!(Reason::Untouched.loss(), None);
        assert_eq!(Reason::OnDisk.loss(), None);
        assert_eq!(Reason::Device.loss(), None);
        assert_eq!(Reason::Cut.loss(), None);
        let refused = Reason::Refused(Errno::EIO);
        assert_eq!(refused.loss(), Some("failed:unreadable"));
    }
}
