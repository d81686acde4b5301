//! Opaque handles to table entries, and the two getters with their two contracts (PTE-03).

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use arm64::addr::PhysAddr;
use arm64::geometry::{Geometry, Level};
use arm64::pte::Pte;
use frame::{FrameMeta, Frames};
use sync::atomic::AtomicU64;
use sync::planted::{self, Fault};

use crate::Machine;
use crate::contpte;
use crate::lock::Guard;
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
    pub(crate) const NONE: Self = Self {
        value: Value::NONE,
        contiguous: false,
    };
}

#[inline(always)]
pub(crate) fn load_lockless(table: &TableRef<'_>, index: usize, _section: &ReadSide<'_>) -> Loaded {
    let pte = table.load(index, Ordering::Acquire);
    if !pte.is_contiguous() {
        return Loaded {
            value: Value::new(pte),
            contiguous: false,
        };
    }
    contpte::get_lockless(table, index)
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
    if !pte.is_contiguous() {
        return Value::new(pte);
    }
    contpte::get_locked(&slot.table, slot.index)
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

    /// Stores into an entry that the hardware does not use: none, or invalid. The serialiser is
    /// held, and hardware never changes an invalid entry, so no exchange is needed.
    #[inline(always)]
    pub(crate) fn put<M: Machine>(&self, writer: &Writer<'_, M>, new: Pte) {
        let old = self.raw();
        debug_assert!(!old.is_valid(), "law 3: a store over a live entry");
        writer
            .cell(self.table.cell(self.index))
            .store(new.raw(), Ordering::Release);
        self.told(writer, old, new);
    }

    /// As [`Self::put`] for an entry that is none.
    #[inline(always)]
    pub(crate) fn put_published<M: Machine>(&self, writer: &Writer<'_, M>, new: Pte) {
        debug_assert!(self.raw().is_none(), "law 3: a store over an entry in use");
        writer
            .cell(self.table.cell(self.index))
            .store(new.raw(), Ordering::Release);
        self.told(writer, Pte::NONE, new);
    }

    /// As [`Self::put_published`], without an order: the caller has put a release
    /// fence between what the new entries point to and the first of them.
    #[inline(always)]
    pub(crate) fn put_relaxed<M: Machine>(&self, writer: &Writer<'_, M>, new: Pte) {
        debug_assert!(self.raw().is_none(), "law 3: a store over an entry in use");
        writer
            .cell(self.table.cell(self.index))
            .store(new.raw(), Ordering::Relaxed);
        self.told(writer, Pte::NONE, new);
    }

    /// Takes the entry out, leaving none (law 3: an exchange, so that no hardware update is lost).
    #[inline(always)]
    pub(crate) fn take<M: Machine>(&self, writer: &Writer<'_, M>) -> Pte {
        let cell = writer.cell(self.table.cell(self.index));
        let old = Pte::from_raw(cell.swap(0, Ordering::AcqRel));
        self.told(writer, old, Pte::NONE);
        old
    }

    /// Flips `bits` of the entry in one atomic step. What the hardware sets meanwhile stays; it must
    /// not be able to change one of these bits.
    #[inline(always)]
    pub(crate) fn flip<M: Machine>(&self, writer: &Writer<'_, M>, bits: u64) {
        let cell = writer.cell(self.table.cell(self.index));
        let old = cell.fetch_xor(bits, Ordering::AcqRel);
        self.told(writer, Pte::from_raw(old), Pte::from_raw(old ^ bits));
    }

    /// Clears the access flag in one atomic step.
    #[inline(always)]
    pub(crate) fn make_old<M: Machine>(&self, writer: &Writer<'_, M>) {
        let cell = writer.cell(self.table.cell(self.index));
        let old = cell.fetch_and(Pte::OLD, Ordering::AcqRel);
        self.told(writer, Pte::from_raw(old), Pte::from_raw(old & Pte::OLD));
    }

    /// Changes the entry in place by compare-and-exchange until it holds (law 3). `change`
    /// answers `None` to leave it alone. Returns the value found.
    #[inline(always)]
    pub(crate) fn update<M: Machine>(
        &self,
        writer: &Writer<'_, M>,
        mut change: impl FnMut(Pte) -> Option<Pte>,
    ) -> Pte {
        let cell = writer.cell(self.table.cell(self.index));
        let mut old = self.raw();
        loop {
            let Some(new) = change(old) else {
                return old;
            };
            if planted::is(Fault::StoreOverLive) {
                cell.store(new.raw(), Ordering::Release);
                self.told(writer, old, new);
                return old;
            }
            match cell.compare_exchange_weak(
                old.raw(),
                new.raw(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    self.told(writer, old, new);
                    return old;
                }
                Err(now) => old = Pte::from_raw(now),
            }
        }
    }

    #[inline(always)]
    fn told<M: Machine>(&self, writer: &Writer<'_, M>, old: Pte, new: Pte) {
        let at = PhysAddr::new(self.table.pa.raw() + 8 * self.index as u64);
        writer.machine().stored(at, self.table.level, old, new);
    }
}

/// A live table, seen for `'g`.
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

    /// The record of the table's frame. Not free: a [`Guard`] and a leaf keep it.
    #[inline]
    pub(crate) fn meta(&self) -> &'static FrameMeta {
        match self.frames.meta(self.pa.pfn()) {
            Some(meta) => meta,
            None => no_metadata(self.pa),
        }
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

#[cold]
fn no_metadata(pa: PhysAddr) -> ! {
    panic!("law 8: table page {pa:?} lies outside of every RAM bank");
}
