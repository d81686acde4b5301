//! PTE-01: nor can a locked slot be transmuted to a pointer.

use core::mem::transmute;
use pgtable::LockedSlot;

fn case(slot: LockedSlot<'_>) {
    // SAFETY: never run.
    //= let _ = unsafe { transmute::<LockedSlot<'_>, LockedSlot<'_>>(slot) };
    let _ = unsafe { transmute::<LockedSlot<'_>, *const u64>(slot) }; //~ E0512
}
