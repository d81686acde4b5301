//! GUP-02: a slot has no load beside the getter.

use pgtable::Slot;

fn case(slot: &Slot<'_>) {
    //= let _ = slot.level();
    let _ = slot.load(); //~ E0599
}
