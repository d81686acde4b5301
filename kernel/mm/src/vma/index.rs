//! The areas of a space in order.

use crate::error::MmError;
use crate::layout::{FRESH_END, MMAP_BASE, MMAP_MIN_ADDR};
use crate::vma_tree::{Extent, Slabs, Tree};

use super::Vma;

/// Where the nodes of all indices of a machine come from.
pub(crate) type AreaNodes = Slabs<Vma>;

/// The areas of a space in order. Look-ups, changes and searches for free ranges are logarithmic.
#[derive(Debug)]
pub struct VmaIndex {
    areas: Tree<Vma, &'static AreaNodes>,
    nodes: &'static AreaNodes,
    /// Most areas (`vm.max_map_count`).
    limit: usize,
    /// Bytes that areas span, and the most that they may.
    bytes: u64,
    byte_limit: u64,
}

impl Extent for Vma {
    #[inline(always)]
    fn start(&self) -> u64 {
        self.start
    }

    #[inline(always)]
    fn end(&self) -> u64 {
        self.end
    }

    fn guarded_start(&self) -> u64 {
        self.guarded_start()
    }
}

impl VmaIndex {
    /// No areas, and at most `limit` of them.
    pub(crate) const fn new(nodes: &'static AreaNodes, limit: usize) -> Self {
        Self {
            areas: Tree::new(),
            nodes,
            limit,
            bytes: 0,
            byte_limit: u64::MAX,
        }
    }

    /// Bytes that areas span.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Limits that. What is there stays.
    pub(crate) const fn set_byte_limit(&mut self, limit: u64) {
        self.byte_limit = limit;
    }

    /// Whether areas may span `bytes` more.
    pub(crate) const fn has_room(&self, bytes: u64) -> bool {
        self.bytes.saturating_add(bytes) <= self.byte_limit
    }

    /// Areas, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.areas.iter_from(0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.areas.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The area that contains `va`.
    #[inline]
    pub fn find(&self, va: u64) -> Option<&Vma> {
        self.areas.find(va)
    }

    /// The area that contains all of `[start, end)`.
    #[inline]
    pub(crate) fn find_around(&self, start: u64, end: u64) -> Option<&Vma> {
        self.find(start).filter(|area| end <= area.end)
    }

    /// The one before the lowest area that ends above `va`, and that one, whether or not it
    /// contains it.
    pub fn find_above(&self, va: u64) -> (Option<&Vma>, Option<&Vma>) {
        self.areas.first_above(va)
    }

    /// Areas that overlap `[start, end)`, as they are.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        self.areas.overlapping(start, end)
    }

    /// Whether no area overlaps `[start, end)`.
    pub fn is_hole(&self, start: u64, end: u64) -> bool {
        let (_, above) = self.areas.first_above(start);
        above.is_none_or(|area| area.start >= end)
    }

    /// Lets the area at `start` begin lower, at `new`, where nothing is: a stack grows.
    pub(crate) fn grow_down(&mut self, start: u64, new: u64) {
        self.bytes += start - new;
        self.areas.update(start, |area| area.start = new);
    }

    /// Gives the area at `va`, of which a page is about to be written for the first time, an
    /// anonymous object: that of a neighbour that it continues, else the one of number `fresh`.
    pub(crate) fn set_origin(&mut self, va: u64, fresh: u32) {
        let (before, Some(area)) = self.areas.first_above(va) else {
            return;
        };
        let next = self.areas.find(area.end);
        let next = next.filter(|next| area.shares_origin_with(next));
        let before = before.filter(|before| before.shares_origin_with(area));
        let known = |area: Option<&Vma>| area.map_or(0, |area| area.backing.origin().id);
        let id = match (known(next), known(before)) {
            (0, 0) => fresh,
            (0, before) => before,
            (next, _) => next,
        };
        let start = area.start;
        self.areas.update(start, |area| area.backing.set_origin(id));
    }

    /// The part of `[start, end)` that one step of a change works on, which is all of it unless that
    /// is more than `limit` areas: where it ends.
    pub(crate) fn step_end(&self, start: u64, end: u64, limit: usize) -> u64 {
        let (_, first) = self.areas.first_above(start);
        if first.is_none_or(|first| end <= first.end) {
            return end;
        }
        let next = self.overlapping(start, end).nth(limit);
        next.map_or(end, |area| area.start)
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

    /// Makes room for a change that adds or cuts off up to `count` areas, before its first effect.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]: no memory for their records.
    pub fn reserve(&mut self, count: usize) -> Result<(), MmError> {
        self.areas
            .reserve(&self.nodes, count)
            .map_err(|_| MmError::NoMemory)
    }

    /// Whether another area may be mapped. As on Linux, one more than the limit is reached so.
    pub(crate) fn may_map(&self) -> bool {
        self.len() <= self.limit
    }

    /// Whether an area may be moved: what is left behind, cut and added for that counts in advance.
    pub(crate) fn may_move(&self) -> bool {
        self.len() + 3 < self.limit
    }

    /// Whether areas may be cut at `start` and `end`.
    pub(crate) fn may_cut(&self, start: u64, end: u64) -> bool {
        let is_inside = |at| self.find(at).is_some_and(|area| area.start < at);
        let cuts = usize::from(is_inside(start)) + usize::from(is_inside(end));
        self.may_add(cuts)
    }

    /// Whether so many areas may be cut off others.
    #[inline]
    pub(crate) fn may_add(&self, cuts: usize) -> bool {
        cuts == 0 || self.len() + cuts <= self.limit
    }

    /// Whether `[start, end)` may be taken out: only what leaves a part on either side adds one.
    pub(crate) fn may_remove(&self, start: u64, end: u64) -> bool {
        let area = self.find(start);
        let is_hole = area.is_some_and(|area| area.start < start && end < area.end);
        !is_hole || self.len() < self.limit
    }

    /// Cuts areas so that `at` is a border.
    fn split(&mut self, at: u64) {
        if let Some(area) = self.areas.find(at).filter(|area| area.start < at) {
            self.split_known(area.start, at);
        }
    }

    /// Cuts the area that begins at `start` so that `at`, which is inside, is a border.
    fn split_known(&mut self, start: u64, at: u64) {
        if !self.areas.cut(at, |area| area.cut(at))
            && let Some(upper) = self.areas.update(start, |area| area.cut(at))
        {
            self.areas.insert(upper);
        }
    }

    /// Removes `[start, end)` from all areas. [`Self::reserve`] came before.
    pub fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            // A border where nothing goes would stay.
            return;
        }
        let (_, Some(area)) = self.areas.first_above(start) else {
            return;
        };
        let (first, behind) = (area.start, area.end);
        if end <= behind {
            return self.remove_within((first, behind), start, end);
        }
        self.bytes -= self.spanned(start, end);
        // Areas that are cut are shortened where they are.
        if first < start {
            self.areas.update(first, |area| area.end = start);
        }
        if let Some(last) = self.areas.find(end).map(|area| area.start)
            && last < end
        {
            self.areas.update(last, |area| area.begin_at(end));
        }
        self.areas.remove_all(start, end);
    }

    /// Bytes of `[start, end)` that areas span. There are few.
    fn spanned(&self, start: u64, end: u64) -> u64 {
        let parts = self.overlapping(start, end);
        parts
            .map(|area| area.end.min(end) - area.start.max(start))
            .sum()
    }

    /// Removes `[start, end)` from the area `[first, behind)`, which ends there or behind, and is the
    /// lowest that ends above `start`.
    pub(crate) fn remove_within(&mut self, (first, behind): (u64, u64), start: u64, end: u64) {
        if end <= first {
            return;
        }
        self.bytes -= end - start.max(first);
        match (first < start, end < behind) {
            // Only what has a part on either side is cut in two.
            (true, true) => {
                self.split_known(first, end);
                self.areas.update(first, |area| area.end = start);
            }
            (true, false) => {
                self.areas.update(first, |area| area.end = start);
            }
            (false, true) => {
                self.areas.update(first, |area| area.begin_at(end));
            }
            (false, false) => {
                self.areas.remove_at(first);
            }
        }
    }

    /// Adds an area where there is none and merges it with its neighbours.
    pub fn insert(&mut self, mut area: Vma) {
        let (start, end) = (area.start, area.end);
        self.bytes += end - start;
        // With the one before first: where both could not be had, that is the one Linux takes.
        match self.areas.first_above(start) {
            (Some(before), _) if before.merges_with(&area) => {
                let before = before.start;
                self.areas.update(before, |before| before.absorb(&area));
                self.merge_at(end);
            }
            (_, Some(next)) if area.merges_with(next) => {
                self.areas.update(end, |next| {
                    area.absorb(next);
                    *next = area;
                });
            }
            _ => self.areas.insert(area),
        }
    }

    /// Changes the areas inside `[start, end)`, cutting at the borders and merging afterwards.
    pub fn change(&mut self, start: u64, end: u64, change: impl FnMut(&mut Vma)) {
        if let Some(area) = self.find_around(start, end) {
            return self.change_within((area.start, area.end), start, end, change);
        }
        self.split(start);
        self.split(end);
        self.areas.update_all(start, end, change);
        self.merge_within(start, end);
    }

    /// As [`Self::change`], for a part of the area `[first, behind)`.
    fn change_within(
        &mut self,
        (first, behind): (u64, u64),
        start: u64,
        end: u64,
        mut change: impl FnMut(&mut Vma),
    ) {
        if first < start {
            self.split_known(first, start);
        }
        if end < behind {
            self.split_known(start, end);
        }
        let differs = self.areas.update(start, |area| {
            let before = (area.prot, area.flags);
            change(area);
            before != (area.prot, area.flags)
        });
        // What is other than it was does not merge with what it was cut from.
        let merges = differs != Some(true);
        if merges || end == behind {
            self.merge_at(end);
        }
        if merges || start == first {
            self.merge_at(start);
        }
    }

    /// Merges at every border from `end` down to `start`.
    fn merge_within(&mut self, start: u64, end: u64) {
        let mut at = end;
        while let Some(below) = self.merge_at(at)
            && below >= start
        {
            at = below;
        }
    }

    /// Merges the areas that meet at `border`, if there are such; where the one below begins.
    fn merge_at(&mut self, border: u64) -> Option<u64> {
        let (before, next) = self.areas.first_above(border);
        let before = before?;
        let start = before.start;
        let merge = next.is_some_and(|next| next.start == border && before.merges_with(next));
        if merge
            && !self.areas.join(border, Vma::absorb)
            && let Some(next) = self.areas.remove_at(border)
        {
            self.areas.update(start, |area| area.absorb(&next));
        }
        Some(start)
    }

    /// Whether `[start, end)` touches no area nor the gap below a growing one.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        let (_, above) = self.areas.first_above(start);
        above.is_none_or(|area| area.guarded_start() >= end)
    }

    /// Finds a free range of `len` bytes in a fresh space: highest below the mapping base, else
    /// lowest anywhere.
    pub fn find_free(&self, len: u64) -> Option<u64> {
        self.find_between(MMAP_MIN_ADDR, MMAP_BASE, len)
            .or_else(|| self.areas.find_gap_above(len, MMAP_MIN_ADDR, FRESH_END))
    }

    /// The highest free range of `len` bytes within `[floor, ceiling)`.
    pub fn find_between(&self, floor: u64, ceiling: u64, len: u64) -> Option<u64> {
        self.areas.find_gap_below(len, ceiling, floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::MAX_MAP_COUNT;
    use crate::vma::{Backing, VmaFlags};
    use arm64::attrs::Prot;
    use proptest::prelude::*;
    use std::boxed::Box;

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

    /// An index with nodes of its own.
    fn index(limit: usize) -> VmaIndex {
        let nodes = AreaNodes::new(frame::arena::frames(64));
        VmaIndex::new(Box::leak(Box::new(nodes)), limit)
    }

    /// The highest free place, found by looking at every page from the base down.
    fn highest_free(index: &VmaIndex, len: u64) -> u64 {
        let mut at = MMAP_BASE - len;
        while !index.is_free(at, at + len) {
            at -= PAGE;
        }
        at
    }

    #[test]
    fn at_the_limit_nothing_is_added_or_cut() {
        let mut index = index(3);
        for at in [10, 20, 30, 40] {
            assert!(index.may_map());
            index.reserve(3).unwrap();
            index.insert(area(at * PAGE, 3));
        }
        assert!(!index.may_map());
        assert!(!index.may_remove(11 * PAGE, 12 * PAGE));
        assert!(!index.may_cut(10 * PAGE, 11 * PAGE));
        // Ends may be taken off, and what is whole may change or go.
        assert!(index.may_remove(11 * PAGE, 22 * PAGE));
        assert!(index.may_cut(10 * PAGE, 13 * PAGE));
        index.reserve(3).unwrap();
        index.remove(10 * PAGE, 23 * PAGE);
        assert!(index.may_map() && index.may_remove(31 * PAGE, 32 * PAGE));
        assert!(index.may_cut(30 * PAGE, 31 * PAGE));
    }

    #[test]
    fn what_lies_outside_a_removed_range_stays() {
        let mut index = index(MAX_MAP_COUNT);
        for at in [10, 20, 30] {
            index.reserve(1).unwrap();
            index.insert(area(at * PAGE, 5));
        }
        for (from, to) in [(12, 13), (22, 31)] {
            index.reserve(2).unwrap();
            index.remove(from * PAGE, to * PAGE);
        }
        let left = index
            .iter()
            .map(|area| (area.start / PAGE, area.end / PAGE));
        assert!(left.eq([(10, 12), (13, 15), (20, 22), (31, 35)]));
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
            let mut index = index(MAX_MAP_COUNT);
            for (what, pages, at) in steps {
                index.reserve(3).unwrap();
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
                let sum: u64 = index.iter().map(|area| area.end - area.start).sum();
                prop_assert_eq!(index.bytes(), sum);
            }
        }
    }
}
