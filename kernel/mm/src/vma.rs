//! Areas of a map and their index.

use alloc::vec::Vec;

use arm64::attrs::Prot;
use bitflags::bitflags;

use crate::error::MmError;
use crate::layout::{FRESH_END, MAX_MAP_COUNT, MMAP_BASE, MMAP_MIN_ADDR, STACK_GAP};
use crate::object::ImageObject;

bitflags! {
    /// Properties of an area beside its rights.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VmaFlags: u8 {
        /// Grows down to a fault below it, within the stack limit.
        const GROWSDOWN = 1;
        /// The main stack.
        const STACK = 1 << 1;
        /// The area moved by `brk`.
        const HEAP = 1 << 2;
        /// `MAP_NORESERVE`.
        const NORESERVE = 1 << 3;
        /// `MAP_SHARED`: not shared with anybody yet, but shown and merged as such.
        const SHARED = 1 << 4;
    }
}

/// What fills the pages of an area.
#[derive(Clone, Copy, Debug)]
pub enum Backing {
    /// Zeros.
    Anon,
    /// A program image, privately.
    Image {
        /// The object.
        object: ImageObject,
        /// Offset in it of the area's first byte; a multiple of the page size.
        offset: u64,
    },
}

impl Backing {
    /// The backing of an area that begins `by` bytes later.
    fn advanced(self, by: u64) -> Self {
        match self {
            Self::Anon => Self::Anon,
            Self::Image { object, offset } => Self::Image {
                object,
                offset: offset + by,
            },
        }
    }

    fn continues(self, len: u64, next: Self) -> bool {
        match (self.advanced(len), next) {
            (Self::Anon, Self::Anon) => true,
            (
                Self::Image {
                    object: a,
                    offset: x,
                },
                Self::Image {
                    object: b,
                    offset: y,
                },
            ) => a.is_same(&b) && x == y,
            _ => false,
        }
    }
}

/// One area: `[start, end)`, page aligned, never empty.
#[derive(Clone, Copy, Debug)]
pub struct Vma {
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
    /// Rights of the program.
    pub prot: Prot,
    /// Properties.
    pub flags: VmaFlags,
    /// What fills it.
    pub backing: Backing,
}

impl Vma {
    fn merges_with(&self, next: &Self) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.flags == next.flags
            && !self.flags.contains(VmaFlags::SHARED)
            && self.backing.continues(self.end - self.start, next.backing)
    }

    /// Lowest address that others keep away from.
    fn guarded_start(&self) -> u64 {
        match self.flags.contains(VmaFlags::GROWSDOWN) {
            true => self.start.saturating_sub(STACK_GAP),
            false => self.start,
        }
    }
}

/// The areas of a space in order. A sorted vector behind the interface of a tree: look-ups are
/// logarithmic, changes move the areas behind them.
#[derive(Debug)]
pub struct VmaIndex {
    areas: Vec<Vma>,
    /// Between here and the mapping base no gap is wider than `widest_above`.
    searched_to: u64,
    widest_above: u64,
}

impl VmaIndex {
    /// No areas.
    pub const fn new() -> Self {
        Self {
            areas: Vec::new(),
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
    pub fn find_above(&mut self, va: u64) -> (Option<Vma>, Option<&mut Vma>) {
        let at = self.first_above(va);
        let before = at.checked_sub(1).map(|i| self.areas[i]);
        (before, self.areas.get_mut(at))
    }

    /// Areas that overlap `[start, end)`, as they are.
    pub fn overlapping(&self, start: u64, end: u64) -> &[Vma] {
        let from = self.first_above(start);
        let count = self.areas[from..].partition_point(|area| area.start < end);
        &self.areas[from..from + count]
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

    /// Makes room for a change before its first effect. The most is a remap to a fixed place: two
    /// ranges removed, each of which may cut an area in two, and one area added.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]: too many areas, or the kernel heap is full.
    pub fn reserve(&mut self) -> Result<(), MmError> {
        if self.areas.len() + 5 > MAX_MAP_COUNT {
            return Err(MmError::NoMemory);
        }
        self.areas.try_reserve(5).map_err(|_| MmError::NoMemory)
    }

    /// Cuts areas so that `at` is a border.
    fn split(&mut self, at: u64) {
        let index = self.first_above(at);
        if let Some(area) = self.areas.get_mut(index).filter(|area| area.start < at) {
            let upper = Vma {
                start: at,
                backing: area.backing.advanced(at - area.start),
                ..*area
            };
            area.end = at;
            self.areas.insert(index + 1, upper);
        }
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

    /// Changes the areas inside `[start, end)`, cutting at the borders and merging afterwards.
    pub fn change(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Vma)) {
        self.split(start);
        self.split(end);
        let from = self.first_above(start);
        let mut at = from;
        while self.areas.get(at).is_some_and(|area| area.start < end) {
            change(&mut self.areas[at]);
            at += 1;
        }
        for index in (from..=at).rev() {
            self.merge_with_next(index.saturating_sub(1));
        }
    }

    fn merge_around(&mut self, at: usize) {
        self.merge_with_next(at);
        if at > 0 {
            self.merge_with_next(at - 1);
        }
    }

    fn merge_with_next(&mut self, at: usize) {
        if let [first, second, ..] = &self.areas[at.min(self.areas.len())..]
            && first.merges_with(second)
        {
            self.areas[at].end = second.end;
            self.areas.remove(at + 1);
        }
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

impl Default for VmaIndex {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u64 = 4096;

    fn area(start: u64, pages: u64) -> Vma {
        Vma {
            start,
            end: start + pages * PAGE,
            prot: Prot::READ,
            flags: VmaFlags::SHARED,
            backing: Backing::Anon,
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
            let mut index = VmaIndex::new();
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
