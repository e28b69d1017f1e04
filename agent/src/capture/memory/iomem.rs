//! `/proc/iomem`: which physical addresses are RAM.

use evidence::lime::Range;

/// Why the map of memory is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IomemError {
    #[error("/proc/iomem shows every address as zero: CAP_SYS_ADMIN is missing")]
    Zeroed,
    #[error("/proc/iomem names no System RAM")]
    NoRam,
    #[error("line {line} of /proc/iomem is no range of addresses")]
    Line { line: usize },
    #[error("/proc/iomem names ranges of System RAM that overlap or do not ascend")]
    Order,
}

/// The ranges of `System RAM`, ascending.
///
/// Top-level resources are what LiME captures. Memory that a driver adds later stands below its device, as
/// `System RAM (kmem)` (drivers/dax/kmem.c), and is RAM as well.
pub fn ram(text: &str) -> Result<Vec<Range>, IomemError> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut zeroed = false;
    for (index, line) in text.lines().enumerate() {
        let Some((addresses, name)) = line.split_once(" : ") else {
            continue;
        };
        if !is_ram(name) {
            continue;
        }
        let wrong = IomemError::Line { line: index + 1 };
        let (first, last) = addresses.trim().split_once('-').ok_or(wrong)?;
        let address = |text| u64::from_str_radix(text, 16).map_err(|_| wrong);
        let (first, last) = (address(first)?, address(last)?);
        zeroed |= last == 0;
        let range = Range::new(first, last).ok_or(wrong)?;
        match ranges.last() {
            // A range within the one before, as of a driver that splits its own memory.
            Some(before) if range.last() <= before.last() && range.first() >= before.first() => {}
            Some(before) if range.first() <= before.last() => return Err(IomemError::Order),
            _ => ranges.push(range),
        }
    }
    match ranges.is_empty() {
        _ if zeroed => Err(IomemError::Zeroed),
        true => Err(IomemError::NoRam),
        false => Ok(ranges),
    }
}

fn is_ram(name: &str) -> bool {
    name == "System RAM" || name.starts_with("System RAM (")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Vec<(u64, u64)> {
        let ranges = ram(text).unwrap();
        ranges.iter().map(|r| (r.first(), r.last())).collect()
    }

    #[test]
    fn the_ranges_of_real_guests_are_found() {
        let small = include_str!("../../../tests/fixtures/memory/iomem.txt");
        assert_eq!(
            ranges(small),
            [(0x1000, 0x9_fbff), (0x10_0000, 0x1ffd_cfff)]
        );
        let big = include_str!("../../../tests/fixtures/memory/iomem-big.txt");
        let above = (0x1_0000_0000, 0x1_7fff_ffff);
        assert_eq!(
            ranges(big),
            [(0x1000, 0x9_fbff), (0x10_0000, 0x7ffd_ffff), above]
        );
    }

    #[test]
    fn memory_that_a_driver_added_is_ram_too() {
        let text = "00001000-00001fff : System RAM\n\
                    100000000-1ffffffff : Persistent Memory\n\
                    \x20 100000000-1ffffffff : dax0.0\n\
                    \x20   100000000-1ffffffff : System RAM (kmem)\n\
                    \x20     100000000-1000fffff : System RAM (kmem)\n";
        let added = (0x1_0000_0000, 0x1_ffff_ffff);
        assert_eq!(ranges(text), [(0x1000, 0x1fff), added]);
    }

    #[test]
    fn what_is_no_map_of_memory_is_refused() {
        let hidden = "00000000-00000000 : Reserved\n00000000-00000000 : System RAM\n";
        assert_eq!(ram(hidden), Err(IomemError::Zeroed));
        assert_eq!(ram(""), Err(IomemError::NoRam));
        assert_eq!(ram("1-2 : Kernel code\n"), Err(IomemError::NoRam));
        for wrong in ["x-y", "5", "9-5", "0-ffffffffffffffff", "-"] {
            let text = format!("{wrong} : System RAM\n");
            assert_eq!(ram(&text), Err(IomemError::Line { line: 1 }), "{wrong}");
        }
        let overlapping = "0-fff : System RAM\n800-17ff : System RAM\n";
        assert_eq!(ram(overlapping), Err(IomemError::Order));
    }
}
