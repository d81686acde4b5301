//! The entries of one locked table, ready to be changed: where they are read and where they are
//! written, worked out once per batch.

use core::marker::PhantomData;
use core::ptr::NonNull;

use arm64::addr::PhysAddr;
use arm64::geometry::Level;
use arm64::pte::Pte;
use sync::atomic::{AtomicU64, Ordering};
use sync::planted::{self, Fault};

use crate::machine::{Machine, Pause};

/// Entries by index. A copy is a few registers, so that loops over a table hold no pointer to it
/// in memory, which every atomic would make them load again.
pub(crate) struct Cells<'w, M: Machine> {
    read: NonNull<AtomicU64>,
    write: NonNull<AtomicU64>,
    machine: &'w M,
    pa: PhysAddr,
    level: Level,
    entries: usize,
    _window: PhantomData<&'w ()>,
}

impl<M: Machine> Clone for Cells<'_, M> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Machine> Copy for Cells<'_, M> {}

impl<'w, M: Machine> Cells<'w, M> {
    /// The entries of the table at `pa`, read at `read` and written `distance` bytes further.
    ///
    /// # Safety
    /// `read` is the first of the `entries` entries of a live table of `level`, whose serialiser is
    /// held during `'w`, and during which it is writable at that distance.
    #[inline(always)]
    pub(crate) unsafe fn new(
        read: NonNull<AtomicU64>,
        distance: usize,
        machine: &'w M,
        pa: PhysAddr,
        level: Level,
        entries: usize,
    ) -> Self {
        let write = match distance {
            0 => read,
            _ => {
                let at = read.addr().get().wrapping_add(distance);
                // Never null: the window maps the table there, by this function's contract.
                let at = core::ptr::with_exposed_provenance_mut(at);
                NonNull::new(at).unwrap_or(read)
            }
        };
        Self {
            read,
            write,
            machine,
            pa,
            level,
            entries,
            _window: PhantomData,
        }
    }

    #[inline(always)]
    fn reader(&self, index: usize) -> &'w AtomicU64 {
        debug_assert!(index < self.entries, "an index beyond the table");
        // SAFETY: law 8: an entry of a live table, by `new`'s contract; only atomics touch it.
        unsafe { self.read.add(index).as_ref() }
    }

    #[inline(always)]
    fn writer(&self, index: usize) -> &'w AtomicU64 {
        debug_assert!(index < self.entries, "an index beyond the table");
        // SAFETY: D16: the same entry, writable here while the window is open, which 'w does not
        // outlive.
        unsafe { self.write.add(index).as_ref() }
    }

    /// The entry as it is, contiguous or not (law 7).
    #[inline(always)]
    pub(crate) fn raw(&self, index: usize) -> Pte {
        Pte::from_raw(self.reader(index).load(Ordering::Relaxed))
    }

    /// Stores into an entry that the hardware does not use: none, or invalid. The serialiser is
    /// held, and hardware never changes an invalid entry, so no exchange is needed.
    #[inline(always)]
    pub(crate) fn put(&self, index: usize, new: Pte) {
        let old = self.raw(index);
        debug_assert!(!old.is_valid(), "law 3: a store over a live entry");
        self.writer(index).store(new.raw(), Ordering::Release);
        self.told(index, old, new);
    }

    /// As [`Self::put`] for an entry that is none.
    #[inline(always)]
    pub(crate) fn put_new(&self, index: usize, new: Pte) {
        debug_assert!(
            self.raw(index).is_none(),
            "law 3: a store over an entry in use"
        );
        self.writer(index).store(new.raw(), Ordering::Release);
        self.told(index, Pte::NONE, new);
    }

    /// As [`Self::put_new`], without an order: the caller has put a release fence between what the
    /// new entries point to and the first of them.
    #[inline(always)]
    pub(crate) fn put_relaxed(&self, index: usize, new: Pte) {
        debug_assert!(
            self.raw(index).is_none(),
            "law 3: a store over an entry in use"
        );
        self.writer(index).store(new.raw(), Ordering::Relaxed);
        self.told(index, Pte::NONE, new);
    }

    /// Takes the entry out, leaving none (law 3: an exchange, so that no hardware update is lost).
    #[inline(always)]
    pub(crate) fn take(&self, index: usize) -> Pte {
        self.exchange(index, Pte::NONE)
    }

    /// Takes the entry out and leaves `rest`, none or invalid, in one step: no walker finds an entry
    /// without its mark in between.
    #[inline(always)]
    pub(crate) fn exchange(&self, index: usize, rest: Pte) -> Pte {
        debug_assert!(!rest.is_valid(), "law 5: made in the step that breaks");
        let old = Pte::from_raw(self.writer(index).swap(rest.raw(), Ordering::AcqRel));
        self.told(index, old, rest);
        old
    }

    /// Flips `bits` of the entry in one atomic step. What the hardware sets meanwhile stays; it must
    /// not be able to change one of these bits.
    #[inline(always)]
    pub(crate) fn flip(&self, index: usize, bits: u64) {
        self.machine.pause(Pause::BeforeExchange);
        let old = self.writer(index).fetch_xor(bits, Ordering::AcqRel);
        self.told(index, Pte::from_raw(old), Pte::from_raw(old ^ bits));
    }

    /// Clears the access flag in one atomic step.
    #[inline(always)]
    pub(crate) fn make_old(&self, index: usize) {
        if planted::is(Fault::StoreOverLive) {
            let old = self.raw(index);
            self.machine.pause(Pause::BeforeExchange);
            self.writer(index)
                .store(old.raw() & Pte::OLD, Ordering::Release);
            return self.told(index, old, Pte::from_raw(old.raw() & Pte::OLD));
        }
        self.machine.pause(Pause::BeforeExchange);
        let old = self.writer(index).fetch_and(Pte::OLD, Ordering::AcqRel);
        self.told(index, Pte::from_raw(old), Pte::from_raw(old & Pte::OLD));
    }

    /// Changes the entry in place by compare-and-exchange until it holds (law 3). `change`
    /// answers `None` to leave it alone.
    #[inline(always)]
    pub(crate) fn update(&self, index: usize, mut change: impl FnMut(Pte) -> Option<Pte>) {
        let cell = self.writer(index);
        let mut old = self.raw(index);
        while let Some(new) = change(old) {
            self.machine.pause(Pause::BeforeExchange);
            if planted::is(Fault::StoreOverLive) {
                cell.store(new.raw(), Ordering::Release);
                return self.told(index, old, new);
            }
            match cell.compare_exchange(old.raw(), new.raw(), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return self.told(index, old, new),
                Err(now) => old = Pte::from_raw(now),
            }
        }
    }

    #[inline(always)]
    fn told(&self, index: usize, old: Pte, new: Pte) {
        let at = PhysAddr::new(self.pa.raw() + 8 * index as u64);
        self.machine.stored(at, self.level, old, new);
    }
}
