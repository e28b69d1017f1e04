//! The lines of the tables `process_memory/processes` and `process_memory/regions`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use evidence::digest::Digest;
use evidence::inventory::Name;
use serde::Serialize;

use super::maps::Mapping;
use super::region::Region;
use super::shared::Duplicate;
use super::suspicion::Suspicion;
use crate::capture::processes::parse;

/// A process whose memory was chosen, and what became of it.
#[derive(Debug, Default, Serialize)]
pub struct ProcessRecord {
    pub pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_ticks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `pid`, `all`, `suspicious`.
    pub chosen_by: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suspicions: Vec<Suspicion>,
    /// `captured`, `partial`, or why there is nothing: `left_out`, `no_memory`, `vanished`, `denied`, `failed`.
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<Core>,
}

/// The core of a process.
#[derive(Debug, Serialize)]
pub struct Core {
    /// Its name in the tar.
    pub member: String,
    pub bytes: u64,
    pub regions: usize,
    /// Bytes of the process that are in it, and of those what had to be read back from swap.
    pub stored_bytes: u64,
    pub swapped_bytes: u64,
    /// Bytes of the address space that are not in it, by reason.
    pub not_stored_bytes: BTreeMap<String, u64>,
    pub threads: usize,
    /// Of those, how many waited, so that the program counter is known. All other registers are zeros.
    pub threads_with_program_counter: usize,
    /// Mappings beyond what is held, and names.
    #[serde(skip_serializing_if = "is_zero")]
    pub mappings_left_out: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub names_left_out: u64,
    /// Whether something was mapped, unmapped or protected while it was read.
    pub mappings_changed: bool,
    pub ended_meanwhile: bool,
    /// When reading began and ended, in nanoseconds since the epoch: the smear.
    pub started_utc_ns: i64,
    pub ended_utc_ns: i64,
}

/// A part of the address space.
#[derive(Debug, Serialize)]
pub struct RegionRecord<'a> {
    pid: i32,
    start_ticks: u64,
    start: String,
    end: String,
    bytes: u64,
    permissions: String,
    /// As the kernel writes it: of a file, or such as `[heap]`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    name: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File>,
    stored_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    swapped_bytes: u64,
    /// Of what the core has of it, in the order of addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    absent: Vec<AbsentRecord>,
    #[serde(skip_serializing_if = "no_duplicates")]
    duplicate_of: &'a [Duplicate],
}

#[derive(Debug, Serialize)]
struct File {
    device: String,
    inode: u64,
    offset: u64,
}

#[derive(Debug, Serialize)]
struct AbsentRecord {
    reason: String,
    bytes: u64,
    /// Where the core has zeros in place of what could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn no_duplicates(duplicates: &[Duplicate]) -> bool {
    duplicates.is_empty()
}

/// Bytes of `region` that are not stored, by reason, with their place where the core has zeros for them.
fn absent(region: &Region, runs: &[Range<u64>]) -> Vec<AbsentRecord> {
    let without = |reason: String, bytes: u64| AbsentRecord {
        reason,
        bytes,
        at: None,
    };
    let elsewhere = region.scattered + region.duplicated();
    let rest = region.mapping.len() - region.planned(runs) - elsewhere;
    let listed = region.absent.iter().map(|absent| AbsentRecord {
        reason: absent.reason.word().into_owned(),
        bytes: absent.range.end - absent.range.start,
        at: Some(format!("{:#x}", absent.range.start)),
    });
    [
        without(region.rest.word().into_owned(), rest),
        without("duplicate".to_owned(), region.duplicated()),
        without("scattered".to_owned(), region.scattered),
        without("unlisted".to_owned(), region.more_absent),
    ]
    .into_iter()
    .filter(|absent| absent.bytes > 0)
    .chain(listed)
    .collect()
}

/// The line for `region`.
pub fn region<'a>(
    (pid, start_ticks): (i32, u64),
    region: &'a Region,
    runs: &[Range<u64>],
    name: &[u8],
    page: u64,
) -> RegionRecord<'a> {
    let mapping = &region.mapping;
    RegionRecord {
        pid,
        start_ticks,
        start: format!("{:#x}", mapping.start),
        end: format!("{:#x}", mapping.end),
        bytes: mapping.len(),
        permissions: parse::text(&mapping.permissions),
        name: (!name.is_empty()).then(|| Name::of(name)),
        file: file(mapping),
        stored_bytes: region.stored,
        swapped_bytes: region.swapped * page,
        sha256: region.sha256,
        absent: absent(region, runs),
        duplicate_of: &region.duplicates,
    }
}

fn file(mapping: &Mapping) -> Option<File> {
    let (major, minor) = mapping.device;
    (mapping.inode != 0).then(|| File {
        device: format!("{major}:{minor}"),
        inode: mapping.inode,
        offset: mapping.offset,
    })
}

/// Bytes that are not stored, by reason, of all regions.
pub fn not_stored(regions: &[Region], runs: &[Range<u64>]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for absent in regions.iter().flat_map(|region| absent(region, runs)) {
        *sums.entry(absent.reason).or_default() += absent.bytes;
    }
    sums
}

/// The losses among what is not stored.
pub fn losses(regions: &[Region]) -> BTreeSet<&'static str> {
    let mut losses = BTreeSet::new();
    for region in regions {
        losses.extend(region.rest.loss());
        losses.extend((region.scattered > 0).then_some("truncated:scattered"));
        losses.extend(
            region
                .absent
                .iter()
                .filter_map(|absent| absent.reason.loss()),
        );
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::super::region::Reason;
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn a_line_tells_what_is_stored_and_what_is_not() {
        let mapping = Mapping {
            start: 0x1000,
            end: 0x9000,
            offset: 0x2000,
            device: (8, 1),
            inode: 5,
            permissions: *b"r-xp",
            ..Mapping::default()
        };
        let runs: Vec<Range<u64>> = std::iter::once(0x2000..0x4000).collect();
        let mut part = Region::new(mapping, 0..1, Reason::OnDisk);
        part.stored = 0x1000;
        part.sha256 = Some(Digest::of(b""));
        part.lacks(Reason::Refused(Errno::EIO), 0x3000..0x4000);
        let line = serde_json::to_value(region((7, 99), &part, &runs, b"/a\xff", 4096)).unwrap();
        let want = serde_json::json!({
            "pid": 7, "start_ticks": 99, "start": "0x1000", "end": "0x9000", "bytes": 0x8000,
            "permissions": "r-xp", "path_b64": "L2H/",
            "file": { "device": "8:1", "inode": 5, "offset": 0x2000 },
            "stored_bytes": 0x1000, "sha256": Digest::of(b"").to_string(),
            "absent": [
                { "reason": "on_disk", "bytes": 0x6000 },
                { "reason": "EIO", "bytes": 0x1000, "at": "0x3000" },
            ],
        });
        assert_eq!(line, want);
        let parts = [part];
        assert_eq!(not_stored(&parts, &runs)["on_disk"], 0x6000);
        assert_eq!(
            losses(&parts).into_iter().collect::<Vec<_>>(),
            ["failed:unreadable"]
        );
    }
}
