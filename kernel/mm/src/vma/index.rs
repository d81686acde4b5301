//! The areas of a space in order.

use alloc::vec::Vec;

use crate::error::MmError;
use crate::layout::{FRESH_END, MMAP_BASE, MMAP_MIN_ADDR};

use super::{Vma, VmaFlags};

/// Areas that one change may add.
const CHANGE_ROOM: usize = 5;

/// The areas of a space in order. A sorted vector behind the interface of a tree: look-ups are
/// logarithmic, changes move the areas behind them.
#[derive(Debug)]
pub struct VmaIndex {
    areas: Vec<Vma>,
    /// Most areas (`vm.max_map_count`).
    limit: usize,
    /// Between here and the mapping base no gap is wider than `widest_above`.
    searched_to: u64,
    widest_above: u64,
}

impl VmaIndex {
    /// No areas, and at most `limit` of them.
    pub const fn new(limit: usize) -> Self {
        Self {
            areas: Vec::new(),
            limit,
            searched_to: MMAP_BASE,
            widest_above: 0,
        }
    }

    /// Areas, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.areas.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.areas.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.areas.is_empty()
    }

    /// Index of the first area that ends above `va`.
    fn first_above(&self, va: u64) -> usize {
        self.areas.partition_point(|area| area.end <= va)
    }

    /// The area that contains `va`.
    #[inline]
    pub fn find(&self, va: u64) -> Option<&Vma> {
        self.areas
            .get(self.first_above(va))
            .filter(|area| area.start <= va)
    }

    /// The lowest area that ends above `va`, whether or not it contains it, and the one before.
    pub fn find_above(&self, va: u64) -> (Option<&Vma>, Option<&Vma>) {
        let at = self.first_above(va);
        let before = at.checked_sub(1).map(|i| &self.areas[i]);
        (before, self.areas.get(at))
    }

    /// Areas that overlap `[start, end)`, as they are.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let from = self.first_above(start);
        self.areas[from..]
            .iter()
            .take_while(move |area| area.start < end)
    }

    /// Whether no area overlaps `[start, end)`.
    pub fn is_hole(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
    }

    /// Lets the area at `start` begin lower, at `new`, where nothing is: a stack grows.
    pub(crate) fn grow_down(&mut self, start: u64, new: u64) {
        let at = self.first_above(start);
        if let Some(area) = self.areas.get_mut(at).filter(|area| area.start == start) {
            area.start = new;
        }
    }

    /// Gives the area at `va`, of which a page is about to be written for the first time, an
    /// anonymous object: that of a neighbour that it continues, else the one of number `fresh`.
    pub(crate) fn set_origin(&mut self, va: u64, fresh: u32) {
        let at = self.first_above(va);
        let Some(area) = self.areas.get(at) else {
            return;
        };
        let next = self.areas.get(at + 1);
        let before = at.checked_sub(1).map(|before| &self.areas[before]);
        let next = next.filter(|next| area.shares_origin_with(next));
        let before = before.filter(|before| before.shares_origin_with(area));
        let known = next.map_or(0, |next| next.backing.origin().id);
        let known = match known {
            0 => before.map_or(0, |before| before.backing.origin().id),
            known => known,
        };
        let id = if known == 0 { fresh } else { known };
        self.areas[at].backing.origin_mut().id = id;
    }

    /// End of the unbroken run of areas from `start` on, at most `end`; `start` if it is a hole.
    pub fn covered_until(&self, start: u64, end: u64) -> u64 {
        let mut at = start;
        for area in self.overlapping(start, end) {
            if area.start > at {
                break;
            }
            at = area.end;
        }
        at.min(end)
    }

    /// Makes room for a change before its first effect. The most is a remap to a
    /// fixed place: two ranges removed, each of which may cut an area in two, and one area added.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]: too many areas, or no memory for their records.
    pub fn reserve(&mut self) -> Result<(), MmError> {
        if self.areas.len() + CHANGE_ROOM > self.limit {
            return Err(MmError::NoMemory);
        }
        self.areas
            .try_reserve(CHANGE_ROOM)
            .map_err(|_| MmError::NoMemory)
    }

    /// Cuts areas so that `at` is a border.
    fn split(&mut self, at: u64) {
        let index = self.first_above(at);
        let Some(area) = self.areas.get(index).filter(|area| area.start < at) else {
            return;
        };
        let upper = area.from(at);
        self.areas[index].end = at;
        self.areas.insert(index + 1, upper);
    }

    /// Removes `[start, end)` from all areas. [`Self::reserve`] came before.
    pub fn remove(&mut self, start: u64, end: u64) {
        self.split(start);
        self.split(end);
        let from = self.first_above(start);
        let to = from + self.areas[from..].partition_point(|area| area.start < end);
        self.areas.drain(from..to);
        self.gap_opened(start);
    }

    /// Adds an area where there is none and merges it with its neighbours.
    pub fn insert(&mut self, area: Vma) {
        let at = self.first_above(area.start);
        self.areas.insert(at, area);
        self.merge_around(at);
    }

    /// Marks what lies inside `[start, end)` busy, cutting at the borders: faults wait until a
    /// [`Self::change`] of the same range, or its removal.
    pub(crate) fn make_busy(&mut self, start: u64, end: u64) {
        self.split(start);
        self.split(end);
        let from = self.first_above(start);
        let inside = self.areas[from..]
            .iter_mut()
            .take_while(|area| area.start < end);
        inside.for_each(|area| area.flags.insert(VmaFlags::BUSY));
    }

    /// Changes the areas inside `[start, end)`, cutting at the borders and merging afterwards. They
    /// are not busy any more.
    pub fn change(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Vma)) {
        self.split(start);
        self.split(end);
        let from = self.first_above(start);
        let mut at = from;
        while let Some(area) = self.areas.get_mut(at).filter(|area| area.start < end) {
            area.flags.remove(VmaFlags::BUSY);
            change(area);
            at += 1;
        }
        for index in (from..=at).rev() {
            self.merge_with_next(index.saturating_sub(1));
        }
    }

    fn merge_around(&mut self, at: usize) {
        // With the one before first: where both could not be had, that is the one Linux takes.
        match at > 0 && self.merge_with_next(at - 1) {
            true => self.merge_with_next(at - 1),
            false => self.merge_with_next(at),
        };
    }

    fn merge_with_next(&mut self, at: usize) -> bool {
        let [first, second, ..] = &self.areas[at.min(self.areas.len())..] else {
            return false;
        };
        if !first.merges_with(second) {
            return false;
        }
        let second = self.areas.remove(at + 1);
        self.areas[at].absorb(&second);
        true
    }

    /// Whether `[start, end)` touches no area nor the gap below a growing one.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        let above = &self.areas[self.first_above(start)..];
        above.first().is_none_or(|area| area.guarded_start() >= end)
    }

    /// Finds a free range of `len` bytes in a fresh space: highest below the mapping base, else
    /// lowest anywhere.
    pub fn find_free(&mut self, len: u64) -> Option<u64> {
        self.find_below(len).or_else(|| self.find_above_floor(len))
    }

    /// The highest gap of `len` bytes below the mapping base. The search begins where the last one
    /// ended, unless a gap that was passed by then could do.
    fn find_below(&mut self, len: u64) -> Option<u64> {
        let (mut top, mut widest) = match len > self.widest_above {
            true => (self.searched_to, self.widest_above),
            false => (MMAP_BASE, 0),
        };
        let below = self.areas.partition_point(|area| area.start < top);
        for area in self.areas[..below].iter().rev() {
            let gap = top.saturating_sub(area.end.max(MMAP_MIN_ADDR));
            if gap >= len {
                (self.searched_to, self.widest_above) = (top, widest);
                return Some(top - len);
            }
            widest = widest.max(gap);
            top = top.min(area.guarded_start());
        }
        (top > MMAP_MIN_ADDR && top - MMAP_MIN_ADDR >= len).then(|| {
            (self.searched_to, self.widest_above) = (top, widest);
            top - len
        })
    }

    /// A gap came into being (or grew) that ends at the first area above `va`: the next search has
    /// to see it.
    fn gap_opened(&mut self, va: u64) {
        let above = self.areas.get(self.first_above(va));
        let end = above.map_or(MMAP_BASE, Vma::guarded_start).min(MMAP_BASE);
        self.searched_to = self.searched_to.max(end);
    }

    fn find_above_floor(&self, len: u64) -> Option<u64> {
        let mut floor = MMAP_MIN_ADDR;
        for area in self.areas.iter().take_while(|area| area.start < FRESH_END) {
            if area.guarded_start() > floor && area.guarded_start() - floor >= len {
                return Some(floor);
            }
            floor = floor.max(area.end);
        }
        (FRESH_END > floor && FRESH_END - floor >= len).then_some(floor)
    }

    /// The highest free range of `len` bytes within `[floor, ceiling)`.
    pub fn find_between(&self, floor: u64, ceiling: u64, len: u64) -> Option<u64> {
        let below = self.areas.partition_point(|area| area.start < ceiling);
        let mut top = ceiling;
        for area in self.areas[..below].iter().rev() {
            let bottom = area.end.max(floor);
            if top >= bottom && top - bottom >= len {
                break;
            }
            top = top.min(area.guarded_start());
        }
        (top >= floor && top - floor >= len).then(|| top - len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::MAX_MAP_COUNT;
    use crate::vma::Backing;
    use arm64::attrs::Prot;
    use proptest::prelude::*;

    const PAGE: u64 = 4096;

    fn area(start: u64, pages: u64) -> Vma {
        Vma {
            start,
            end: start + pages * PAGE,
            prot: Prot::READ,
            flags: VmaFlags::SHARED,
            backing: Backing::ANON,
        }
    }

    /// The highest free place, found by looking at every page from the base down.
    fn highest_free(index: &VmaIndex, len: u64) -> u64 {
        let mut at = MMAP_BASE - len;
        while !index.is_free(at, at + len) {
            at -= PAGE;
        }
        at
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_search_finds_the_highest_gap_whatever_came_and_went(
            steps in prop::collection::vec((0..3u8, 1..6u64, 0..40u64), 1..80)
        ) {
            let mut index = VmaIndex::new(MAX_MAP_COUNT);
            for (what, pages, at) in steps {
                index.reserve().unwrap();
                if what == 0 {
                    let start = MMAP_BASE - (at + pages) * PAGE;
                    index.remove(start, start + pages * PAGE);
                } else {
                    let want = highest_free(&index, pages * PAGE);
                    let found = index.find_free(pages * PAGE).unwrap();
                    prop_assert_eq!(found, want);
                    if what == 1 {
                        index.insert(area(found, pages));
                    }
                }
            }
        }
    }
}
