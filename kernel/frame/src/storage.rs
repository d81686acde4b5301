//! Tag storage: frames that hold the allocation tags of others, or data while nobody needs them for
//! that (TAG-03, TAG-23, law 13).
//!
//! A region's storage frames serve 32 times as many frames, in order: the tag page of a frame lies as
//! far into the storage as the frame into the memory served, divided by 32, rounded down to a block
//! of the region. A block is all data or all tags:
//!
//! | word of the block | its frames |
//! |---|---|
//! | 0 | free ([`Class::TagFree`], in the pool) or data ([`Class::Untaggable`]) |
//! | 1 | being taken by one [`BlockClaim`], or given back |
//! | 1 + n | tags ([`Class::Tags`]) of n pages |
//!
//! The word is in the record of the block's first frame. Nobody waits for it: who finds 1 is told so,
//! and comes again (law 14). A frame that is freed while its block is being taken is left out of the
//! pool, for the claim to find.

use core::ops::Range;

use arm64::addr::Pfn;
use sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sync::planted::{self, Fault};
use sync::{Once, SpinLock, rank};

use crate::frames::Frames;
use crate::fresh::FreshFrame;
use crate::meta::{Class, FrameMeta, IN_POOL, NONE};
use crate::stats::OutOfMemory;

/// Most regions.
pub const MAX_TAG_REGIONS: usize = 32;
/// Pages whose tags fill a page.
pub const PAGES_PER_TAG_PAGE: u64 = 32;
/// Most frames of a block: 32 KiB. Dropping their tags from the caches is one stay (law 16).
pub const MAX_TAG_BLOCK: u32 = 8;

/// No tags.
const DATA: u32 = 0;
/// Between data and tags.
const TAKEN: u32 = 1;

/// One region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRegion {
    /// The frames that hold tags or data.
    pub storage: Range<Pfn>,
    /// The frames whose tags they hold: 32 times as many at most.
    pub tagged: Range<Pfn>,
    /// Frames of a block, 1 to [`MAX_TAG_BLOCK`]; `storage` is whole blocks.
    pub block_pages: u32,
}

impl TagRegion {
    fn serves(&self, pfn: Pfn) -> bool {
        let within = |range: &Range<Pfn>| range.start <= pfn && pfn < range.end;
        within(&self.tagged) && !within(&self.storage)
    }

    /// The block for `pfn`, and how many pages from there on have the same.
    fn block_of(&self, pfn: Pfn) -> (Pfn, u64) {
        let into = pfn.raw() - self.tagged.start.raw();
        let served = PAGES_PER_TAG_PAGE * u64::from(self.block_pages);
        let block = into / served;
        let first = self.storage.start.add(block * u64::from(self.block_pages));
        (first, served - into % served)
    }

    /// The first frame of the block that the storage frame `pfn` is of.
    fn block_around(&self, pfn: Pfn) -> Pfn {
        let into = pfn.raw() - self.storage.start.raw();
        Pfn::new(pfn.raw() - into % u64::from(self.block_pages))
    }
}

/// What the allocator knows of tag storage.
pub(crate) struct Storage {
    regions: Once<Regions>,
    pool: SpinLock<Pool, rank::TagRegion>,
    reserved: AtomicU64,
    peak: AtomicU64,
    claims: AtomicU64,
    busy: AtomicU64,
}

struct Regions {
    list: [Option<TagRegion>; MAX_TAG_REGIONS],
    count: usize,
}

/// Free storage frames, linked through their records.
struct Pool {
    first: u64,
    free: u64,
}

/// Counts of tag storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagStats {
    /// Frames of all regions.
    pub frames: u64,
    /// Of these, frames that hold data.
    pub data: u64,
    /// Of these, frames that hold tags.
    pub tags: u64,
    /// Blocks that hold tags.
    pub blocks: u64,
    /// Most of them at a time.
    pub blocks_peak: u64,
    /// Blocks that were taken for tags.
    pub reserved: u64,
    /// Times that a block was found in the hands of somebody else.
    pub busy: u64,
}

/// Why pages have no storage.
pub enum Unreserved {
    /// The caller is to empty this block and complete its claim, and try again.
    Claimed(BlockClaim),
    /// Somebody else is taking the block or giving it back: come again.
    Busy,
    /// The pages can never have tags: they are storage themselves, or no region serves them.
    Untaggable,
}

impl Storage {
    sync::const_fn! {
        pub(crate) const fn new() -> Self {
            Self {
                regions: Once::new(),
                pool: SpinLock::new(Pool { first: NONE, free: 0 }),
                reserved: AtomicU64::new(0),
                peak: AtomicU64::new(0),
                claims: AtomicU64::new(0),
                busy: AtomicU64::new(0),
            }
        }
    }

    fn regions(&self) -> &[Option<TagRegion>] {
        self.regions.get().map_or(&[], |all| &all.list[..all.count])
    }

    fn region(&self, is_it: impl Fn(&TagRegion) -> bool) -> Option<&TagRegion> {
        self.regions().iter().flatten().find(|region| is_it(region))
    }

    fn region_of_storage(&self, pfn: Pfn) -> Option<&TagRegion> {
        self.region(|region| region.storage.start <= pfn && pfn < region.storage.end)
    }
}

impl Frames {
    /// Makes tag storage known, once, at boot: its frames, of class reserved, are free for data from
    /// then on. More than [`MAX_TAG_REGIONS`] are left out.
    ///
    /// # Panics
    /// If a frame is not in a bank, or not reserved.
    ///
    /// # Safety
    /// Nothing else uses these frames from now on.
    pub unsafe fn add_tag_regions(&self, regions: impl Iterator<Item = TagRegion>) {
        let mut all = Regions {
            list: [const { None }; MAX_TAG_REGIONS],
            count: 0,
        };
        for (place, region) in all.list.iter_mut().zip(regions) {
            *place = Some(region);
            all.count += 1;
        }
        self.storage.regions.call_once(|| all);
        for region in self.storage.regions().iter().flatten() {
            let records = self.map.slice(&region.storage);
            let reserved = records.iter().all(|meta| meta.is(Class::Reserved));
            assert!(reserved, "tag storage is used for something else");
            self.count_by_hand(Class::Reserved, (records.len() as u64).wrapping_neg());
            self.count_by_hand(Class::TagFree, records.len() as u64);
            let mut pool = self.storage.pool.lock();
            for pfn in (region.storage.start.raw()..region.storage.end.raw()).rev() {
                self.put_in_pool(&mut pool, Pfn::new(pfn));
            }
        }
    }

    /// Whether there is tag storage: else every frame carries tags as it is.
    #[inline]
    pub fn has_tag_storage(&self) -> bool {
        !self.storage.regions().is_empty()
    }

    /// The regions.
    pub fn tag_regions(&self) -> impl Iterator<Item = &TagRegion> {
        self.storage.regions().iter().flatten()
    }

    /// A frame of tag storage for data, cleared if `zeroed`: memory that can be had back at any time,
    /// since whoever needs it for tags drops what it holds.
    ///
    /// # Errors
    /// [`OutOfMemory`]: none is free.
    pub fn alloc_untaggable(&'static self, zeroed: bool) -> Result<FreshFrame, OutOfMemory> {
        self.fail_on_purpose()?;
        let mut pool = self.storage.pool.lock();
        let pfn = match pool.first {
            NONE => return Err(OutOfMemory),
            first => Pfn::new(first),
        };
        self.take_from_pool(&mut pool, pfn);
        // SAFETY: frames of the pool are in banks.
        let meta = unsafe { self.record(pfn) };
        meta.set_allocated(Class::Untaggable, 0, 0);
        drop(pool);
        self.count_by_hand(Class::TagFree, u64::MAX);
        self.count_by_hand(Class::Untaggable, 1);
        let mut frame = FreshFrame::claimed(self, pfn, 0);
        if zeroed {
            frame.zero_page(0);
        }
        Ok(frame)
    }

    /// Takes back a storage frame that held data: for the pool, or for who is taking its block.
    #[cold]
    pub(crate) fn give_back_untaggable(&self, pfn: Pfn) {
        self.count_by_hand(Class::Untaggable, u64::MAX);
        self.count_by_hand(Class::TagFree, 1);
        let mut pool = self.storage.pool.lock();
        // SAFETY: a typed frame comes from a bank.
        unsafe { self.record(pfn) }.set_storage(Class::TagFree, 0);
        let block = self.storage.region_of_storage(pfn);
        let wanted = block.is_some_and(|region| {
            self.block_word(region.block_around(pfn))
                .load(Ordering::Relaxed)
                == TAKEN
        });
        if !wanted {
            self.put_in_pool(&mut pool, pfn);
        }
    }

    /// References to the storage of `count` pages from `first` on, of one block of frames.
    ///
    /// # Errors
    /// [`Unreserved`]: nothing is referred to.
    pub fn reserve_tags(&'static self, first: Pfn, count: u64) -> Result<Reservation, Unreserved> {
        let mut reservation = Reservation {
            frames: self,
            first,
            count: 0,
        };
        if !self.has_tag_storage() {
            reservation.count = count;
            return Ok(reservation);
        }
        while reservation.count < count {
            let next = first.add(reservation.count);
            let Some(region) = self.storage.region(|region| region.serves(next)) else {
                return Err(Unreserved::Untaggable);
            };
            let (block, reach) = region.block_of(next);
            let pages = reach.min(count - reservation.count);
            self.refer_to(block, region.block_pages, pages as u32)?;
            reservation.count += pages;
        }
        Ok(reservation)
    }

    /// Adds references to a block that holds tags, or claims it.
    fn refer_to(&'static self, block: Pfn, pages: u32, more: u32) -> Result<(), Unreserved> {
        let word = self.block_word(block);
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let (next, result) = match seen {
                TAKEN => {
                    self.storage.busy.fetch_add(1, Ordering::Relaxed);
                    return Err(Unreserved::Busy);
                }
                DATA => (TAKEN, false),
                held => (held + more, true),
            };
            let taken =
                word.compare_exchange_weak(seen, next, Ordering::Acquire, Ordering::Relaxed);
            match (taken, result) {
                (Ok(_), true) => return Ok(()),
                (Ok(_), false) => {
                    self.storage.claims.fetch_add(1, Ordering::Relaxed);
                    return Err(Unreserved::Claimed(BlockClaim {
                        frames: self,
                        first: block,
                        pages,
                    }));
                }
                (Err(now), _) => seen = now,
            }
        }
    }

    /// Whether the frame is one of tag storage.
    pub fn is_tag_storage(&self, pfn: Pfn) -> bool {
        self.storage.region_of_storage(pfn).is_some()
    }

    /// The frames whose tags the block of storage holds that begins with `block`.
    pub fn served_by(&self, block: Pfn, pages: u32) -> Option<Range<Pfn>> {
        let region = self.storage.region_of_storage(block)?;
        let into = (block.raw() - region.storage.start.raw()) * PAGES_PER_TAG_PAGE;
        let first = region.tagged.start.add(into);
        let end = first.raw() + u64::from(pages) * PAGES_PER_TAG_PAGE;
        let end = Pfn::new(end.min(region.tagged.end.raw()));
        (first < end).then_some(first..end)
    }

    /// Whether the tags of both frames lie in one block; without tag storage, whether they would with
    /// blocks of a page.
    pub fn shares_storage(&self, one: Pfn, other: Pfn) -> bool {
        if !self.has_tag_storage() {
            return one.raw() / PAGES_PER_TAG_PAGE == other.raw() / PAGES_PER_TAG_PAGE;
        }
        let block = |pfn: Pfn| {
            let region = self.storage.region(|region| region.serves(pfn))?;
            Some(region.block_of(pfn).0)
        };
        block(one).is_some_and(|first| block(other) == Some(first))
    }

    /// Ends references to the storage of `count` pages from `first` on.
    fn release_tags(&self, first: Pfn, count: u64) {
        let mut done = 0;
        while done < count && self.has_tag_storage() {
            let next = first.add(done);
            let Some(region) = self.storage.region(|region| region.serves(next)) else {
                return;
            };
            let (block, reach) = region.block_of(next);
            let pages = reach.min(count - done);
            self.release_block(block, region.block_pages, pages as u32);
            done += pages;
        }
    }

    /// Ends references to a block; with the last one it holds data again. In any context: nobody is
    /// waited for, and no lock but the pool's is taken (TAG-29).
    fn release_block(&self, block: Pfn, pages: u32, fewer: u32) {
        let word = self.block_word(block);
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            assert!(seen > fewer, "tag storage given back that nobody had");
            // What is left is 1, which is what a block in somebody's hands is.
            match word.compare_exchange_weak(
                seen,
                seen - fewer,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) if seen - fewer == TAKEN => break,
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
        self.storage.reserved.fetch_sub(1, Ordering::Relaxed);
        if let Some(ops) = self.tag_ops() {
            (ops.block_free)(block, pages);
        }
        self.count_by_hand(Class::Tags, u64::from(pages).wrapping_neg());
        self.count_by_hand(Class::TagFree, pages.into());
        let mut pool = self.storage.pool.lock();
        for pfn in (0..pages).map(|page| block.add(page.into())) {
            // SAFETY: storage frames are in banks.
            unsafe { self.record(pfn) }.set_storage(Class::TagFree, 0);
            self.put_in_pool(&mut pool, pfn);
        }
        word.store(DATA, Ordering::Release);
    }

    /// Forgets the tags of the frame `pfn`, which nobody holds any more, and what it had of a block.
    #[cold]
    #[inline(never)]
    pub(crate) fn untag(&self, pfn: Pfn, meta: &FrameMeta) {
        meta.clear_tagged();
        if !planted::is(Fault::KeepTagStorage) {
            self.release_tags(pfn, 1);
        }
    }

    /// As [`Self::untag`], of frames that follow each other.
    #[cold]
    pub(crate) fn untag_run(&self, first: Pfn, records: &[FrameMeta]) {
        records.iter().for_each(FrameMeta::clear_tagged);
        if !planted::is(Fault::KeepTagStorage) {
            self.release_tags(first, records.len() as u64);
        }
    }

    /// Counts of tag storage.
    pub fn tag_stats(&self) -> TagStats {
        let by_hand = |class: Class| self.by_hand[class as usize].load(Ordering::Relaxed);
        let frames = |region: &TagRegion| region.storage.end.raw() - region.storage.start.raw();
        TagStats {
            frames: self.tag_regions().map(frames).sum(),
            data: by_hand(Class::Untaggable),
            tags: by_hand(Class::Tags),
            blocks: self.storage.reserved.load(Ordering::Relaxed),
            blocks_peak: self.storage.peak.load(Ordering::Relaxed),
            reserved: self.storage.claims.load(Ordering::Relaxed),
            busy: self.storage.busy.load(Ordering::Relaxed),
        }
    }

    fn block_word(&self, block: Pfn) -> &AtomicU32 {
        // SAFETY: storage frames are in banks.
        unsafe { self.record(block) }.table_live()
    }

    fn count_by_hand(&self, class: Class, change: u64) {
        self.by_hand[class as usize].fetch_add(change, Ordering::Relaxed);
    }

    fn put_in_pool(&self, pool: &mut Pool, pfn: Pfn) {
        // SAFETY: storage frames are in banks, and so are those in the pool.
        let record = |pfn| unsafe { self.record(Pfn::new(pfn)) };
        let meta = record(pfn.raw());
        meta.set_storage(Class::TagFree, IN_POOL);
        meta.prev.store(NONE, Ordering::Relaxed);
        meta.next.store(pool.first, Ordering::Relaxed);
        if pool.first != NONE {
            record(pool.first).prev.store(pfn.raw(), Ordering::Relaxed);
        }
        pool.first = pfn.raw();
        pool.free += 1;
    }

    fn take_from_pool(&self, pool: &mut Pool, pfn: Pfn) {
        // SAFETY: as in `put_in_pool`.
        let record = |pfn| unsafe { self.record(Pfn::new(pfn)) };
        let meta = record(pfn.raw());
        let (prev, next) = (
            meta.prev.load(Ordering::Relaxed),
            meta.next.load(Ordering::Relaxed),
        );
        match prev {
            NONE => pool.first = next,
            prev => record(prev).next.store(next, Ordering::Relaxed),
        }
        if next != NONE {
            record(next).prev.store(prev, Ordering::Relaxed);
        }
        meta.set_storage(Class::TagFree, 0);
        pool.free -= 1;
    }
}

/// A block of tag storage in the hands of one caller, who empties it: law 13 from data to tags. Dropped,
/// it holds data again.
#[must_use = "a block that is not completed is given back"]
pub struct BlockClaim {
    frames: &'static Frames,
    first: Pfn,
    pages: u32,
}

impl BlockClaim {
    fn all(&self) -> impl Iterator<Item = Pfn> + use<> {
        let first = self.first;
        (0..self.pages).map(move |page| first.add(page.into()))
    }

    /// The frames of the block that hold data, which are to be freed.
    pub fn data(&self) -> impl Iterator<Item = Pfn> + '_ {
        // SAFETY: storage frames are in banks.
        let is_data = |pfn: &Pfn| unsafe { self.frames.record(*pfn) }.is(Class::Untaggable);
        self.all().filter(is_data)
    }

    /// Makes the block one for tags, with one reference, if all of its data is gone.
    ///
    /// # Errors
    /// The claim comes back if some is there.
    pub fn complete(self) -> Result<BlockRef, Self> {
        let (frames, mut taken) = (self.frames, 0);
        let mut pool = frames.storage.pool.lock();
        for pfn in self.all() {
            // SAFETY: storage frames are in banks.
            let meta = unsafe { frames.record(pfn) };
            if meta.is(Class::TagFree) {
                if meta.is_in_pool() {
                    frames.take_from_pool(&mut pool, pfn);
                }
                meta.set_storage(Class::Tags, 0);
                taken += 1;
            } else if meta.is(Class::Tags) {
                continue;
            } else if !planted::is(Fault::ReserveWithoutTake) {
                drop(pool);
                self.count(taken);
                return Err(self);
            }
        }
        drop(pool);
        self.count(taken);
        if let Some(ops) = frames.tag_ops() {
            (ops.block_taken)(self.first, self.pages);
        }
        let block = BlockRef {
            frames,
            first: self.first,
            pages: self.pages,
        };
        let now = frames.storage.reserved.fetch_add(1, Ordering::Relaxed) + 1;
        frames.storage.peak.fetch_max(now, Ordering::Relaxed);
        // Whoever refers to it from here on finds it prepared.
        frames
            .block_word(self.first)
            .store(TAKEN + 1, Ordering::Release);
        core::mem::forget(self);
        Ok(block)
    }

    fn count(&self, taken: u64) {
        let frames = self.frames;
        frames.count_by_hand(Class::TagFree, taken.wrapping_neg());
        frames.count_by_hand(Class::Tags, taken);
    }
}

impl Drop for BlockClaim {
    fn drop(&mut self) {
        let (frames, mut given) = (self.frames, 0u64);
        let mut pool = frames.storage.pool.lock();
        for pfn in self.all() {
            // SAFETY: storage frames are in banks.
            let meta = unsafe { frames.record(pfn) };
            if meta.is(Class::Tags) {
                given += 1;
                frames.put_in_pool(&mut pool, pfn);
            } else if meta.is(Class::TagFree) && !meta.is_in_pool() {
                frames.put_in_pool(&mut pool, pfn);
            }
        }
        // Under the lock: who frees data of the block sees that nobody wants it any more.
        frames.block_word(self.first).store(DATA, Ordering::Release);
        drop(pool);
        self.count(given.wrapping_neg());
    }
}

/// A reference to a block that holds tags.
#[must_use = "a reference that is dropped is over"]
pub struct BlockRef {
    frames: &'static Frames,
    first: Pfn,
    pages: u32,
}

impl Drop for BlockRef {
    fn drop(&mut self) {
        self.frames.release_block(self.first, self.pages, 1);
    }
}

/// References to the storage of some pages, one for each: what pages that carry tags have (TAG-24).
#[must_use = "storage that is not given to pages goes back"]
pub struct Reservation {
    frames: &'static Frames,
    first: Pfn,
    count: u64,
}

impl Reservation {
    /// The references become those of the pages, which are `count` from `first` on.
    ///
    /// # Panics
    /// If they are of other pages.
    #[inline]
    pub(crate) fn give_to(self, first: Pfn, count: u64) {
        assert!(
            (self.first, self.count) == (first, count),
            "storage of other pages"
        );
        core::mem::forget(self);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.frames.release_tags(self.first, self.count);
    }
}

impl core::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Reservation({:#x}, {})", self.first.raw(), self.count)
    }
}
