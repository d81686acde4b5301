//! GUP-19: nor is a locked slot.

use pgtable::LockedSlot;

fn case(slot: LockedSlot<'_>) {
    //= let _ = slot.level() as usize + 1;
    let _ = slot + 1; //~ E0369
}
