//! Zeros that end a range: memory that nobody uses, or memory that was never read?
//!
//! LiME fills up with zeros what it could not deliver in time, and says nothing. So where the kernel shows the same
//! memory in another way, some of its pages are looked at again.

use super::image::RangeRecord;
use super::physical::{PAGE, Physical};
use crate::bundle::all_zero;

/// Zeros that are not looked at: every machine has as many.
const FEW: u64 = 1 << 20;
const SAMPLES: u64 = 256;
/// Of the samples, how many may have been written since the range was read.
const MAY_DIFFER: usize = 16;

/// The loss to count for a range that ends with zeros for which there is no good reason.
pub fn suspicion(record: &RangeRecord, physical: Option<&Physical<'_>>) -> Option<&'static str> {
    let (zeros, captured) = (record.trailing_zeros(), record.captured_bytes());
    if zeros < FEW {
        return None;
    }
    let Some(physical) = physical else {
        return (zeros >= captured / 4).then_some("truncated:zeros_at_the_end");
    };
    let first = record.range().first() + captured - zeros;
    let step = (zeros / SAMPLES / PAGE).max(1) * PAGE;
    let addresses = (first.next_multiple_of(PAGE)..first + zeros - PAGE)
        .step_by(usize::try_from(step).unwrap_or(usize::MAX));
    let in_use = addresses.filter(|address| {
        let page = physical.read(*address, PAGE as usize, Vec::new(), &mut Vec::new());
        page.is_ok_and(|page| !all_zero(&page))
    });
    (in_use.count() > MAY_DIFFER).then_some("truncated:zeros_for_memory_in_use")
}
