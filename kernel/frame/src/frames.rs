//! The allocator of physical frames.

use crate::buddy::{Buddy, MAX_ORDER};
use crate::chunks::{ChunkList, TableChunks};
use crate::memmap::{BankError, Memmap};
use crate::meta::{CLASSES, Class, FrameMeta, IN_CPU_LIST};
use crate::percpu::{BATCH, PerCpu};
use crate::stats::{FrameStats, OutOfMemory};
use crate::storage::{PAGES_PER_TAG_PAGE, Storage};
use crate::window::{PageOps, Window};
use arm64::addr::Pfn;
use core::ops::Range;
use core::ptr::NonNull;
use sync::atomic::{AtomicU64, Ordering::Relaxed};
use sync::{MAX_CPUS, Once, SpinLock, const_fn, cpu_index, rank};

/// All frames of the machine. The kernel has one, in a static.
///
/// Single frames go through a list of the running CPU, without a lock; larger blocks, and every
/// 32nd frame, through the buddy lists under one lock.
pub struct Frames {
    window: Window,
    ops: PageOps,
    pub(crate) map: Memmap,
    pub(crate) buddy: SpinLock<Buddy, rank::FrameList>,
    /// Set where table frames come from chunks.
    pub(crate) chunk_rules: Once<TableChunks>,
    pub(crate) chunks: SpinLock<ChunkList, rank::TableChunk>,
    pub(crate) storage: Storage,
    cpus: [PerCpu; MAX_CPUS],
    /// Frames of each class that were made so by hand, modulo 2^64; see `PerCpu::classes`.
    pub(crate) by_hand: [AtomicU64; CLASSES],
    /// One bit for each CPU that has been asked to give its list back.
    drain_wanted: AtomicU64,
    /// Where tables are, since loom's atomics are not memory.
    #[cfg(loom)]
    pub(crate) table_cells: crate::cells::Cells,
    /// Allocations that still succeed.
    #[cfg(any(test, feature = "inject"))]
    patience: AtomicU64,
}

// SAFETY: the two pointers inside (window, records) may be used from any CPU: the window is plain
// memory that typed frames share out, and records consist of atomics.
unsafe impl Send for Frames {}
// SAFETY: as above; everything mutable is behind a lock, or atomic.
unsafe impl Sync for Frames {}

impl Frames {
    const_fn! {
        /// An allocator that knows no memory yet.
        ///
        /// `records` is where the record of frame 0 is or would be; it need not exist.
        ///
        /// # Safety
        /// Until the end of the program: `window` shows the physical memory of every bank that
        /// will be added, mapped and writable, and no bank's memory is at a null address.
        pub const unsafe fn new(window: Window, records: NonNull<FrameMeta>, ops: PageOps) -> Self {
            #[cfg(not(loom))]
            let (cpus, by_hand) =
                ([const { PerCpu::new() }; MAX_CPUS], [const { AtomicU64::new(0) }; CLASSES]);
            #[cfg(loom)]
            let (cpus, by_hand) = (
                core::array::from_fn(|_| PerCpu::new()),
                core::array::from_fn(|_| AtomicU64::new(0)),
            );
            Self {
                window,
                ops,
                map: Memmap::new(records),
                buddy: SpinLock::new(Buddy::new()),
                chunk_rules: Once::new(),
                chunks: SpinLock::new(ChunkList::new()),
                storage: Storage::new(),
                cpus,
                by_hand,
                drain_wanted: AtomicU64::new(0),
                #[cfg(loom)]
                table_cells: crate::cells::Cells::default(),
                #[cfg(any(test, feature = "inject"))]
                patience: AtomicU64::new(u64::MAX),
            }
        }
    }

    /// Makes a bank of RAM known; all its frames are then of class reserved. At boot, or later for
    /// memory that comes online (CTOR-12).
    ///
    /// # Errors
    /// [`BankError`]; nothing has changed then.
    ///
    /// # Safety
    /// The records of these frames exist, zeroed, and stay; the frames are RAM seen by the window.
    pub unsafe fn add_bank(&self, range: Range<Pfn>) -> Result<(), BankError> {
        let guard = self.buddy.lock();
        self.map.add(&range)?;
        drop(guard);
        let records = self.map.slice(&range);
        records
            .iter()
            .for_each(|meta| meta.set_class(Class::Reserved));
        self.by_hand[Class::Reserved as usize].fetch_add(records.len() as u64, Relaxed);
        Ok(())
    }

    /// Says what frames that are not the allocator's are used for.
    ///
    /// # Panics
    /// If a frame is not in a bank, or is (or would become) of a class that only allocation gives.
    pub fn set_class(&self, range: Range<Pfn>, class: Class) {
        assert!(
            class.is_set_by_hand(),
            "class {} is not set by hand",
            class.name()
        );
        for meta in self.map.slice(&range) {
            let old = meta.class();
            assert!(
                old.is_set_by_hand(),
                "a {} frame cannot become {}",
                old.name(),
                class.name()
            );
            meta.set_class(class);
            self.by_hand[old as usize].fetch_sub(1, Relaxed);
            self.by_hand[class as usize].fetch_add(1, Relaxed);
        }
    }

    /// Gives reserved frames to the allocator.
    ///
    /// # Panics
    /// If the frames are not within one bank, or some are not of class reserved (each is looked at
    /// with debug assertions, otherwise the first and last).
    ///
    /// # Safety
    /// Nothing else uses these frames from now on.
    pub unsafe fn release(&self, range: Range<Pfn>) {
        let records = self.map.slice(&range);
        let is_reserved = |meta: &FrameMeta| meta.is(Class::Reserved);
        let ends = [records.first(), records.last()];
        let fine = ends.into_iter().flatten().all(is_reserved);
        assert!(fine, "only reserved frames can be released");
        debug_assert!(
            records.iter().all(is_reserved),
            "only reserved frames can be released"
        );
        fill(records, Class::Free);
        self.by_hand[Class::Reserved as usize].fetch_sub(records.len() as u64, Relaxed);
        self.buddy.lock().free_range(&self.map, &range);
    }

    /// The record of a frame; `None` outside of all banks.
    #[inline]
    pub fn meta(&self, pfn: Pfn) -> Option<&FrameMeta> {
        self.map.find(pfn)
    }

    /// The banks known, in the order in which they were added.
    pub fn banks(&self) -> impl Iterator<Item = Range<Pfn>> + '_ {
        self.map
            .banks()
            .map(|bank| Pfn::new(bank.start)..Pfn::new(bank.end))
    }

    /// Where physical memory is seen.
    #[inline(always)]
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// How whole pages are cleared and copied.
    #[inline(always)]
    pub fn page_ops(&self) -> &PageOps {
        &self.ops
    }

    /// The record of a frame that is known to be in a bank.
    ///
    /// # Safety
    /// It is.
    #[inline(always)]
    pub unsafe fn record(&self, pfn: Pfn) -> &FrameMeta {
        // SAFETY: as the caller promises.
        unsafe { self.map.at(pfn) }
    }

    /// The records of `count` frames from `pfn` on.
    ///
    /// # Safety
    /// They are in banks.
    pub(crate) unsafe fn records(&self, pfn: Pfn, count: usize) -> &[FrameMeta] {
        // SAFETY: as the caller promises.
        unsafe { self.map.block(pfn, count) }
    }

    #[inline(always)]
    pub(crate) fn this_cpu(&self) -> &PerCpu {
        &self.cpus[cpu_index()]
    }

    /// Takes a block and makes it one of `class`.
    #[inline(always)]
    pub(crate) fn take(&self, order: u8, class: Class) -> Result<Pfn, OutOfMemory> {
        self.fail_on_purpose()?;
        let cpu = self.this_cpu();
        if order != 0 {
            return self.take_block(cpu, order, class);
        }
        let pfn = match cpu.pop() {
            Some(pfn) => pfn,
            None => self.refill(cpu)?,
        };
        // SAFETY: frames in the lists are in banks.
        let meta = unsafe { self.record(pfn) };
        assert!(meta.is_in_cpu_list(), "a frame in a free list is in use");
        meta.set_allocated(class, 0, 0);
        cpu.count_alloc(class, 1);
        Ok(pfn)
    }

    /// Takes a block for memory with tags: from frames whose tag storage others have in use already, as
    /// far as there are such. A span of 32 frames, which have one page of tags, is used up before the
    /// next is begun.
    pub(crate) fn take_tagged(&self, order: u8) -> Result<Pfn, OutOfMemory> {
        const SPAN: u8 = PAGES_PER_TAG_PAGE.ilog2() as u8;
        if order >= SPAN || !self.has_tag_storage() {
            return self.take(order, Class::User);
        }
        self.fail_on_purpose()?;
        let (cpu, pages) = (self.this_cpu(), 1u64 << order);
        let (mut first, mut count) = cpu.span();
        // The frames before the first that is aligned are left for single pages.
        let aligned = first.raw().next_multiple_of(pages) == first.raw();
        if count < pages || !aligned {
            let Some(span) = self.find_block(SPAN) else {
                return self.take(order, Class::User);
            };
            self.give_back_span(cpu);
            (first, count) = (span, 1 << SPAN);
        }
        cpu.set_span(first.add(pages), count - pages);
        // SAFETY: frames of the buddy lists are in banks.
        let records = unsafe { self.map.block(first, pages as usize) };
        set_allocated(records, Class::User, order);
        cpu.count_alloc(Class::User, pages);
        Ok(first)
    }

    fn give_back_span(&self, cpu: &PerCpu) {
        let (first, count) = cpu.span();
        cpu.set_span(first, 0);
        if count > 0 {
            self.free_run(&(first.raw()..first.raw() + count));
        }
    }

    /// Gives a block of `class` back.
    ///
    /// # Panics
    /// If it is not a block of that class and order: freed twice, or by the wrong type.
    #[inline]
    pub(crate) fn give_back(&self, pfn: Pfn, order: u8, class: Class) {
        // SAFETY: only typed frames are given back; they come from banks.
        let meta = unsafe { self.record(pfn) };
        assert!(
            meta.is(class),
            "a {} frame freed as {}",
            meta.class().name(),
            class.name()
        );
        if class == Class::Untaggable {
            return self.give_back_untaggable(pfn);
        }
        let cpu = self.this_cpu();
        if order != 0 {
            return self.give_back_block(cpu, pfn, order, class);
        }
        if meta.was_tagged() {
            self.untag(pfn, meta);
        }
        cpu.count_free(class, 1);
        self.keep(cpu, pfn);
    }

    /// Gives free frames, which have been counted, to the buddy lists.
    #[cold]
    #[inline(never)]
    pub(crate) fn free_run(&self, run: &Range<u64>) {
        let range = Pfn::new(run.start)..Pfn::new(run.end);
        self.buddy.lock().free_range(&self.map, &range);
    }

    /// Puts a single frame, which nobody holds and which has been counted, in this CPU's list.
    #[inline(always)]
    pub(crate) fn keep(&self, cpu: &PerCpu, pfn: Pfn) {
        // SAFETY: the frame was a typed one; those come from banks.
        unsafe { self.record(pfn) }.set_free(0, IN_CPU_LIST);
        if !cpu.push(pfn) {
            self.spill(cpu, BATCH);
            let fits = cpu.push(pfn);
            assert!(fits, "a per-CPU list is full after frames were taken out");
        }
    }

    #[cold]
    #[inline(never)]
    fn take_block(&self, cpu: &PerCpu, order: u8, class: Class) -> Result<Pfn, OutOfMemory> {
        assert!(order <= MAX_ORDER, "no block has order {order}");
        let mut found = self.find_block(order);
        if found.is_none() && self.end_empty_chunk() {
            found = self.find_block(order);
        }
        let pfn = found.ok_or_else(|| self.exhausted())?;
        // SAFETY: blocks in the lists are in banks.
        let records = unsafe { self.map.block(pfn, 1 << order) };
        set_allocated(records, class, order);
        cpu.count_alloc(class, 1 << order);
        Ok(pfn)
    }

    pub(crate) fn find_block(&self, order: u8) -> Option<Pfn> {
        let found = self.buddy.lock().alloc(&self.map, order);
        found.or_else(|| {
            // Frames in this CPU's list may be the missing buddies.
            self.drain_cpu_lists();
            self.buddy.lock().alloc(&self.map, order)
        })
    }

    #[cold]
    #[inline(never)]
    fn give_back_block(&self, cpu: &PerCpu, pfn: Pfn, order: u8, class: Class) {
        // SAFETY: only typed frames are given back; they come from banks.
        let records = unsafe { self.map.block(pfn, 1 << order) };
        let head = &records[0];
        assert!(
            head.order() == order && head.head_offset() == 0,
            "part of a block freed"
        );
        self.untag_all(pfn, records);
        records.iter().for_each(|meta| meta.set_free(0, 0));
        cpu.count_free(class, 1 << order);
        self.buddy.lock().free(&self.map, pfn, order);
    }

    /// Forgets the tags of a block that nobody holds any more.
    #[inline]
    pub(crate) fn untag_all(&self, pfn: Pfn, records: &[FrameMeta]) {
        let mut first = 0;
        while let Some(skip) = records[first..].iter().position(FrameMeta::was_tagged) {
            first += skip;
            let rest = &records[first..];
            let count = rest.iter().position(|meta| !meta.was_tagged());
            let count = count.unwrap_or(rest.len());
            self.untag_run(pfn.add(first as u64), &rest[..count]);
            first += count;
        }
    }

    /// Fills the empty list of this CPU and takes one frame of it.
    ///
    /// Whole small blocks go first: they are of no use to anyone who wants large ones, and one
    /// operation on the lists brings several frames.
    #[cold]
    #[inline(never)]
    fn refill(&self, cpu: &PerCpu) -> Result<Pfn, OutOfMemory> {
        if let Some(pfn) = self.fill(cpu) {
            return Ok(pfn);
        }
        let more = self.end_empty_chunk().then(|| self.fill(cpu)).flatten();
        more.ok_or_else(|| self.exhausted())
    }

    fn fill(&self, cpu: &PerCpu) -> Option<Pfn> {
        let mut buddy = self.buddy.lock();
        let mut blocks = [(Pfn::new(0), 0); BATCH];
        let (mut wanted, mut count) = (BATCH as u64, 0);
        while wanted > 0 {
            let Some(smallest) = buddy.smallest() else {
                break;
            };
            let order = smallest.min(wanted.ilog2() as u8);
            let Some(pfn) = buddy.alloc(&self.map, order) else {
                break;
            };
            blocks[count] = (pfn, order);
            count += 1;
            wanted -= 1 << order;
        }
        drop(buddy);
        // Backwards: taken out again, frames and blocks ascend, and the second half of a block goes on
        // where the first half of the one before did.
        for &(pfn, order) in blocks[..count].iter().rev() {
            for i in (0..1 << order).rev() {
                // SAFETY: blocks in the lists are in banks.
                unsafe { self.record(pfn.add(i)) }.set_free(0, IN_CPU_LIST);
                let fits = cpu.push(pfn.add(i));
                assert!(fits, "a per-CPU list is smaller than a batch");
            }
        }
        cpu.pop()
    }

    /// Moves the `count` oldest frames of this CPU's list to the buddy lists. Neighbours, which were
    /// mostly freed one after the other, go together.
    #[cold]
    #[inline(never)]
    fn spill(&self, cpu: &PerCpu, count: usize) {
        let mut buddy = self.buddy.lock();
        let (mut start, mut end) = (Pfn::new(0), Pfn::new(0));
        cpu.shift(count, |pfn| {
            // SAFETY: frames in the lists are in banks.
            unsafe { self.record(pfn) }.set_free(0, 0);
            if pfn == end {
                end = pfn.add(1);
            } else if pfn.add(1) == start {
                start = pfn;
            } else {
                buddy.free_range(&self.map, &(start..end));
                (start, end) = (pfn, pfn.add(1));
            }
        });
        buddy.free_range(&self.map, &(start..end));
    }

    /// Gives the frames in this CPU's list back to the buddy lists.
    pub fn drain_cpu_lists(&self) {
        let cpu = self.this_cpu();
        if cpu.len() > 0 {
            self.spill(cpu, cpu.len());
        }
        self.give_back_span(cpu);
    }

    /// Gives this CPU's list back if an allocation has failed elsewhere since the last call. Two
    /// loads otherwise: meant for every exit of the kernel.
    #[inline]
    pub fn answer_drain(&self) {
        let me = 1 << cpu_index();
        if self.drain_wanted.load(Relaxed) & me != 0 {
            self.drain_wanted.fetch_and(!me, Relaxed);
            self.drain_cpu_lists();
        }
    }

    /// Asks the other CPUs for their frames; see [`OutOfMemory`].
    #[cold]
    pub(crate) fn exhausted(&self) -> OutOfMemory {
        let (me, bit) = (cpu_index(), |cpu| 1u64 << cpu);
        let has_some = |cpu: usize| self.cpus[cpu].len() > 0 || self.cpus[cpu].span().1 > 0;
        let others = (0..MAX_CPUS).filter(|&cpu| cpu != me && has_some(cpu));
        let wanted = others.fold(0, |mask, cpu| mask | bit(cpu));
        self.drain_wanted.fetch_or(wanted, Relaxed);
        OutOfMemory
    }

    /// The CPUs that have been asked for their frames and have not answered, one bit each.
    pub fn drain_wanted(&self) -> u64 {
        self.drain_wanted.load(Relaxed)
    }

    /// Counts all frames.
    pub fn stats(&self) -> FrameStats {
        let buddy = self.buddy.lock();
        let (free_blocks, in_buddy) = (buddy.blocks(), buddy.free_frames());
        drop(buddy);
        let in_lists: usize = self.cpus.iter().map(PerCpu::len).sum();
        let in_spans: u64 = self.cpus.iter().map(|cpu| cpu.span().1).sum();
        let free = in_buddy + in_lists as u64 + in_spans;
        let mut by_class = [0; CLASSES];
        for (class, frames) in by_class.iter_mut().enumerate() {
            let by_hand = self.by_hand[class].load(Relaxed);
            let changes = self.cpus.iter().map(|cpu| cpu.class_change(class));
            *frames = changes.fold(by_hand, u64::wrapping_add);
        }
        by_class[Class::Free as usize] = free;
        FrameStats {
            total: self.map.banks().map(|bank| bank.end - bank.start).sum(),
            free,
            by_class,
            free_blocks,
            allocs: self.cpus.iter().map(PerCpu::allocs).sum(),
            frees: self.cpus.iter().map(PerCpu::frees).sum(),
        }
    }

    /// Makes a boot-time frame one of class table, in the counts too.
    pub(crate) fn reclassify_as_table(&self, meta: &FrameMeta) {
        let old = meta.class();
        assert!(
            old.is_set_by_hand(),
            "a {} frame adopted as a table",
            old.name()
        );
        meta.set_allocated(Class::Table, 0, 0);
        self.by_hand[old as usize].fetch_sub(1, Relaxed);
        self.by_hand[Class::Table as usize].fetch_add(1, Relaxed);
    }

    #[cfg(not(any(test, feature = "inject")))]
    #[inline(always)]
    pub(crate) fn fail_on_purpose(&self) -> Result<(), OutOfMemory> {
        Ok(())
    }

    #[cfg(any(test, feature = "inject"))]
    pub(crate) fn fail_on_purpose(&self) -> Result<(), OutOfMemory> {
        let spend = |left: u64| match left {
            u64::MAX => Some(left),
            left => left.checked_sub(1),
        };
        self.patience
            .fetch_update(Relaxed, Relaxed, spend)
            .map(drop)
            .map_err(|_| OutOfMemory)
    }

    /// Lets `allocations` more succeed and all after them fail, until called again;
    /// `u64::MAX` ends it. A test aid.
    #[cfg(any(test, feature = "inject"))]
    pub fn fail_after(&self, allocations: u64) {
        self.patience.store(allocations, Relaxed);
    }
}

/// Makes all of `records` plain ones of `class`. At boot this touches every frame of the machine, so
/// the loop is over groups, which the compiler unrolls (a loop over single atomics it does not):
/// one and a half instructions for each.
fn fill(records: &[FrameMeta], class: Class) {
    let (groups, rest) = records.as_chunks::<8>();
    for group in groups {
        group.iter().for_each(|meta| meta.set_class(class));
    }
    rest.iter().for_each(|meta| meta.set_class(class));
}

/// Marks the records of a block as allocated, in groups like [`fill`].
fn set_allocated(records: &[FrameMeta], class: Class, order: u8) {
    let (groups, rest) = records.as_chunks::<16>();
    let mut offset = 0;
    let mut set = |meta: &FrameMeta| {
        meta.set_allocated(class, order, offset);
        offset += 1;
    };
    for group in groups {
        group.iter().for_each(&mut set);
    }
    rest.iter().for_each(set);
}

impl core::fmt::Debug for Frames {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let stats = self.stats();
        write!(f, "Frames({} free of {})", stats.free, stats.total)
    }
}
