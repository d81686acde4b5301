//! PTE-01, GUP-19: a slot is no array.

use pgtable::Slot;

fn case(slot: Slot<'_>) {
    //= let _ = [slot.level()][0];
    let _ = slot[1]; //~ E0608
}
