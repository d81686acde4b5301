//! GUP-19: a slot is not stepped by arithmetic.

use pgtable::Slot;

fn case(slot: Slot<'_>) {
    //= let _ = slot.level() as usize + 1;
    let _ = slot + 1; //~ E0369
}
