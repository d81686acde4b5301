//! What a pager does with pages that it has given: ask which of them were written, and drop those
//! that were not.
//!
//! That a page was written is said by the dirty entries that show it, and by its frame, which
//! remembers what entries said that are none any more and what was written without one. A
//! collection moves the first to the second, under the locks of the tables, and takes the second:
//! so nothing is lost wherever it ends.

use frame::slab::Ref;
use frame::{FramePins, FreshFrame, UserFrame};
use sync::planted::{self, Fault};

use super::mappings::UnmapReason;
use super::mem::{MemObject, ObjectError, Turn};
use super::tree::MAX_PAGES;
use super::visit::Visit;

/// What dropping a page costs more than looking at it, in pages.
const DROP_COST: u64 = 3;
/// Steps of one reclaim.
const RECLAIM_STEPS: u32 = 6;
/// Pages that are asked for the price of one that is visited.
const ASKED: u64 = 4;

/// A collection of the pages that were written since they were supplied or last collected.
#[derive(Debug)]
#[must_use = "pages are collected by stepping"]
pub struct Collect {
    object: Ref<MemObject>,
    first: u64,
    end: u64,
    visit: Option<Visit>,
    at: u64,
}

impl Collect {
    /// Begins with `pages` pages of `object` from `first` on.
    pub fn begin(object: &Ref<MemObject>, first: u64, pages: u64) -> Self {
        let first = first.min(MAX_PAGES);
        let end = first.saturating_add(pages).min(MAX_PAGES);
        Self {
            object: object.clone(),
            first,
            end,
            visit: Some(Visit::cleaning(first, end)),
            at: first,
        }
    }

    /// Does about `budget` pages; true when all is done. Sets bit `n` of `written` where page
    /// `first + n` was written; pages beyond its end are not collected. A page that is written
    /// after a step has said so is collected again: contents are read when it is over.
    pub fn step(&mut self, written: &mut [u64], budget: u32) -> bool {
        let mut left = budget.max(1);
        if let Some(visit) = &mut self.visit {
            if !visit.step(&self.object, &mut left) {
                return false;
            }
            self.visit = None;
        }
        let end = self.end.min(self.first + 64 * written.len() as u64);
        let stop = end.min(self.at.saturating_add(ASKED * u64::from(left.max(1))));
        while self.at < stop {
            self.at = self.object.tree().skip_absent(self.at);
            if self.at >= stop {
                break;
            }
            let page = self.object.resident(self.at);
            if page.is_some_and(|page| page.take_written()) {
                self.object.store().count_written_back(1);
                let bit = self.at - self.first;
                written[bit as usize / 64] |= 1 << (bit % 64);
            }
            self.at += 1;
        }
        self.at >= end
    }

    /// Undoes what a collection has said of pages from `first` on: for who could not tell anybody.
    pub fn give_back(object: &MemObject, first: u64, written: &[u64]) {
        let pages = (0..64 * written.len() as u64).filter(|bit| {
            let word = written[*bit as usize / 64];
            word >> (bit % 64) & 1 != 0
        });
        for page in pages.filter_map(|bit| object.resident(first.saturating_add(bit))) {
            page.set_written();
        }
    }
}

/// Clean pages being dropped: their memory is freed, and whoever touches one next asks the pager.
#[derive(Debug)]
#[must_use = "pages are dropped by stepping"]
pub struct DropClean {
    turn: Turn,
    first: u64,
    end: u64,
    visit: Option<Visit>,
    at: u64,
    dropped: u64,
}

impl DropClean {
    /// Begins with `pages` pages from `first` on of an object with a pager, or of an image.
    ///
    /// # Errors
    /// [`ObjectError::Busy`] while many pages are being changed; [`ObjectError::Absent`] for an
    /// object whose pages nobody could give again.
    pub fn begin(object: &Ref<MemObject>, first: u64, pages: u64) -> Result<Self, ObjectError> {
        if object.is_plain() {
            return Err(ObjectError::Absent);
        }
        let turn = Turn::take(object, |_| Ok(()))?;
        let first = first.min(MAX_PAGES);
        let end = first.saturating_add(pages).min(MAX_PAGES);
        Ok(Self {
            turn,
            first,
            end,
            visit: Some(Visit::new(first, end, UnmapReason::Clean, false)),
            at: first,
            dropped: 0,
        })
    }

    /// Does about `budget` pages; true when all is done.
    pub fn step(&mut self, budget: u32) -> bool {
        let object = self.turn.object();
        let mut left = budget.max(1);
        if let Some(visit) = &mut self.visit {
            if !visit.step(object, &mut left) {
                return false;
            }
            self.visit = None;
            // Where a test lets others run.
            return false;
        }
        while left > 0 {
            self.at = object.tree().skip_absent(self.at);
            if self.at >= self.end {
                return true;
            }
            let (behind, dropped) = object.drop_if_clean(self.at, self.first, self.end);
            self.dropped += dropped;
            object.store().count_dropped(dropped);
            left = left.saturating_sub((behind - self.at + DROP_COST * dropped) as u32);
            self.at = behind;
        }
        false
    }

    /// Pages that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Steps in which one page is taken out of all mappings, or given up: with few mappings, one.
const ONE_STEPS: u32 = 8;
/// Pages' worth of work in each.
const ONE_BUDGET: u32 = 64;

/// What taking a page out of its frame came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// The frame is free.
    Done,
    /// Others are changing pages of the object just now: come again.
    Busy,
    /// It cannot be: somebody holds the page, or it cannot be had again.
    Held,
}

impl Evicted {
    fn of(done: bool) -> Self {
        if done { Self::Done } else { Self::Held }
    }
}

impl MemObject {
    /// Drops page `index` if it is clean and nobody holds it.
    pub fn drop_page(object: &Ref<Self>, index: u64) -> Evicted {
        let mut drop = match DropClean::begin(object, index, 1) {
            Ok(drop) => drop,
            Err(ObjectError::Busy) => return Evicted::Busy,
            Err(_) => return Evicted::Held,
        };
        let mut left = ONE_STEPS;
        while left > 0 && !drop.step(ONE_BUDGET) {
            left -= 1;
        }
        Evicted::of(drop.dropped() != 0)
    }

    /// Moves page `index`, which is a frame by itself, to the frame `to`: out of all mappings, which find
    /// it again when it is touched.
    pub fn move_page(object: &Ref<Self>, index: u64, to: FreshFrame) -> Evicted {
        let Ok(turn) = Turn::take(object, |_| Ok(())) else {
            return Evicted::Busy;
        };
        let object = turn.object();
        let mut visit = Visit::new(index, index + 1, UnmapReason::Moved, false);
        let mut left = ONE_STEPS;
        while !visit.step(object, &mut { ONE_BUDGET }) {
            left -= 1;
            if left == 0 {
                return Evicted::Held;
            }
        }
        Evicted::of(object.put_in_place_of(index, to))
    }

    /// As [`Self::drop_if_clean`] looks at a page, but its contents are moved.
    fn put_in_place_of(&self, index: u64, mut to: FreshFrame) -> bool {
        let _held = self.lock();
        let Some(old) = self.tree().take(index) else {
            return false;
        };
        // Out of the tree nobody finds it any more: with no other reference there is no entry either,
        // and none to come.
        if old.order() != 0 || !old.is_unique() {
            self.tree().put_back(index, old, 1);
            return false;
        }
        to.copy_page(0, &old);
        let page = to.into_object(self.number());
        if old.is_written() {
            page.set_written();
        }
        self.tree().put_back(index, page, 1);
        true
    }

    /// Drops about `budget` clean pages of an object with a pager, if nobody changes its pages just
    /// now; how many. Where it ended the last time it goes on.
    pub fn reclaim(object: &Ref<Self>, budget: u32) -> u64 {
        let from = object.pager().map_or(0, |pager| pager.hand());
        let from = match object.tree().skip_absent(from) {
            MAX_PAGES.. => object.tree().skip_absent(0),
            there => there,
        };
        let Ok(mut drop) = DropClean::begin(object, from, budget.into()) else {
            return 0;
        };
        // Some for the visit of mappings, if they are few, and one for the pages.
        let mut left = RECLAIM_STEPS;
        while left > 0 && !drop.step(budget) {
            left -= 1;
        }
        if let Some(pager) = object.pager() {
            pager.set_hand(from.saturating_add(budget.into()));
        }
        drop.dropped()
    }

    /// Drops the page at `at`, which lies in `[first, end)`, or the whole folio that it is of, if
    /// nobody holds it and it was not written. Returns where to go on, and how many pages went.
    ///
    /// The page is out of the tree while it is looked at, under the lock, so nobody finds it who has not
    /// found it before; who has, holds a reference, be it that of an entry. So if there is none but
    /// the tree's, no entry shows the page, and none that did is in a TLB; what those had recorded
    /// the frame remembers.
    fn drop_if_clean(&self, at: u64, first: u64, end: u64) -> (u64, u64) {
        let _held = self.lock();
        let Some(page) = self.resident(at) else {
            return (at + 1, 0);
        };
        let (start, pages) = block_of(&page, at);
        let behind = (start + pages).min(end);
        drop(page);
        let apart = start < first || start + pages > end;
        if apart || pages > FramePins::PLACES as u64 || !self.is_droppable(start, pages) {
            return (behind.max(at + 1), 0);
        }
        let mut pins = FramePins::new(self.store().frames());
        for place in 0..pages {
            if let Some(frame) = self.tree().take(start + place) {
                pins.put(place as usize, frame);
            }
        }
        let block = pins.claim();
        let written = block.as_ref().is_some_and(|block| block.is_written());
        if let Some(block) = block {
            if !written || planted::is(Fault::DropDirty) {
                return (behind, pages);
            }
            let page = block.into_object(self.number());
            self.tree().put_back(start, page, pages);
        }
        for place in 0..pages {
            if let Some(frame) = pins.take(place as usize) {
                self.tree().put_back(start + place, frame, 1);
            }
        }
        (behind, 0)
    }

    /// Whether it makes sense to try: nothing says yet that one of the pages was written.
    fn is_droppable(&self, start: u64, pages: u64) -> bool {
        let clean = |index| self.resident(index).is_some_and(|page| !page.is_written());
        planted::is(Fault::DropDirty) || (start..start + pages).all(clean)
    }
}

/// The index of the first page of the block that `page`, at index `at`, is of, and its pages. A block
/// that begins before the object is given as it would lie.
fn block_of(page: &UserFrame, at: u64) -> (u64, u64) {
    let into = page.pfn().raw() - page.block().raw();
    (at.saturating_sub(into), 1 << page.order())
}
