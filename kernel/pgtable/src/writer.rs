//! The right of this CPU to write table pages, for one batch (D16, XC-07).

use core::marker::PhantomData;

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

    /// How much further than it is read a table is written.
    #[inline(always)]
    pub(crate) fn distance(&self) -> usize {
        self.distance
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
