//! PTE-01: what a locked slot consists of is private.

use pgtable::LockedSlot;

fn case(slot: LockedSlot<'_>) {
    //= let _ = slot.level();
    let _ = slot.table; //~ E0616
}
