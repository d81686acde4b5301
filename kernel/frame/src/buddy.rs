//! The buddy lists: free memory as aligned blocks of 1 to 1024 frames.
//!
//! A block of order *n* starts at a multiple of 2ⁿ frames. Two blocks that differ in that bit of
//! their number only are buddies, and are joined when both are free. The lists run through the
//! records of the blocks' first frames; each list is last-in, first-out, so warm memory is reused.

use crate::memmap::Memmap;
use crate::meta::{FrameMeta, IN_BUDDY, NONE};
use arm64::addr::Pfn;
use core::ops::Range;
use sync::atomic::Ordering::Relaxed;

/// The greatest order of a block: 4 MiB.
pub const MAX_ORDER: u8 = 10;
/// The number of orders.
pub(crate) const ORDERS: usize = MAX_ORDER as usize + 1;

/// The heads of the lists. All frames on them are in banks: they come from `Frames::release`.
pub(crate) struct Buddy {
    heads: [u64; ORDERS],
    /// Bit *n*: list *n* is not empty.
    nonempty: u32,
    blocks: [u64; ORDERS],
    free: u64,
}

impl Buddy {
    pub(crate) const fn new() -> Self {
        Self {
            heads: [NONE; ORDERS],
            nonempty: 0,
            blocks: [0; ORDERS],
            free: 0,
        }
    }

    /// Free frames in the lists.
    pub(crate) fn free_frames(&self) -> u64 {
        self.free
    }

    /// Blocks in each list.
    pub(crate) fn blocks(&self) -> [u64; ORDERS] {
        self.blocks
    }

    /// The smallest order of which a block is free.
    pub(crate) fn smallest(&self) -> Option<u8> {
        (self.nonempty != 0).then(|| self.nonempty.trailing_zeros() as u8)
    }

    /// Takes a block, splitting the smallest that is large enough.
    #[inline(always)]
    pub(crate) fn alloc(&mut self, map: &Memmap, order: u8) -> Option<Pfn> {
        let enough = self.nonempty & (u32::MAX << order);
        if enough == 0 {
            return None;
        }
        let mut found = enough.trailing_zeros() as u8;
        let pfn = Pfn::new(self.heads[usize::from(found)]);
        self.unlink(map, pfn, found);
        while found > order {
            found -= 1;
            self.link(map, pfn.add(1 << found), found);
        }
        Some(pfn)
    }

    /// Gives a block back, joining it with its free buddies.
    pub(crate) fn free(&mut self, map: &Memmap, block: Pfn, order: u8) {
        let (mut pfn, mut order) = (block, order);
        while order < MAX_ORDER {
            let buddy = Pfn::new(pfn.raw() ^ (1 << order));
            // The buddy may be a hole between banks, where there is no record to look at.
            if !map
                .find(buddy)
                .is_some_and(|meta| meta.heads_free_block(order))
            {
                break;
            }
            self.unlink(map, buddy, order);
            order += 1;
            pfn = Pfn::new(pfn.raw() & (u64::MAX << order));
        }
        self.link(map, pfn, order);
    }

    /// Gives back all of `range` as the largest blocks that fit.
    pub(crate) fn free_range(&mut self, map: &Memmap, range: &Range<Pfn>) {
        let (mut pfn, end) = (range.start.raw(), range.end.raw());
        while pfn < end {
            let fits = (end - pfn).ilog2();
            let order = fits.min(pfn.trailing_zeros()).min(MAX_ORDER.into()) as u8;
            self.free(map, Pfn::new(pfn), order);
            pfn += 1 << order;
        }
    }

    #[inline(always)]
    fn link(&mut self, map: &Memmap, pfn: Pfn, order: u8) {
        let list = usize::from(order);
        let old = core::mem::replace(&mut self.heads[list], pfn.raw());
        let meta = listed(map, pfn);
        meta.set_free(order, IN_BUDDY);
        meta.prev.store(NONE, Relaxed);
        meta.next.store(old, Relaxed);
        if old != NONE {
            listed(map, Pfn::new(old)).prev.store(pfn.raw(), Relaxed);
        }
        self.nonempty |= 1 << order;
        self.blocks[list] += 1;
        self.free += 1 << order;
    }

    #[inline(always)]
    fn unlink(&mut self, map: &Memmap, pfn: Pfn, order: u8) {
        let list = usize::from(order);
        let meta = listed(map, pfn);
        assert!(
            meta.heads_free_block(order),
            "a free list contains a frame that is not free"
        );
        let (prev, next) = (meta.prev.load(Relaxed), meta.next.load(Relaxed));
        match prev {
            NONE => self.heads[list] = next,
            prev => listed(map, Pfn::new(prev)).next.store(next, Relaxed),
        }
        match next {
            NONE if prev == NONE => self.nonempty &= !(1 << order),
            NONE => {}
            next => listed(map, Pfn::new(next)).prev.store(prev, Relaxed),
        }
        meta.set_free(0, 0);
        self.blocks[list] -= 1;
        self.free -= 1 << order;
    }
}

#[inline(always)]
fn listed(map: &Memmap, pfn: Pfn) -> &FrameMeta {
    // SAFETY: blocks enter the lists from `Frames::release`, which checks that they are in a bank,
    // and from the typed frames, which come from the lists; links are written by this file only.
    unsafe { map.at(pfn) }
}
