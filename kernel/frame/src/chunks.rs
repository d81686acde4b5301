//! Chunks: aligned blocks set aside for tables, so that the direct map can be read-only over
//! tables and over nothing else (D16).
//!
//! A frame of a chunk is a table, or of class spare. The spare ones are in a list through their
//! records; where it begins and how long it is stands in the record of the chunk's first frame,
//! with the links of the list of those chunks that have a spare frame. So allocating and freeing
//! look at no more than three records. At most one chunk without a table is kept, so that a
//! table that comes and goes does not move a chunk each time; it is given back when memory is short.

use crate::buddy::MAX_ORDER;
use crate::frames::Frames;
use crate::meta::{Class, FrameMeta, NONE};
use crate::stats::OutOfMemory;
use arm64::addr::Pfn;
use sync::atomic::Ordering::Relaxed;

/// What chunks are, and what has to happen where one begins and ends.
#[derive(Clone, Copy, Debug)]
pub struct TableChunks {
    /// log2 of the frames in a chunk.
    pub order: u8,
    /// Told of the first frame of a block before any of its frames becomes a table. Answers
    /// whether it may hold tables; if not, the allocation fails. No lock but that of the chunks is
    /// held, and none before it in the lock order may be taken; nothing may be allocated.
    pub begin: fn(Pfn) -> bool,
    /// Told of a chunk that has no table any more, before its frames are anybody else's. As `begin`.
    pub end: fn(Pfn),
    /// Clears the page, in a chunk, that the allocator's window shows at this address.
    pub zero_page: unsafe fn(*mut u8),
}

/// Why a block could not be made a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// Tables come from anywhere on this machine.
    NoChunks,
    /// It is not aligned, or not within a bank.
    BadBlock,
    /// [`TableChunks::begin`] said no.
    Refused,
}

/// The chunks with spare frames.
#[derive(Debug)]
pub(crate) struct ChunkList {
    /// The one that tables come from next; [`NONE`].
    first: u64,
    /// The one that has no table; [`NONE`].
    empty: u64,
    /// All chunks, those without spare frames included.
    known: u64,
}

impl ChunkList {
    pub(crate) const fn new() -> Self {
        Self {
            first: NONE,
            empty: NONE,
            known: 0,
        }
    }
}

/// The spare frames of a chunk: where the list begins, as a place in the chunk, and how many
/// there are. A list of none begins anywhere.
#[derive(Clone, Copy)]
struct Spare {
    first: u64,
    count: u64,
}

impl FrameMeta {
    #[inline(always)]
    fn spare(&self) -> Spare {
        let word = self.chunk[0].load(Relaxed);
        Spare {
            first: word & 0xffff_ffff,
            count: word >> 32,
        }
    }

    #[inline(always)]
    fn set_spare(&self, first: u64, count: u64) {
        self.chunk[0].store(first | count << 32, Relaxed);
    }
}

impl Frames {
    /// From now on table frames come from chunks. Before the first table is allocated; tables that
    /// were adopted must be in blocks that become chunks next ([`Frames::adopt_chunk`]).
    ///
    /// # Panics
    /// If a table was allocated before, if this was said before, or for a nonsensical order.
    pub fn set_aside_tables(&self, rules: TableChunks) {
        let adopted = self.by_hand[Class::Table as usize].load(Relaxed);
        let tables = self.stats().of(Class::Table);
        assert_eq!(tables, adopted, "tables were allocated outside of chunks");
        assert!(rules.order <= MAX_ORDER, "a chunk is at most a block");
        assert!(self.chunk_rules.get().is_none(), "chunks are set up once");
        self.chunk_rules.call_once(|| rules);
    }

    /// Makes the block from `first` on a chunk: its frames are adopted tables, which stay, and
    /// frames of classes that are set by hand, which become spare.
    ///
    /// # Errors
    /// [`ChunkError`]; nothing has changed then.
    ///
    /// # Panics
    /// If a frame is of a class that only allocation gives.
    ///
    /// # Safety
    /// Nobody uses the frames that are no tables.
    pub unsafe fn adopt_chunk(&self, first: Pfn) -> Result<(), ChunkError> {
        let rules = self.chunk_rules.get().ok_or(ChunkError::NoChunks)?;
        let size = 1 << rules.order;
        let inside = self
            .banks()
            .any(|bank| bank.start <= first && first.add(size) <= bank.end);
        if !first.is_aligned(size) || !inside {
            return Err(ChunkError::BadBlock);
        }
        let mut chunks = self.chunks.lock();
        if !(rules.begin)(first) {
            return Err(ChunkError::Refused);
        }
        // SAFETY: within a bank.
        let records = unsafe { self.map.block(first, size as usize) };
        let spare = |meta: &FrameMeta| {
            let old = meta.class();
            if old != Class::Table {
                assert!(old.is_set_by_hand(), "a {} frame in a chunk", old.name());
                self.by_hand[old as usize].fetch_sub(1, Relaxed);
                self.by_hand[Class::Spare as usize].fetch_add(1, Relaxed);
            }
            old != Class::Table
        };
        self.enter(&mut chunks, first, records, spare);
        Ok(())
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u64 {
        self.chunks.lock().known
    }

    /// Makes those of the chunk's frames spare that `spare` names, and lists the chunk.
    fn enter(
        &self,
        chunks: &mut ChunkList,
        first: Pfn,
        records: &[FrameMeta],
        spare: impl Fn(&FrameMeta) -> bool,
    ) {
        let (mut next, mut count) = (0, 0);
        // Backwards: taken out again, the frames ascend.
        for (place, meta) in records.iter().enumerate().rev() {
            if spare(meta) {
                meta.set_allocated(Class::Spare, 0, 0);
                meta.next.store(first.raw() + next, Relaxed);
                next = place as u64;
                count += 1;
            }
        }
        records[0].set_spare(next, count);
        chunks.known += 1;
        if count > 0 {
            self.list(chunks, first, &records[0]);
        }
    }

    /// Takes a spare frame and makes it one of class table.
    #[inline]
    pub(crate) fn take_spare(&self, rules: &TableChunks) -> Result<Pfn, OutOfMemory> {
        self.fail_on_purpose()?;
        let mut chunks = self.chunks.lock();
        if chunks.first == NONE {
            self.begin_chunk(&mut chunks, rules)?;
        }
        let first = Pfn::new(chunks.first);
        // SAFETY: chunks are within banks.
        let chunk = unsafe { self.record(first) };
        let Spare {
            first: place,
            count,
        } = chunk.spare();
        let pfn = first.add(place);
        // SAFETY: a place in the chunk.
        let meta = unsafe { self.record(pfn) };
        assert!(meta.is(Class::Spare), "a spare frame is in use");
        meta.set_allocated(Class::Table, 0, 0);
        let mask = (1 << rules.order) - 1;
        chunk.set_spare(meta.next.load(Relaxed) & mask, count - 1);
        if count == 1 {
            self.unlist(&mut chunks, first, chunk);
        }
        if chunks.empty == first.raw() {
            chunks.empty = NONE;
        }
        drop(chunks);
        let cpu = self.this_cpu();
        cpu.count_alloc(Class::Table, 1);
        cpu.count(Class::Spare, 1u64.wrapping_neg());
        Ok(pfn)
    }

    /// Makes a table frame a spare one. A chunk without a table is kept if there is no other.
    ///
    /// # Panics
    /// If it is no table frame: freed twice.
    #[inline]
    pub(crate) fn give_back_spare(&self, rules: &TableChunks, pfn: Pfn) {
        let size = 1 << rules.order;
        let first = Pfn::new(pfn.raw() & !(size - 1));
        // SAFETY: both are in a chunk.
        let (meta, chunk) = unsafe { (self.record(pfn), self.record(first)) };
        let mut chunks = self.chunks.lock();
        assert!(meta.is(Class::Table), "a frame freed as a table");
        let spare = chunk.spare();
        meta.set_allocated(Class::Spare, 0, 0);
        meta.next.store(first.raw() + spare.first, Relaxed);
        chunk.set_spare(pfn.raw() - first.raw(), spare.count + 1);
        if spare.count == 0 {
            self.list(&mut chunks, first, chunk);
        }
        if spare.count + 1 == size {
            match chunks.empty {
                NONE => chunks.empty = first.raw(),
                _ => self.end_chunk(&mut chunks, rules, first),
            }
        }
        drop(chunks);
        let cpu = self.this_cpu();
        cpu.count_free(Class::Table, 1);
        cpu.count(Class::Spare, 1);
    }

    #[cold]
    #[inline(never)]
    fn begin_chunk(&self, chunks: &mut ChunkList, rules: &TableChunks) -> Result<(), OutOfMemory> {
        let found = self.find_block(rules.order);
        let first = found.ok_or_else(|| self.exhausted())?;
        if !(rules.begin)(first) {
            self.buddy.lock().free(&self.map, first, rules.order);
            return Err(OutOfMemory);
        }
        let size = 1 << rules.order;
        // SAFETY: blocks in the lists are in banks.
        let records = unsafe { self.map.block(first, size) };
        self.enter(chunks, first, records, |_| true);
        self.this_cpu().count(Class::Spare, size as u64);
        Ok(())
    }

    /// Gives a listed chunk without a table back.
    #[cold]
    #[inline(never)]
    fn end_chunk(&self, chunks: &mut ChunkList, rules: &TableChunks, first: Pfn) {
        let size = 1 << rules.order;
        // SAFETY: a chunk is within a bank.
        let records = unsafe { self.map.block(first, size) };
        self.unlist(chunks, first, &records[0]);
        (rules.end)(first);
        for meta in records {
            assert!(meta.is(Class::Spare), "a table in a chunk without one");
            meta.set_free(0, 0);
        }
        records[0]
            .chunk
            .iter()
            .for_each(|word| word.store(0, Relaxed));
        chunks.known -= 1;
        self.this_cpu()
            .count(Class::Spare, (size as u64).wrapping_neg());
        self.buddy.lock().free(&self.map, first, rules.order);
    }

    /// Gives the one chunk back that is kept without a table, if there is one: for callers that
    /// are out of memory.
    #[cold]
    pub(crate) fn end_empty_chunk(&self) -> bool {
        let Some(rules) = self.chunk_rules.get() else {
            return false;
        };
        let mut chunks = self.chunks.lock();
        match core::mem::replace(&mut chunks.empty, NONE) {
            NONE => false,
            first => {
                self.end_chunk(&mut chunks, rules, Pfn::new(first));
                true
            }
        }
    }

    fn list(&self, chunks: &mut ChunkList, first: Pfn, chunk: &FrameMeta) {
        let second = core::mem::replace(&mut chunks.first, first.raw());
        chunk.chunk[1].store(NONE, Relaxed);
        chunk.chunk[2].store(second, Relaxed);
        if second != NONE {
            self.link(second)[1].store(first.raw(), Relaxed);
        }
    }

    fn unlist(&self, chunks: &mut ChunkList, first: Pfn, chunk: &FrameMeta) {
        debug_assert_ne!(chunks.first, NONE, "{first:?} is not listed");
        let (prev, next) = (chunk.chunk[1].load(Relaxed), chunk.chunk[2].load(Relaxed));
        match prev {
            NONE => chunks.first = next,
            prev => self.link(prev)[2].store(next, Relaxed),
        }
        if next != NONE {
            self.link(next)[1].store(prev, Relaxed);
        }
    }

    fn link(&self, first: u64) -> &[sync::atomic::AtomicU64; 3] {
        // SAFETY: listed chunks are within banks.
        &unsafe { self.record(Pfn::new(first)) }.chunk
    }
}
