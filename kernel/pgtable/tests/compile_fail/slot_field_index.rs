//! PTE-01: what a slot consists of is private.

use pgtable::Slot;

fn case(slot: Slot<'_>) {
    //= let _ = slot.level();
    let _ = slot.index; //~ E0616
}
