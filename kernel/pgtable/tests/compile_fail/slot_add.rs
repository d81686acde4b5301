//! GUP-19: a slot has no method of a pointer.

use pgtable::Slot;

fn case(slot: Slot<'_>) {
    //= let _ = slot.level();
    let _ = slot.add(1); //~ E0599
}
