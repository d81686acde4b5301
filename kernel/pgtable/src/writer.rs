//! The right of this CPU to write table pages, for one batch (D16, XC-07).

use core::marker::PhantomData;

use sync::atomic::AtomicU64;
use sync::planted::{self, Fault};

use crate::machine::Machine;

/// An open write window. Every change of an entry takes one; it is opened once per batch and never
/// nests, which is why the functions that change entries take it and do not open their own.
pub(crate) struct Writer<'m, M: Machine> {
    machine: &'m M,
    distance: usize,
    _of_this_cpu: PhantomData<*const ()>,
}

impl<'m, M: Machine> Writer<'m, M> {
    /// Opens the window.
    #[inline(always)]
    pub(crate) fn open(machine: &'m M) -> Self {
        Self {
            machine,
            distance: machine.open_tables(),
            _of_this_cpu: PhantomData,
        }
    }

    #[inline(always)]
    pub(crate) fn machine(&self) -> &'m M {
        self.machine
    }

    /// Where the entry that is read at `cell` is written.
    #[inline(always)]
    pub(crate) fn cell<'c>(&'c self, cell: &'c AtomicU64) -> &'c AtomicU64 {
        if self.distance == 0 {
            return cell;
        }
        let at = core::ptr::from_ref(cell).addr().wrapping_add(self.distance);
        // SAFETY: D16: while the window is open the same entry is mapped writable at that distance,
        // as atomic memory; it closes when `self` is dropped, which the result borrows.
        unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(at) }
    }
}

impl<M: Machine> Drop for Writer<'_, M> {
    #[inline(always)]
    fn drop(&mut self) {
        if !planted::is(Fault::LeaveWindowOpen) {
            self.machine.close_tables();
        }
    }
}
