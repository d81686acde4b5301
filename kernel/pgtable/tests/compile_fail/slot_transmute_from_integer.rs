//! PTE-01: and an address cannot be transmuted to a slot.

use core::mem::transmute;
use pgtable::LockedSlot;

fn case(address: usize) {
    // SAFETY: never run.
    //= let _ = unsafe { transmute::<usize, *const ()>(address) };
    let _ = unsafe { transmute::<usize, LockedSlot<'_>>(address) }; //~ E0512
}
