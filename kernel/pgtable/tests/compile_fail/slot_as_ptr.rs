//! PTE-01: a slot hands out no pointer.

use pgtable::LockedSlot;

fn case(slot: &LockedSlot<'_>) {
    //= let _ = slot.level();
    let _ = slot.as_ptr(); //~ E0599
}
