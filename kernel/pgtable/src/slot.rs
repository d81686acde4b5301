//! Opaque handles to table entries, and the two getters with their two contracts (PTE-03).

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use arm64::addr::PhysAddr;
use arm64::geometry::Level;
use arm64::pte::Pte;
use frame::{FrameMeta, Frames};
use sync::atomic::AtomicU64;

/// Entries of a full table page with the 4 KiB granule.
pub const ENTRIES: usize = 512;

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
    cell: &'g AtomicU64,
    level: Level,
}

impl Slot<'_> {
    /// The level of the table that the entry belongs to.
    pub fn level(&self) -> Level {
        self.level
    }
}

/// One entry of a table whose serialiser (split lock, or the kernel space's edit token) is held
/// for `'l`: the only handle through which entries change.
pub struct LockedSlot<'l> {
    cell: &'l AtomicU64,
    level: Level,
}

/// Reads an entry once, without a lock: one acquire load, so that what the entry points to is
/// seen at least as new as the entry (GUP-01).
#[inline]
pub fn ptep_get_lockless(slot: &Slot<'_>, _section: &ReadSide<'_>) -> Pte {
    Pte::from_raw(slot.cell.load(Ordering::Acquire))
}

/// Reads an entry under its lock: one load. Hardware may still set the access flag and the dirty
/// state behind the value.
#[inline]
pub fn ptep_get(slot: &LockedSlot<'_>) -> Pte {
    Pte::from_raw(slot.cell.load(Ordering::Relaxed))
}

/// How stores open and close the window on protected tables.
pub static WINDOW: sync::Once<(fn() -> usize, fn())> = sync::Once::new();

fn through<T>(cell: &AtomicU64, store: impl FnOnce(&AtomicU64) -> T) -> T {
    let Some((open, close)) = WINDOW.get() else {
        return store(cell);
    };
    let at = core::ptr::from_ref(cell).addr().wrapping_add(open());
    // SAFETY: D16: the window shows the entry at that distance until it is closed.
    let result = store(unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(at) });
    close();
    result
}

impl LockedSlot<'_> {
    /// The level of the table that the entry belongs to.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Stores into an entry that is none; the caller publishes.
    ///
    /// # Errors
    /// The entry was not none; nothing was changed.
    #[inline]
    pub(crate) fn set_new(&self, new: Pte) -> Result<(), Pte> {
        match through(self.cell, |cell| {
            cell.compare_exchange(0, new.raw(), Ordering::Release, Ordering::Relaxed)
        }) {
            Ok(_) => Ok(()),
            Err(old) => Err(Pte::from_raw(old)),
        }
    }

    /// Takes the entry out, leaving none (law 3: an exchange, so that no hardware update is lost).
    #[inline]
    pub(crate) fn take(&self) -> Pte {
        Pte::from_raw(through(self.cell, |cell| cell.swap(0, Ordering::AcqRel)))
    }

    /// Changes the entry in place by compare-and-exchange until it holds (law 3). `change`
    /// answers `None` to leave it alone. Returns the value found.
    #[inline]
    pub(crate) fn update(&self, mut change: impl FnMut(Pte) -> Option<Pte>) -> Pte {
        let mut old = self.cell.load(Ordering::Relaxed);
        loop {
            let Some(new) = change(Pte::from_raw(old)) else {
                return Pte::from_raw(old);
            };
            match through(self.cell, |cell| {
                cell.compare_exchange_weak(old, new.raw(), Ordering::AcqRel, Ordering::Relaxed)
            }) {
                Ok(_) => return Pte::from_raw(old),
                Err(now) => old = now,
            }
        }
    }
}

/// A live table, seen for `'g`.
#[derive(Clone, Copy)]
pub(crate) struct TableRef<'g> {
    entries: &'g [AtomicU64; ENTRIES],
    frames: &'static Frames,
    pa: PhysAddr,
    level: Level,
}

impl<'g> TableRef<'g> {
    /// Looks at the table at `pa`.
    ///
    /// # Safety
    /// `pa` is a constructed table page of `level` that is not freed during `'g`: it was reached
    /// from a live root inside a read-side section, or is owned by the caller.
    #[inline(always)]
    pub(crate) unsafe fn new(frames: &'static Frames, pa: PhysAddr, level: Level) -> Self {
        let memory = frames.window().virt(pa).cast::<[AtomicU64; ENTRIES]>();
        // SAFETY: law 8: a constructed table page is a whole, aligned page of entries which only
        // atomics touch, and stays one for 'g by this function's contract.
        let entries = unsafe { memory.as_ref() };
        Self {
            entries,
            frames,
            pa,
            level,
        }
    }

    #[inline(always)]
    pub(crate) fn slot(&self, index: usize) -> Slot<'g> {
        Slot {
            cell: &self.entries[index % ENTRIES],
            level: self.level,
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
            cell: &self.entries[index % ENTRIES],
            level: self.level,
        }
    }

    /// The record of the table's frame.
    #[inline]
    pub(crate) fn meta(&self) -> &'static FrameMeta {
        match self.frames.meta(self.pa.pfn()) {
            Some(meta) => meta,
            None => no_metadata(self.pa),
        }
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
