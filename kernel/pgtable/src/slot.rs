//! Opaque handles to table entries, and the two getters with their two contracts (PTE-03).

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use arm64::addr::PhysAddr;
use arm64::geometry::{Geometry, Level};
use arm64::pte::Pte;
use frame::{FrameMeta, Frames};
use sync::atomic::AtomicU64;

use crate::cells::Cells;
use crate::contpte;
use crate::lock::Guard;
use crate::machine::Machine;
use crate::value::Value;
use crate::writer::Writer;

/// Proof of being inside a read-side section: no table seen through it is freed before it ends.
///
/// In the kernel every stay is such a section (D3): a CPU reports a quiescent state only on its
/// way out. The value is neither `Send` nor `Sync`, since it speaks of one CPU.
#[derive(Debug)]
pub struct ReadSide<'g> {
    _stay: PhantomData<(&'g (), *const ())>,
}

impl<'g> ReadSide<'g> {
    /// Opens a read-side section for the life of `stay`, a value of the caller's stack frame.
    ///
    /// # Safety
    /// The CPU must not report a quiescent state ([`sync::grace::Grace::quiescent`]) while the
    /// section lives (law 8: a table's destructor runs after the grace period).
    pub unsafe fn enter<T>(_stay: &'g T) -> Self {
        Self { _stay: PhantomData }
    }
}

/// One entry of a live table, seen without a lock. It has no address to look at: it cannot be
/// dereferenced, compared, cast or stepped.
pub struct Slot<'g> {
    table: TableRef<'g>,
    index: usize,
}

impl Slot<'_> {
    /// The level of the table that the entry belongs to.
    pub fn level(&self) -> Level {
        self.table.level
    }
}

/// One entry of a table whose serialiser (split lock, or the kernel space's edit token) is held
/// for `'l`: the only handle through which entries change.
pub struct LockedSlot<'l> {
    pub(crate) table: TableRef<'l>,
    pub(crate) index: usize,
}

/// Reads an entry without a lock: one acquire load, so that what the entry points to is seen at
/// least as new as the entry (GUP-01). Of a contiguous block the sixteen entries are read, until
/// they are of one moment: accessed and dirty are the block's (PTE-04).
#[inline(always)]
pub fn ptep_get_lockless(slot: &Slot<'_>, section: &ReadSide<'_>) -> Value {
    load_lockless(&slot.table, slot.index, section).value
}

/// What one lockless read brings: the value, and whether it stands for a contiguous block, which is
/// all that anybody but this crate learns of that.
#[derive(Clone, Copy)]
pub(crate) struct Loaded {
    pub(crate) value: Value,
    pub(crate) contiguous: bool,
}

impl Loaded {
    /// One entry, in no block.
    #[inline(always)]
    pub(crate) fn single(pte: Pte) -> Self {
        Self {
            value: Value::new(pte),
            contiguous: false,
        }
    }

    pub(crate) const NONE: Self = Self {
        value: Value::NONE,
        contiguous: false,
    };
}

#[inline(always)]
pub(crate) fn load_lockless(table: &TableRef<'_>, index: usize, _section: &ReadSide<'_>) -> Loaded {
    let pte = table.load(index, Ordering::Acquire);
    if !pte.maybe_contiguous() {
        return Loaded {
            value: Value::new(pte),
            contiguous: false,
        };
    }
    contpte::get_lockless(*table, index)
}

/// Reads an entry under its lock: one load, or of a contiguous block sixteen. Hardware may still
/// set the access flag and the dirty state behind the value.
#[inline(always)]
pub fn ptep_get(slot: &LockedSlot<'_>, guard: &Guard<'_>) -> Value {
    debug_assert!(
        guard.covers(&slot.table),
        "PTE-03: an entry read under the lock of another table"
    );
    let pte = slot.raw();
    if !pte.maybe_contiguous() {
        return Value::new(pte);
    }
    contpte::get_locked(slot.table, slot.index)
}

impl LockedSlot<'_> {
    /// The level of the table that the entry belongs to.
    pub fn level(&self) -> Level {
        self.table.level
    }

    /// The entry as it is, contiguous or not (law 7).
    #[inline(always)]
    pub(crate) fn raw(&self) -> Pte {
        self.table.load(self.index, Ordering::Relaxed)
    }

    /// The entries of the slot's table, for changing while `writer` is open.
    #[inline(always)]
    fn words<'w, M: Machine>(&'w self, writer: &'w Writer<'_, M>) -> Cells<'w, M> {
        // SAFETY: a locked slot says that the serialiser is held as long as it is borrowed.
        unsafe { self.table.words(writer) }
    }

    /// See [`Cells::put`].
    #[inline(always)]
    pub(crate) fn put<M: Machine>(&self, writer: &Writer<'_, M>, new: Pte) {
        self.words(writer).put(self.index, new);
    }

    /// See [`Cells::take`].
    #[inline(always)]
    pub(crate) fn take<M: Machine>(&self, writer: &Writer<'_, M>) -> Pte {
        self.words(writer).take(self.index)
    }

    /// See [`Cells::update`].
    #[inline(always)]
    pub(crate) fn update<M: Machine>(
        &self,
        writer: &Writer<'_, M>,
        change: impl FnMut(Pte) -> Option<Pte>,
    ) {
        self.words(writer).update(self.index, change);
    }
}

/// The entries of a live table, to be read: a copy is a register.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'g> {
    cells: NonNull<AtomicU64>,
    entries: usize,
    _live: PhantomData<&'g AtomicU64>,
}

impl Reading<'_> {
    /// One acquire load.
    #[inline(always)]
    pub(crate) fn load(&self, index: usize) -> Pte {
        debug_assert!(index < self.entries, "an index beyond the table");
        // SAFETY: law 8, as for `TableRef::cell`.
        let cell = unsafe { self.cells.add(index).as_ref() };
        Pte::from_raw(cell.load(Ordering::Acquire))
    }
}

/// A live table, seen for `'g`. Functions that are not inlined take it by value: a table whose
/// address somebody else has is kept in memory, and copied there, at every step of a walk.
#[derive(Clone, Copy)]
pub(crate) struct TableRef<'g> {
    cells: NonNull<AtomicU64>,
    frames: &'static Frames,
    shape: &'g Geometry,
    pa: PhysAddr,
    level: Level,
}

impl<'g> TableRef<'g> {
    /// Looks at the table at `pa`.
    ///
    /// # Safety
    /// `pa` is a constructed table page of `level` in a space of `shape`, and is not freed during
    /// `'g`: it was reached from a live root inside a read-side section, or is owned by the caller.
    #[inline(always)]
    pub(crate) unsafe fn new(
        frames: &'static Frames,
        shape: &'g Geometry,
        pa: PhysAddr,
        level: Level,
    ) -> Self {
        Self {
            cells: frames.cells(pa.pfn()),
            frames,
            shape,
            pa,
            level,
        }
    }

    /// The entry `index` of the table.
    #[inline(always)]
    fn cell(&self, index: usize) -> &'g AtomicU64 {
        debug_assert!(
            index < self.shape.entries(self.level),
            "an index beyond the table"
        );
        // SAFETY: law 8: the table has as many entries as its shape says (its frame was allocated
        // by that), only atomics touch them, and it stays a table for 'g by `new`'s contract.
        // Indices come from the shape, which masks them.
        unsafe { self.cells.add(index).as_ref() }
    }

    #[inline(always)]
    pub(crate) fn load(&self, index: usize, order: Ordering) -> Pte {
        Pte::from_raw(self.cell(index).load(order))
    }

    #[inline(always)]
    pub(crate) fn index(&self, va: u64) -> usize {
        self.shape.index(va, self.level)
    }

    #[inline(always)]
    pub(crate) fn entries(&self) -> usize {
        self.shape.entries(self.level)
    }

    #[inline(always)]
    pub(crate) fn shape(&self) -> &'g Geometry {
        self.shape
    }

    /// The entries, for changing while `writer` is open.
    ///
    /// # Safety
    /// The table's serialiser is held for `'w` (CTOR-09).
    #[inline(always)]
    pub(crate) unsafe fn words<'w, M: Machine>(
        &'w self,
        writer: &'w Writer<'_, M>,
    ) -> Cells<'w, M> {
        let (distance, machine) = (writer.distance(), writer.machine());
        // SAFETY: law 8 and D16, by this function's contract: a live table, and an open window.
        unsafe {
            Cells::new(
                self.cells,
                distance,
                machine,
                self.pa,
                self.level,
                self.entries(),
            )
        }
    }

    /// The first entry, for a loop that reads many: indices are the shape's.
    #[inline(always)]
    pub(crate) fn reading(&self) -> Reading<'g> {
        Reading {
            cells: self.cells,
            entries: self.entries(),
            _live: PhantomData,
        }
    }

    /// The entry `index`, to be read without a lock.
    pub(crate) fn slot(&self, index: usize) -> Slot<'g> {
        Slot {
            table: *self,
            index,
        }
    }

    /// A slot for writing.
    ///
    /// # Safety
    /// The table's serialiser is held for `'l` (CTOR-09).
    #[inline(always)]
    pub(crate) unsafe fn locked_slot<'l>(&self, index: usize) -> LockedSlot<'l>
    where
        'g: 'l,
    {
        LockedSlot {
            table: *self,
            index,
        }
    }

    /// The record of the table's frame.
    #[inline(always)]
    pub(crate) fn meta(&self) -> &'static FrameMeta {
        let pfn = self.pa.pfn();
        debug_assert!(
            self.frames.meta(pfn).is_some(),
            "law 8: table page {:?} lies outside of every RAM bank",
            self.pa
        );
        // SAFETY: law 8: a table's frame was allocated as one, or adopted after it was found in RAM.
        unsafe { self.frames.record(pfn) }
    }

    #[inline(always)]
    pub(crate) fn frames(&self) -> &'static Frames {
        self.frames
    }

    #[inline(always)]
    pub(crate) fn pa(&self) -> PhysAddr {
        self.pa
    }

    #[inline(always)]
    pub(crate) fn level(&self) -> Level {
        self.level
    }
}
