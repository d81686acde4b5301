//! Who gets which physical memory at boot.

use arm64::addr::PAGE_SIZE;

use crate::fdt::TagRefusal;

use super::{List, MAX_BANKS, MAX_RESERVED, Region, Reserved, ReservedKind};

/// RAM held back is a multiple of this, so that its direct map is made of whole blocks and its
/// metadata of whole pages.
const HOLD_UNIT: u64 = 2 << 20;
/// RAM that must be left when some is held back.
const HOLD_LEAVES: u64 = 64 << 20;
/// Bytes of metadata per frame (the `frame` crate's `FrameMeta`).
pub const META_SIZE: u64 = 64;

/// Why the memory of the machine cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlanError {
    /// More reserved ranges than there is room to note.
    TooManyReserved,
    /// No free range of this many bytes.
    NotEnough {
        /// Bytes asked for.
        bytes: u64,
    },
}

/// RAM and what is taken of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// RAM in use, ascending, not overlapping.
    pub banks: List<Region, MAX_BANKS>,
    /// Taken ranges.
    pub reserved: List<Reserved, MAX_RESERVED>,
    /// RAM held back.
    pub held: Option<Region>,
}

impl Plan {
    /// Starts from banks as the device tree gives them: sorted, cut to whole pages and to
    /// addresses below `limit`, overlaps merged.
    pub fn new(given: &[Region], limit: u64) -> Self {
        let mut sorted = List::<Region, MAX_BANKS>::new();
        for bank in given {
            let bank = Region::new(bank.start, bank.end.min(limit)).inward();
            if !bank.is_empty() {
                let _more_banks_than_we_use = sorted.push(bank);
            }
        }
        sorted
            .as_mut_slice()
            .sort_unstable_by_key(|bank| bank.start);
        let mut banks = List::<Region, MAX_BANKS>::new();
        for &bank in sorted.iter() {
            match banks.as_mut_slice().last_mut() {
                Some(last) if bank.start <= last.end => last.end = last.end.max(bank.end),
                _ => {
                    let _fits_as_sorted_did = banks.push(bank);
                }
            }
        }
        Self {
            banks,
            reserved: List::new(),
            held: None,
        }
    }

    /// Bytes of RAM in use.
    pub fn total(&self) -> u64 {
        self.banks.iter().map(Region::len).sum()
    }

    /// Notes that a range is taken, widened to whole pages. Empty ranges are ignored.
    pub fn reserve(&mut self, region: Region, kind: ReservedKind) -> Result<(), PlanError> {
        let region = region.outward();
        if region.is_empty() {
            return Ok(());
        }
        self.reserved
            .push(Reserved { region, kind })
            .map_err(|_| PlanError::TooManyReserved)
    }

    /// Notes that a range is tag storage, if it is RAM that nobody has yet.
    ///
    /// # Errors
    /// [`TagRefusal`].
    pub fn reserve_tag_storage(&mut self, region: &Region) -> Result<(), TagRefusal> {
        if !self.is_ram(region) {
            return Err(TagRefusal::NotRam);
        }
        if self.first_overlap(region).is_some() {
            return Err(TagRefusal::Taken);
        }
        self.reserve(*region, ReservedKind::TagStorage)
            .map_err(|_| TagRefusal::TooMany)
    }

    /// Notes the parts of a range that are RAM and not noted already: firmware may name what is
    /// none of it, and a device tree may list itself and the initrd.
    pub fn reserve_rest(&mut self, region: Region, kind: ReservedKind) -> Result<(), PlanError> {
        let region = region.outward();
        let banks = self.banks;
        banks.iter().try_for_each(|bank| {
            let inside = Region::new(region.start.max(bank.start), region.end.min(bank.end));
            self.reserve_new(inside, kind)
        })
    }

    fn reserve_new(&mut self, region: Region, kind: ReservedKind) -> Result<(), PlanError> {
        let mut at = region;
        while !at.is_empty() {
            let taken = self.first_overlap(&at);
            let end = taken.map_or(at.end, |taken| taken.start.max(at.start));
            self.reserve(Region::new(at.start, end), kind)?;
            at.start = taken.map_or(at.end, |taken| taken.end);
        }
        Ok(())
    }

    /// The reserved range with the lowest start that shares a byte with `region`.
    fn first_overlap(&self, region: &Region) -> Option<Region> {
        let overlapping = self
            .reserved
            .iter()
            .map(|r| r.region)
            .filter(|r| r.overlaps(region));
        overlapping.min_by_key(|r| r.start)
    }

    /// Whether all of `region` is RAM in use.
    pub fn is_ram(&self, region: &Region) -> bool {
        self.banks
            .iter()
            .any(|bank| bank.start <= region.start && region.end <= bank.end)
    }

    /// Holds back `bytes` (rounded up to 2 MiB) at the end of the last bank. Returns whether it
    /// could: not if something is reserved there or too little would be left.
    pub fn hold(&mut self, bytes: u64) -> bool {
        let Some(bytes) = bytes.checked_next_multiple_of(HOLD_UNIT) else {
            return false;
        };
        let left = self.total().saturating_sub(bytes);
        let Some(bank) = self.banks.last().copied() else {
            return false;
        };
        let start = bank.end.saturating_sub(bytes) & !(HOLD_UNIT - 1);
        let held = Region::new(start, bank.end);
        if start <= bank.start || left < HOLD_LEAVES || self.first_overlap(&held).is_some() {
            return false;
        }
        if let Some(last) = self.banks.as_mut_slice().last_mut() {
            last.end = start;
        }
        self.held = Some(held);
        true
    }

    /// Takes `len` bytes aligned to `align` (a power of two, at least a page), lowest address
    /// first.
    pub fn alloc(&mut self, len: u64, align: u64, kind: ReservedKind) -> Result<u64, PlanError> {
        let len = len.next_multiple_of(PAGE_SIZE);
        let found = self
            .banks
            .iter()
            .find_map(|bank| self.fit(bank, len, align));
        let start = found.ok_or(PlanError::NotEnough { bytes: len })?;
        self.reserve(Region::from_len(start, len), kind)?;
        Ok(start)
    }

    fn fit(&self, bank: &Region, len: u64, align: u64) -> Option<u64> {
        let mut start = bank.start.checked_next_multiple_of(align)?;
        loop {
            let place = Region::new(start, start.checked_add(len)?);
            if place.end > bank.end {
                return None;
            }
            match self.first_overlap(&place) {
                Some(taken) => start = taken.end.checked_next_multiple_of(align)?,
                None => return Some(start),
            }
        }
    }

    /// Calls `each` for the parts of RAM outside of `cuts`, in ascending order; stops at an error.
    pub fn pieces<E>(
        &self,
        cuts: &[Region],
        mut each: impl FnMut(Region) -> Result<(), E>,
    ) -> Result<(), E> {
        for bank in self.banks.iter() {
            let mut at = *bank;
            while !at.is_empty() {
                let overlapping = cuts
                    .iter()
                    .filter(|cut| !cut.is_empty() && cut.overlaps(&at));
                let cut = overlapping.min_by_key(|cut| cut.start);
                let end = cut.map_or(at.end, |cut| cut.start.max(at.start));
                if end > at.start {
                    each(Region::new(at.start, end))?;
                }
                at.start = cut.map_or(at.end, |cut| cut.end);
            }
        }
        Ok(())
    }

    /// Calls `each` for the page-aligned ranges of metadata offsets (bytes from frame 0's) that the
    /// banks need, ascending and without overlap.
    pub fn metadata<E>(&self, mut each: impl FnMut(Region) -> Result<(), E>) -> Result<(), E> {
        let mut mapped = 0;
        for bank in self.banks.iter() {
            let (first, end) = (bank.start / PAGE_SIZE, bank.end / PAGE_SIZE);
            let mut region = Region::new(first * META_SIZE, end * META_SIZE).outward();
            region.start = region.start.max(mapped);
            if !region.is_empty() {
                mapped = region.end;
                each(region)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;
    const BASE: u64 = 0x4000_0000;

    fn plan(megabytes: u64) -> Plan {
        Plan::new(&[Region::from_len(BASE, megabytes * M)], 1 << 48)
    }

    #[test]
    fn banks_are_sorted_merged_and_cut_to_pages_and_to_the_limit() {
        let given = [
            Region::from_len(8 << 30, 1 << 30),
            Region::from_len(BASE + 64 * M, 64 * M + 123),
            Region::from_len(BASE + 5, 64 * M),
            Region::from_len(1 << 48, 1 << 30),
            Region::from_len(0x1234, 10),
        ];
        let plan = Plan::new(&given, 1 << 48);
        let want = [
            Region::new(BASE + 4096, BASE + 128 * M),
            Region::from_len(8 << 30, 1 << 30),
        ];
        assert_eq!(*plan.banks, want);
        assert_eq!(plan.total(), 128 * M - 4096 + (1 << 30));
    }

    #[test]
    fn allocation_goes_around_what_is_taken() {
        let mut plan = plan(16);
        plan.reserve(Region::from_len(BASE, 2 * M + 1), ReservedKind::Image)
            .unwrap();
        plan.reserve(Region::from_len(BASE + 6 * M, M), ReservedKind::Initrd)
            .unwrap();
        let first = plan.alloc(2 * M, 2 * M, ReservedKind::MemMap);
        assert_eq!(first, Ok(BASE + 4 * M));
        assert_eq!(
            plan.alloc(4096, 4096, ReservedKind::MemMap),
            Ok(BASE + 2 * M + 4096)
        );
        assert_eq!(
            plan.alloc(8 * M, 2 * M, ReservedKind::MemMap),
            Ok(BASE + 8 * M)
        );
        let error = plan.alloc(2 * M, 2 * M, ReservedKind::MemMap);
        assert_eq!(error, Err(PlanError::NotEnough { bytes: 2 * M }));
    }

    #[test]
    fn firmware_ranges_that_overlap_add_only_what_is_new() {
        let mut plan = plan(16);
        plan.reserve(Region::from_len(BASE + M, M), ReservedKind::Initrd)
            .unwrap();
        plan.reserve(Region::from_len(BASE + 3 * M, M), ReservedKind::DeviceTree)
            .unwrap();
        plan.reserve_rest(Region::from_len(BASE, 8 * M), ReservedKind::Firmware)
            .unwrap();
        let mut all: Vec<_> = plan.reserved.iter().map(|r| r.region).collect();
        all.sort_by_key(|r| r.start);
        assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(
            (all[0].start, all.last().unwrap().end),
            (BASE, BASE + 8 * M)
        );
        assert_eq!(all.iter().map(Region::len).sum::<u64>(), 8 * M);
    }

    #[test]
    fn too_many_reservations_are_an_error() {
        let mut plan = plan(16);
        let results: Vec<_> = (0..=MAX_RESERVED as u64)
            .map(|n| plan.reserve(Region::from_len(n * 8192, 4096), ReservedKind::Firmware))
            .collect();
        assert!(results[..MAX_RESERVED].iter().all(Result::is_ok));
        assert_eq!(results[MAX_RESERVED], Err(PlanError::TooManyReserved));
    }

    #[test]
    fn held_memory_leaves_the_last_bank_in_whole_blocks() {
        let mut plan = plan(256);
        assert!(plan.hold(33 * M));
        assert_eq!(plan.held, Some(Region::new(BASE + 222 * M, BASE + 256 * M)));
        assert_eq!(plan.total(), 222 * M);
    }

    #[test]
    fn memory_is_not_held_where_something_lies_or_too_little_would_be_left() {
        let mut small = plan(128);
        assert!(!small.hold(100 * M));
        assert!(!small.hold(u64::MAX));
        let mut used = plan(256);
        used.reserve(Region::from_len(BASE + 250 * M, M), ReservedKind::Initrd)
            .unwrap();
        assert!(!used.hold(16 * M));
        assert_eq!((used.held, used.total()), (None, 256 * M));
    }

    #[test]
    fn pieces_leave_the_cuts_out_exactly() {
        let plan = plan(8);
        let cuts = [
            Region::from_len(BASE + 4 * M, M),
            Region::from_len(BASE - M, 2 * M),
            Region::default(),
            Region::from_len(BASE + 7 * M, 100 * M),
        ];
        let mut pieces = Vec::new();
        plan.pieces(&cuts, |piece| {
            pieces.push(piece);
            Ok::<(), ()>(())
        })
        .unwrap();
        let want = [
            Region::new(BASE + M, BASE + 4 * M),
            Region::new(BASE + 5 * M, BASE + 7 * M),
        ];
        assert_eq!(pieces, want);
    }

    #[test]
    fn metadata_covers_every_frame_once() {
        // The second bank begins in the page of metadata where the first one ends.
        let banks = [
            Region::new(BASE, BASE + 4096),
            Region::new(BASE + 8192, BASE + M),
        ];
        let plan = Plan::new(&banks, 1 << 48);
        let mut ranges = Vec::new();
        plan.metadata(|range| {
            ranges.push(range);
            Ok::<(), ()>(())
        })
        .unwrap();
        let first = BASE / 4096 * 64;
        assert_eq!(
            ranges,
            [
                Region::new(first, first + 4096),
                Region::new(first + 4096, first + 16384)
            ]
        );
    }

    #[test]
    fn all_of_an_image_must_be_in_one_bank() {
        let plan = plan(16);
        assert!(plan.is_ram(&Region::from_len(BASE + 2 * M, 4 * M)));
        assert!(!plan.is_ram(&Region::from_len(BASE + 15 * M, 2 * M)));
        assert!(!plan.is_ram(&Region::from_len(BASE - M, 2 * M)));
    }
}
