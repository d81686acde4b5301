//! What a fault was planned from may change before it is carried out (D5, check 2).
//!
//! A change of the map counts itself in the regions it covers, before its first lock of a table; a
//! fault notes the count of its region while it looks at the area, and compares it under the lock
//! of the table that it links or installs in. Regions share counts, so that a fault may be planned
//! again for nothing; it never goes on with an area that has been replaced.

use sync::atomic::{AtomicU64, Ordering};
use sync::planted::{self, Fault};

/// Counts; one for each 2 MiB in turn, so that a change beside a fault does not disturb it.
const COUNTS: usize = 64;
const REGION_SHIFT: u32 = 21;

/// The counts of a space.
#[derive(Debug)]
pub(crate) struct Epochs([AtomicU64; COUNTS]);

impl Epochs {
    pub(crate) fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Retires whatever was planned from areas in `[start, end)`. The caller holds the map's lock.
    pub(crate) fn retire(&self, start: u64, end: u64) {
        if planted::is(Fault::RetireNothing) {
            return;
        }
        let first = start >> REGION_SHIFT;
        let regions = (end.saturating_sub(1) >> REGION_SHIFT) - first + 1;
        for region in first..first + regions.min(COUNTS as u64) {
            self.of(region).fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The count for `va`, acquire.
    #[inline(always)]
    pub(crate) fn at(&self, va: u64) -> u64 {
        self.of(va >> REGION_SHIFT).load(Ordering::Acquire)
    }

    #[inline(always)]
    fn of(&self, region: u64) -> &AtomicU64 {
        &self.0[region as usize % COUNTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: u64 = 1 << REGION_SHIFT;

    #[test]
    fn a_change_retires_its_regions_and_leaves_its_neighbours() {
        let epochs = Epochs::new();
        epochs.retire(3 * REGION + 4096, 5 * REGION);
        let moved: Vec<u64> = (0..8).map(|region| epochs.at(region * REGION)).collect();
        assert_eq!(moved, [0, 0, 0, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn a_change_of_everything_retires_everything() {
        let epochs = Epochs::new();
        epochs.retire(0, 1 << 48);
        assert!((0..COUNTS as u64).all(|region| epochs.at(region * REGION) == 1));
    }
}
