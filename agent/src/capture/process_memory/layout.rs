//! What the core of a process will hold, laid down before a byte of it is read.

use std::collections::BTreeSet;
use std::ops::Range;

use super::backing::{Backings, Take};
use super::maps::{Mapping, Maps};
use super::pages::{Entry, Runs, data, scan};
use super::region::{Reason, Region};
use super::shared::Shared;
use crate::capture::Halt;
use crate::host::{HostError, HostFile};

/// Most runs of a process, each a program header: more are joined.
const MOST_RUNS: usize = 1 << 17;

/// The regions of a process, and the runs of pages that are stored.
#[derive(Default)]
pub struct Layout {
    pub regions: Vec<Region>,
    pub runs: Vec<Range<u64>>,
}

/// What is asked about pages.
pub struct Pages<'p> {
    pub pagemap: &'p HostFile,
    pub page: u64,
    pub check: &'p dyn Fn() -> Result<(), Halt>,
}

impl Pages<'_> {
    /// Lays out all of `maps`; `process` is its pid and start.
    ///
    /// # Errors
    /// When pages can not be asked for, inside; when the artifact has to end, outside.
    pub fn layout(
        &self,
        maps: &Maps,
        backings: &mut Backings<'_>,
        shared: &mut Shared,
        process: (i32, u64),
    ) -> Result<Result<Layout, HostError>, Halt> {
        let mut layout = Layout::default();
        let executable = maps.mappings.iter().filter(|mapping| mapping.has(b'x'));
        let programs: BTreeSet<File> = executable.map(file).collect();
        for (number, mapping) in maps.mappings.iter().enumerate() {
            (self.check)()?;
            let first = layout.runs.len();
            // Each mapping that follows may need one.
            let reserved = first + maps.mappings.len() - number;
            let most = MOST_RUNS.saturating_sub(reserved).max(1);
            let take = backings.take(mapping, maps.names.of(mapping));
            let found = match self.runs(mapping, &take, most, programs.contains(&file(mapping)))? {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            let mut region = Region::new(*mapping, first..first, rest(&take));
            region.swapped = found.swapped;
            region.scattered = found.runs.dropped;
            let runs = found.runs.into_list();
            let (runs, duplicates) = shared.split(mapping, runs, process);
            region.duplicates = duplicates;
            layout.runs.extend(runs);
            region.runs = first..layout.runs.len();
            layout.regions.push(region);
        }
        Ok(Ok(layout))
    }

    fn runs(
        &self,
        mapping: &Mapping,
        take: &Take,
        most: usize,
        is_program: bool,
    ) -> Result<Result<Found, HostError>, Halt> {
        let all = mapping.start..mapping.end;
        let gaps = !matches!(take, Take::Resident { gaps: false, .. });
        let mut runs = Runs::new(most, self.page, gaps);
        if matches!(take, Take::Own(Reason::OnDisk))
            && is_program
            && mapping.offset == 0
            && mapping.has(b'r')
        {
            // As the kernel does: by its headers a debugger knows which program or library it is.
            runs.push(mapping.start..mapping.start + self.page);
        }
        let swapped = match take {
            Take::Nothing(_) => Ok(0),
            Take::Whole => {
                runs.push(all);
                Ok(0)
            }
            // A huge reserve that nobody touched costs nothing.
            Take::Own(_) | Take::Resident { .. } if !mapping.has_pages => Ok(0),
            Take::Own(_) => self.scan(all, Entry::is_own, &mut runs)?,
            Take::Resident { .. } => self.scan(all, Entry::is_there, &mut runs)?,
            Take::File(file) => {
                let told = data(
                    file,
                    all.clone(),
                    mapping.offset,
                    self.page,
                    &mut runs,
                    self.check,
                )?;
                match told {
                    Ok(()) if mapping.is_shared() => Ok(0),
                    Ok(()) => {
                        let mut own = Runs::new(most, self.page, true);
                        let swapped = self.scan(all, Entry::is_own, &mut own)?;
                        runs = runs.with(own);
                        swapped
                    }
                    Err(error) => Err(error),
                }
            }
        };
        Ok(swapped.map(|swapped| Found { runs, swapped }))
    }

    fn scan(
        &self,
        range: Range<u64>,
        wanted: fn(Entry) -> bool,
        runs: &mut Runs,
    ) -> Result<Result<u64, HostError>, Halt> {
        scan(self.pagemap, range, self.page, wanted, runs, self.check)
    }
}

/// Device and inode.
type File = ((u32, u32), u64);

fn file(mapping: &Mapping) -> File {
    (mapping.device, mapping.inode)
}

struct Found {
    runs: Runs,
    swapped: u64,
}

/// Why what is not taken is not.
fn rest(take: &Take) -> Reason {
    match take {
        Take::Nothing(reason) | Take::Own(reason) | Take::Resident { rest: reason, .. } => *reason,
        Take::Whole => Reason::Untouched,
        Take::File(_) => Reason::Hole,
    }
}
