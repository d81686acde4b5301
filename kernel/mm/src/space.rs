//! One address space: tables, areas, identifier, counters.

use core::fmt;
use core::sync::atomic::Ordering;

use alloc::vec::Vec;
use arm64::attrs::Prot;
use arm64::geometry::Geometry;
use frame::FreshFrame;
use pgtable::{
    AsidCell, Gather, Machine, PageTable, RootWord, TableError, TableStats, User, Zap, ZapReason,
};
use sync::SpinLock;
use sync::atomic::{AtomicBool, AtomicU64};
use sync::rank;

use crate::change::range;
use crate::context::MmContext;
use crate::error::MmError;
use crate::fault::{FirstFault, Trace};
use crate::layout::{VA_BITS, task_size};
use crate::stats::Counters;
use crate::vma::{Backing, VmaFlags, VmaIndex};

/// The map of a space: what may be where.
pub struct Map {
    pub(crate) areas: VmaIndex,
    /// A change is under way: faults and other changes wait.
    pub(crate) owned: bool,
    pub(crate) brk_start: u64,
    pub(crate) brk: u64,
    /// First address behind the largest that the space can become.
    pub(crate) task_size: u64,
}

/// An address space. Dropping it takes out what is left in it.
pub struct Space<M: Machine> {
    context: &'static MmContext<M>,
    table: PageTable<User, M>,
    map: SpinLock<Map, rank::MapOwner>,
    /// Counts changes begun: what a fault was planned from is retired when it moves on. It moves
    /// before the first lock of a visit, and a fault reads it under the lock of its table (D5).
    changes: AtomicU64,
    counters: Counters,
    first_fault_open: AtomicBool,
    first_fault: SpinLock<Option<FirstFault>, rank::Leaf>,
}

impl<M: Machine> Space<M> {
    /// An empty space.
    ///
    /// # Errors
    /// [`MmError::NoMemory`]: no frame for the root.
    pub fn new(context: &'static MmContext<M>) -> Result<Self, MmError> {
        let geometry = Geometry::for_va_bits(VA_BITS);
        let table = PageTable::new(context.machine, context.new_id(), geometry)?;
        let map = Map {
            areas: VmaIndex::new(),
            owned: false,
            brk_start: 0,
            brk: 0,
            task_size: task_size(context.machine.format()),
        };
        Ok(Self {
            context,
            table,
            map: SpinLock::new(map),
            changes: AtomicU64::new(0),
            counters: Counters::default(),
            first_fault_open: AtomicBool::new(true),
            first_fault: SpinLock::new(None),
        })
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
        self.map
            .lock()
            .areas
            .iter()
            .map(|area| (area.end - area.start) >> 12)
            .sum()
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

    /// A zeroed frame; before giving up, frees the tables whose grace period is over.
    pub(crate) fn fresh_frame(&self) -> Result<FreshFrame, TableError> {
        let frames = self.machine().frames();
        if let Ok(frame) = frames.alloc_fresh(0, true) {
            return Ok(frame);
        }
        self.context.graveyard.reap(self.machine(), 64);
        frames
            .alloc_fresh(0, true)
            .map_err(|_| TableError::NoMemory)
    }

    /// How many changes have begun.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Retires what faults were planned from; the caller owns the map.
    pub(crate) fn retire_plans(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
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

    /// Writes the areas in the form of `/proc/PID/maps`.
    ///
    /// # Errors
    /// Those of `out`. The areas are copied first, so `out` may be slow; when there is no memory
    /// for the copy, a line says so.
    pub fn maps(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let mut areas = Vec::new();
        {
            let map = self.map.lock();
            if areas.try_reserve_exact(map.areas.len()).is_err() {
                return writeln!(out, "(no memory for a copy of {} areas)", map.areas.len());
            }
            areas.extend(map.areas.iter().copied());
        }
        for area in areas {
            let has = |bit, sign| if area.prot.contains(bit) { sign } else { '-' };
            let (offset, name) = match area.backing {
                _ if area.flags.contains(VmaFlags::STACK) => (0, "[stack]"),
                _ if area.flags.contains(VmaFlags::HEAP) => (0, "[heap]"),
                Backing::Anon => (0, ""),
                Backing::Image { offset, .. } => (offset, "program"),
            };
            let shared = if area.flags.contains(VmaFlags::SHARED) {
                's'
            } else {
                'p'
            };
            write!(out, "{:08x}-{:08x} ", area.start, area.end)?;
            write!(out, "{}{}", has(Prot::READ, 'r'), has(Prot::WRITE, 'w'))?;
            write!(out, "{}{shared} {offset:08x} 00:00 0", has(Prot::EXEC, 'x'))?;
            writeln!(
                out,
                "{}{name}",
                if name.is_empty() { "" } else { "          " }
            )?;
        }
        Ok(())
    }
}

impl<M: Machine> Drop for Space<M> {
    fn drop(&mut self) {
        let stay = ();
        let section = self.context.machine.read_side(&stay);
        let (mut gather, exit) = (Gather::new(), Zap::anonymous(ZapReason::Exit));
        let mut at = 0;
        while let Some(range) = range(at, self.end()) {
            at = self.table.zap(range, exit, &mut gather, &section);
            self.release(&mut gather);
        }
        self.table.retire(&mut gather);
        self.release(&mut gather);
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
