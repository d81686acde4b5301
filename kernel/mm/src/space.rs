//! One address space: tables, areas, identifier, counters.

use core::fmt;
use core::sync::atomic::Ordering;

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arm64::addr::PAGE_SIZE;
use frame::{FreshFrame, OutOfMemory};
use pgtable::{AsidCell, Gather, Machine, PageTable, RootWord, TableStats, User, Zap, ZapReason};
use sync::SpinLock;
use sync::atomic::AtomicBool;
use sync::rank;

use crate::change::range;
use crate::context::MmContext;
use crate::epochs::Epochs;
use crate::error::MmError;
use crate::fault::{FirstFault, Missed, Pendings, Trace};
use crate::layout::{fresh_geometry, task_size};
use crate::object::{Mapper, Room};
use crate::stats::Counters;
use crate::vma::{Backing, Vma, VmaIndex};

/// Areas that one step of a change works on.
pub(crate) const AREAS_PER_STEP: usize = 16;
/// Clean pages that are dropped when memory is short: what a part of one stay is enough for.
const RECLAIMED: u32 = 32;

/// The map of a space: what may be where.
pub struct Map {
    pub(crate) areas: VmaIndex,
    /// A change is under way: other changes wait.
    pub(crate) owned: bool,
    /// The ranges that it is about: faults there wait (D5).
    pub(crate) busy: [(u64, u64); 2],
    /// The area that the change brings in at its end.
    coming: Option<(Vma, Option<Room>)>,
    /// Places in the reverse maps of the objects that the change may cut in two.
    rooms: [Option<Room>; 2],
    /// The space, as objects know it: number and reference.
    mapper: (u32, Weak<dyn Mapper>),
    /// An area over an object with a pager was added, or is to come.
    pub(crate) shows_paged: bool,
    /// Anonymous objects so far (D14).
    pub(crate) origins: u32,
    pub(crate) brk_start: u64,
    pub(crate) brk: u64,
    /// First address behind the largest that the space can become.
    pub(crate) task_size: u64,
}

impl Map {
    /// A page of the area at `va` is about to be written for the first time.
    #[cold]
    pub(crate) fn name_origin(&mut self, va: u64) {
        self.origins = self.origins.wrapping_add(1).max(1);
        self.areas.set_origin(va, self.origins);
    }

    /// Adds an area where there is none; one over an object is listed there first, in `room`.
    pub(crate) fn insert(&mut self, area: Vma, room: Option<Room>) {
        if let (Backing::Object { offset, .. }, Some(mut room)) = (&area.backing, room) {
            self.shows_paged |= room.object().is_paged();
            let (id, space) = &self.mapper;
            room.link(
                (*id, space),
                (area.start, area.end),
                offset / PAGE_SIZE,
                area.flags.may_write_shared(),
            );
        }
        self.areas.insert(area);
    }

    /// Whether a change is about `va`.
    #[inline(always)]
    pub(crate) fn is_busy(&self, va: u64) -> bool {
        let inside = |&(start, end): &(u64, u64)| start <= va && va < end;
        self.owned && self.busy.iter().any(inside)
    }

    /// As [`Self::remove`], a bounded number of areas; whether that was the rest.
    pub(crate) fn remove_some(&mut self, start: u64, end: u64) -> bool {
        match self.areas.find_above(start) {
            (_, None) => return true,
            (_, Some(area)) if end <= area.end && area.backing.is_anon() => {
                let bounds = (area.start, area.end);
                self.areas.remove_within(bounds, start, end);
                return true;
            }
            _ => {}
        }
        let stop = self.areas.step_end(start, end, AREAS_PER_STEP);
        self.remove(start, stop);
        stop == end
    }

    /// Removes `[start, end)` from all areas, and from the lists of their objects. What is cut in
    /// two by that has a place by [`Self::reserve_rooms`].
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        self.forget(start, end);
        self.areas.remove(start, end);
    }

    /// Takes `[start, end)` off the lists of all objects.
    pub(crate) fn forget(&self, start: u64, end: u64) {
        for area in self.areas.overlapping(start, end) {
            if let Backing::Object { object, .. } = &area.backing {
                let (from, to) = (area.start.max(start), area.end.min(end));
                object.forget(self.mapper.0, from, to);
            }
        }
    }

    /// The change is going to bring in `area`, over an object in `room`.
    pub(crate) fn expect(&mut self, area: Vma, room: Option<Room>) {
        self.shows_paged |= room.as_ref().is_some_and(|room| room.object().is_paged());
        self.coming = Some((area, room));
    }

    /// Adds the area that was to come, if there is one.
    #[inline(always)]
    pub(crate) fn bring_in(&mut self) {
        if self.coming.is_some() {
            self.bring_in_expected();
        }
    }

    #[cold]
    fn bring_in_expected(&mut self) {
        if let Some((area, room)) = self.coming.take() {
            self.insert(area, room);
        }
    }

    /// Sets a place aside in the reverse maps of the objects where each range begins: a removal
    /// that begins there may cut a mapping in two. [`Self::let_go`] gives back what is left.
    #[cold]
    pub(crate) fn reserve_rooms(&mut self, ranges: [(u64, u64); 2]) -> Result<(), MmError> {
        for (room, (start, _)) in self.rooms.iter_mut().zip(ranges) {
            let area = self.areas.find(start);
            *room = match area.map(|area| &area.backing) {
                Some(Backing::Object { object, .. }) => Some(Room::reserve(object, 1, false)?),
                _ => None,
            };
        }
        Ok(())
    }

    /// The change is over, or is not going to be: nobody owns the map.
    #[inline(always)]
    pub(crate) fn let_go(&mut self) {
        self.owned = false;
        if self.rooms[0].is_some() || self.rooms[1].is_some() || self.coming.is_some() {
            self.give_back();
        }
    }

    #[cold]
    fn give_back(&mut self) {
        self.rooms = [None, None];
        self.coming = None;
    }
}

/// An address space. Dropping it takes out what is left in it.
pub struct Space<M: Machine> {
    context: &'static MmContext<M>,
    table: PageTable<User, M>,
    map: SpinLock<Map, rank::MapOwner>,
    epochs: Epochs,
    /// 2 MiB folios that faults have begun to clear.
    pending: SpinLock<Pendings, rank::Leaf>,
    /// Blocks that got single pages for want of a folio, and whether there are any.
    missed: SpinLock<Missed, rank::Leaf>,
    has_missed: AtomicBool,
    /// `PR_SET_THP_DISABLE`.
    small_pages_only: AtomicBool,
    /// It shows, or has shown, pages of which a pager asks whether they were written.
    records_writes: AtomicBool,
    counters: Counters,
    first_fault_open: AtomicBool,
    first_fault: SpinLock<Option<FirstFault>, rank::Leaf>,
}

impl<M: Machine> Space<M> {
    /// An empty space.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]: no frame for the root.
    pub fn new(context: &'static MmContext<M>) -> Result<Arc<Self>, MmError> {
        let table = PageTable::new(context.machine, context.new_id(), fresh_geometry())?;
        // `Arc` has no way to be refused memory: ask for it first.
        let bytes = size_of::<Self>() + 2 * size_of::<usize>();
        let room: Result<(), _> = Vec::<u8>::new().try_reserve_exact(bytes);
        room.map_err(|_| MmError::NoMemory)?;
        Ok(Arc::new_cyclic(|this: &Weak<Self>| {
            let mapper: Weak<dyn Mapper> = this.clone();
            let map = Map {
                areas: VmaIndex::new(context.area_nodes(), context.max_map_count()),
                owned: false,
                busy: [(0, 0); 2],
                coming: None,
                rooms: [None, None],
                shows_paged: false,
                mapper: (table.owner().id, mapper),
                origins: 0,
                brk_start: 0,
                brk: 0,
                task_size: task_size(context.machine.format()),
            };
            Self {
                context,
                table,
                map: SpinLock::new(map),
                epochs: Epochs::new(),
                pending: SpinLock::new(Pendings::default()),
                missed: SpinLock::new(Missed::default()),
                has_missed: AtomicBool::new(false),
                small_pages_only: AtomicBool::new(false),
                records_writes: AtomicBool::new(false),
                counters: Counters::default(),
                first_fault_open: AtomicBool::new(true),
                first_fault: SpinLock::new(None),
            }
        }))
    }

    /// Number of the space, the owner in its tables' descriptors.
    pub fn id(&self) -> u32 {
        self.table.owner().id
    }

    /// What TLBs know it by: for CPUs that change to it, and for invalidations.
    #[inline]
    pub fn asid_cell(&self) -> &AsidCell {
        self.table.asid_cell()
    }

    /// What all spaces share.
    #[inline]
    pub fn context(&self) -> &'static MmContext<M> {
        self.context
    }

    /// Root and levels.
    #[inline]
    pub fn root_word(&self) -> RootWord {
        self.table.root_word()
    }

    /// First address behind the largest that it can become (`TASK_SIZE`).
    #[inline]
    pub fn task_size(&self) -> u64 {
        task_size(self.machine().format())
    }

    /// First address behind what its present number of levels reaches.
    pub(crate) fn end(&self) -> u64 {
        1 << self.table.geometry().va_bits()
    }

    /// Grows the space until it reaches all below `end`, which is at most its task size. The word
    /// is published before any area above the old range is; CPUs follow when they fault there.
    ///
    /// Called with the map locked and not owned, before the first effect of a change.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]. Levels that were added stay.
    pub(crate) fn reach(&self, end: u64) -> Result<(), MmError> {
        while self.end() < end {
            self.table.grow()?;
        }
        Ok(())
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Its tables by level.
    pub fn table_stats(&self) -> &TableStats {
        self.table.stats()
    }

    /// The tables, to walk and to dump.
    pub fn table(&self) -> &PageTable<User, M> {
        &self.table
    }

    /// Whether a change owns the map: what a thread looks at again after it queued itself.
    pub fn is_busy(&self) -> bool {
        self.map.lock().owned
    }

    /// Sets where `brk` memory begins, once, when the program is loaded.
    pub fn set_brk(&self, start: u64) {
        let mut map = self.map.lock();
        (map.brk_start, map.brk) = (start, start);
    }

    /// Pages that areas span.
    pub fn mapped_pages(&self) -> u64 {
        self.map.lock().areas.bytes() / PAGE_SIZE
    }

    /// Limits the pages that areas may span; what is there stays.
    pub fn set_page_limit(&self, pages: u64) {
        let bytes = pages.saturating_mul(PAGE_SIZE);
        self.map.lock().areas.set_byte_limit(bytes);
    }

    /// Whether areas cover all of `[start, end)`.
    pub fn is_covered(&self, start: u64, end: u64) -> bool {
        self.map.lock().areas.covered_until(start, end) >= end
    }

    /// Number of areas.
    pub fn area_count(&self) -> usize {
        self.map.lock().areas.len()
    }

    pub(crate) fn machine(&self) -> &'static M {
        self.context.machine
    }

    pub(crate) fn map(&self) -> &SpinLock<Map, rank::MapOwner> {
        &self.map
    }

    /// A frame, cleared if `zeroed`; before giving up, frees what waits to be freed.
    #[inline(always)]
    pub(crate) fn fresh_frame(&self, zeroed: bool) -> Result<FreshFrame, OutOfMemory> {
        match self.machine().frames().alloc_fresh(0, zeroed) {
            Ok(frame) => Ok(frame),
            Err(_) => self.fresh_frame_after_all(zeroed),
        }
    }

    #[cold]
    #[inline(never)]
    fn fresh_frame_after_all(&self, zeroed: bool) -> Result<FreshFrame, OutOfMemory> {
        self.relieve();
        self.machine().frames().alloc_fresh(0, zeroed)
    }

    /// Frees what waits to be freed. No lock is held.
    #[cold]
    #[inline(never)]
    pub(crate) fn relieve(&self) {
        self.context.graveyard.reap(self.machine(), 64);
        self.context.objects().reap(256);
        self.drop_pending();
        self.context.reclaim(RECLAIMED);
    }

    pub(crate) fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    pub(crate) fn pending(&self) -> &SpinLock<Pendings, rank::Leaf> {
        &self.pending
    }

    pub(crate) fn missed(&self) -> &SpinLock<Missed, rank::Leaf> {
        &self.missed
    }

    /// Whether a block waits for a folio: a hint.
    #[inline(always)]
    pub(crate) fn has_missed(&self) -> bool {
        self.has_missed.load(Ordering::Relaxed)
    }

    pub(crate) fn set_has_missed(&self, has: bool) {
        self.has_missed.store(has, Ordering::Relaxed);
    }

    /// Frees the folios that faults have begun to clear: whoever faults again begins again.
    pub(crate) fn drop_pending(&self) {
        let pending = core::mem::take(&mut *self.pending.lock());
        drop(pending);
    }

    /// Lets no fault of the space map more than a page at once, or lets it again
    /// (`PR_SET_THP_DISABLE`).
    pub fn set_small_pages_only(&self, on: bool) {
        self.small_pages_only.store(on, Ordering::Relaxed);
    }

    /// Whether [`Self::set_small_pages_only`] is on.
    #[inline(always)]
    pub fn small_pages_only(&self) -> bool {
        self.small_pages_only.load(Ordering::Relaxed)
    }

    /// Whether frames remember that entries of this space were dirty when they were taken away.
    #[inline(always)]
    pub(crate) fn records_writes(&self) -> bool {
        self.records_writes.load(Ordering::Relaxed)
    }

    /// From now on they do: said under the lock of the map, before an area needs it.
    #[cold]
    pub(crate) fn record_writes(&self) {
        self.records_writes.store(true, Ordering::Relaxed);
    }

    /// Flushes what was changed and frees what was torn out, if anything was.
    pub(crate) fn release(&self, gather: &mut Gather) {
        if !gather.is_empty() {
            self.counters.pages_unmapped.add(gather.page_count());
            let flushed = gather.flush(&self.table);
            gather.release(self.machine(), self.context.graveyard, &flushed);
        }
    }

    pub(crate) fn first_fault_is_open(&self) -> bool {
        self.first_fault_open.load(Ordering::Relaxed)
    }

    pub(crate) fn set_first_fault(&self, report: FirstFault) {
        if self.first_fault_open.swap(false, Ordering::Relaxed) {
            *self.first_fault.lock() = Some(report);
        }
    }

    /// The first fault that was resolved.
    pub fn first_fault(&self) -> Option<FirstFault> {
        *self.first_fault.lock()
    }

    /// The entries on the way to `va`.
    pub fn trace(&self, va: u64) -> Trace {
        let stay = ();
        let section = self.machine().read_side(&stay);
        let mut trace = Trace::default();
        let mut at = 0;
        self.table.trace(va, &section, |level, index, pte| {
            if let Some(place) = trace.get_mut(at) {
                *place = Some((level, index, pte));
                at += 1;
            }
        });
        trace
    }
}

impl<M: Machine> Drop for Space<M> {
    fn drop(&mut self) {
        let stay = ();
        let section = self.context.machine.read_side(&stay);
        let mut gather = Gather::new();
        let why = Zap::anonymous(ZapReason::Exit).recording(self.records_writes());
        let end = self.map.lock().task_size;
        self.map.lock().remove(0, end);
        let mut at = 0;
        while let Some(range) = range(at, self.end()) {
            at = self.table.zap(range, why, &mut gather, &section);
            self.release(&mut gather);
        }
        self.table.retire(&mut gather);
        self.release(&mut gather);
        self.context.objects().sweep();
        self.context.spaces_ended.bump();
        self.context.ended.absorb(&self.counters);
        // The identifier goes with its cell. Nobody is told: it is handed out again only in another
        // generation, which every CPU begins with a flush of its own. What this space had in a TLB
        // is gone already, by the flushes above, each before its frames were freed.
    }
}

impl<M: Machine> fmt::Debug for Space<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space")
            .field("id", &self.id())
            .field("asid", &self.table.asid())
            .finish()
    }
}
