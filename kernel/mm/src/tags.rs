//! Storage for allocation tags: who makes room for them, and what is known of it (TAG-02, TAG-17 to
//! TAG-19).
//!
//! Storage frames hold pages of objects while nobody needs them for tags: pages that can be dropped and
//! come again (the policy *discard*, B.6), or any that can be moved (*migrate*). To reserve a block,
//! what is in it is dropped, else moved to ordinary memory, through the reverse map of its object; a
//! page that neither can be done with makes the reservation fail, at once and for good as far as this
//! attempt goes (law 14). No lock is held meanwhile.

use arm64::addr::Pfn;
use arrayvec::ArrayVec;
use frame::slab::Ref;
use frame::{
    BlockClaim, BlockRef, FreshFrame, MAX_TAG_BLOCK, OutOfMemory, Reservation, Unreserved,
};
use pgtable::Machine;
use sync::SpinLock;
use sync::atomic::{AtomicU64, Ordering};
use sync::rank;

use crate::context::MmContext;
use crate::object::{Evicted, MemObject};
use crate::stats::Counter;

/// What tag storage holds while it holds no tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum StoragePolicy {
    /// Pages of images and of pagers, which can be dropped as long as they are clean.
    #[default]
    Discard = 0,
    /// Pages of all objects, which can be moved.
    Migrate = 1,
    /// Nothing.
    Keep = 2,
}

impl StoragePolicy {
    /// The policy of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "discard" => Some(Self::Discard),
            "migrate" => Some(Self::Migrate),
            "keep" => Some(Self::Keep),
            _ => None,
        }
    }

    pub(crate) const fn from_word(word: u32) -> Self {
        match word {
            1 => Self::Migrate,
            2 => Self::Keep,
            _ => Self::Discard,
        }
    }
}

/// Why pages have no storage for tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTags {
    /// Somebody else is about the same block: come again.
    Busy,
    /// What the block holds cannot go.
    Full,
    /// They never can.
    Never,
}

/// Bins of a histogram: 0, then one for each power of two, the last for all from 2^14 on.
pub const BINS: usize = 16;

/// How often something took how much, by powers of two.
#[derive(Debug, Default)]
pub struct Histogram([Counter; BINS]);

impl Histogram {
    /// Counts `value`: in bin 0, or in bin 1 + log2.
    pub fn add(&self, value: u64) {
        let bin = match value {
            0 => 0,
            value => 1 + value.ilog2() as usize,
        };
        self.0[bin.min(BINS - 1)].bump();
    }

    /// What was counted.
    pub fn bins(&self) -> [u64; BINS] {
        self.0.each_ref().map(Counter::get)
    }
}

/// A fault that has been replayed and is not resolved.
#[derive(Clone, Copy, Debug)]
struct Replayed {
    space: u32,
    page: u64,
    times: u32,
    since: u64,
}

/// Times that a fault for which there is no storage is made again.
pub(crate) const REPLAYS: u32 = 64;

/// Faults whose replays are remembered; of more, the oldest are forgotten.
const REMEMBERED: usize = 16;

/// What tag storage has come to on this machine.
#[derive(Debug, Default)]
pub struct TagEvents {
    /// Faults that were made again because somebody else was about the same page or block.
    pub replays: Counter,
    /// Pages dropped from storage for tags.
    pub pages_dropped: Counter,
    /// Pages moved out of storage for tags, or because they are to carry tags themselves.
    pub pages_moved: Counter,
    /// Pages to be tagged that moved to where there is storage.
    pub pages_relocated: Counter,
    /// Reservations that failed: what the block held could not go.
    pub refused: Counter,
    /// Pages that were mapped without access for want of storage.
    pub unbacked: Counter,
    /// Faults that ended in an error because there is no storage.
    pub failed: Counter,
    /// How often faults were made again before they were resolved.
    pub replays_per_fault: Histogram,
    /// How long that took, in instructions (or ticks).
    pub time_to_resolve: Histogram,
    replayed: SpinLock<ArrayVec<Replayed, REMEMBERED>, rank::Leaf>,
    any: AtomicU64,
}

impl TagEvents {
    /// The fault at `va` is to be made again; how many times that is.
    #[cold]
    pub(crate) fn replay(&self, space: u32, va: u64, now: u64) -> u32 {
        self.replays.bump();
        let page = va >> 12;
        let mut replayed = self.replayed.lock();
        let known = replayed
            .iter_mut()
            .find(|fault| (fault.space, fault.page) == (space, page));
        if let Some(fault) = known {
            fault.times += 1;
            return fault.times;
        }
        if replayed.is_full() {
            replayed.remove(0);
        }
        replayed.push(Replayed {
            space,
            page,
            times: 1,
            since: now,
        });
        self.any.store(1, Ordering::Relaxed);
        1
    }

    /// The fault at `va` ends in an error.
    #[cold]
    pub(crate) fn give_up(&self, space: u32, va: u64) {
        self.take(space, va);
        self.failed.bump();
    }

    /// The fault at `va` is over, which began at `began` if it was not made again.
    #[inline]
    pub(crate) fn resolved(&self, space: u32, va: u64, began: u64, now: u64) {
        let known = match self.any.load(Ordering::Relaxed) {
            0 => None,
            _ => self.take(space, va),
        };
        let (times, since) = known.map_or((0, began), |fault| (fault.times, fault.since));
        self.replays_per_fault.add(times.into());
        self.time_to_resolve.add(now.saturating_sub(since));
    }

    #[cold]
    fn take(&self, space: u32, va: u64) -> Option<Replayed> {
        let mut replayed = self.replayed.lock();
        let at = replayed
            .iter()
            .position(|fault| (fault.space, fault.page) == (space, va >> 12))?;
        let fault = replayed.remove(at);
        self.any
            .store(u64::from(!replayed.is_empty()), Ordering::Relaxed);
        Some(fault)
    }
}

impl<M: Machine> MmContext<M> {
    /// What tag storage has come to.
    pub fn tag_events(&self) -> &TagEvents {
        &self.tag_events
    }

    /// Storage for the tags of `count` pages from `first` on. Bounded: each block is emptied once at
    /// most.
    #[inline]
    pub(crate) fn reserve_tags(&self, first: Pfn, count: u64) -> Result<Reservation, NoTags> {
        match self.machine.frames().reserve_tags(first, count) {
            Ok(reservation) => Ok(reservation),
            Err(why) => self.make_storage(first, count, why),
        }
    }

    #[cold]
    #[inline(never)]
    fn make_storage(
        &self,
        first: Pfn,
        count: u64,
        mut why: Unreserved,
    ) -> Result<Reservation, NoTags> {
        // Blocks that are ready are kept until all are: else they would go back to data at once.
        let mut ready = ArrayVec::<BlockRef, { 512 / 32 + 1 }>::new();
        loop {
            let claim = match why {
                Unreserved::Claimed(claim) => claim,
                Unreserved::Busy => return Err(NoTags::Busy),
                Unreserved::Untaggable => return Err(NoTags::Never),
            };
            let busy = self.empty(&claim);
            match claim.complete() {
                Ok(block) if !ready.is_full() => ready.push(block),
                Ok(_) => return Err(NoTags::Full),
                Err(_) if busy => return Err(NoTags::Busy),
                Err(claim) => {
                    drop(claim);
                    self.tag_events.refused.bump();
                    return Err(NoTags::Full);
                }
            }
            match self.machine.frames().reserve_tags(first, count) {
                Ok(reservation) => return Ok(reservation),
                Err(next) => why = next,
            }
        }
    }

    /// Whether the tags of both pages lie in one block of storage.
    pub(crate) fn shares_storage(&self, one: Pfn, other: Pfn) -> bool {
        self.machine.frames().shares_storage(one, other)
    }

    /// Has all data of a block dropped or moved, as far as it can be. Whether what is left may go soon.
    fn empty(&self, claim: &BlockClaim) -> bool {
        let data: ArrayVec<Pfn, { MAX_TAG_BLOCK as usize }> = claim.data().collect();
        let left = data.iter().map(|pfn| self.evict(*pfn));
        left.fold(false, |busy, one| busy | (one == Evicted::Busy))
    }

    /// Takes a page out of tag storage, as far as it can be.
    fn evict(&self, pfn: Pfn) -> Evicted {
        let frames = self.machine.frames();
        let Some(page) = frames.try_pin_user(pfn) else {
            // It is about to be somebody's, or nobody's any more.
            return Evicted::Busy;
        };
        let (number, index) = (page.owner(), page.index());
        drop(page);
        let Some(object) = self.objects().stored(number) else {
            return Evicted::Held;
        };
        if MemObject::drop_page(&object, index) == Evicted::Done {
            self.tag_events.pages_dropped.bump();
            return Evicted::Done;
        }
        self.move_out(&object, index)
    }

    /// Moves page `index` of an object out of tag storage.
    pub(crate) fn move_out(&self, object: &Ref<MemObject>, index: u64) -> Evicted {
        let Ok(to) = self.machine.frames().alloc_fresh(0, false) else {
            return Evicted::Held;
        };
        let moved = MemObject::move_page(object, index, to);
        if moved == Evicted::Done {
            self.tag_events.pages_moved.bump();
        }
        moved
    }

    /// A cleared frame for a page of `object`: of tag storage, if its pages may be there.
    pub(crate) fn frame_for(
        &self,
        object: &Ref<MemObject>,
        index: u64,
    ) -> Result<FreshFrame, OutOfMemory> {
        if self.may_store(object)
            && let Ok(mut frame) = self.machine.frames().alloc_untaggable(true)
        {
            frame.set_index(index);
            return Ok(frame);
        }
        self.machine.frames().alloc_fresh(0, true)
    }

    fn may_store(&self, object: &Ref<MemObject>) -> bool {
        let wanted = match self.policy().storage() {
            StoragePolicy::Discard => !object.is_plain(),
            StoragePolicy::Migrate => true,
            StoragePolicy::Keep => false,
        };
        wanted && self.machine.frames().has_tag_storage() && self.objects().store_pages_of(object)
    }
}
