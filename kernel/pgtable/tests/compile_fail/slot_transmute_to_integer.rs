//! PTE-01: a slot has not the size of an address, so it cannot be transmuted to one.

use core::mem::transmute;
use pgtable::Slot;

fn case(slot: Slot<'_>) {
    // SAFETY: never run.
    //= let _ = unsafe { transmute::<Slot<'_>, Slot<'_>>(slot) };
    let _ = unsafe { transmute::<Slot<'_>, usize>(slot) }; //~ E0512
}
