//! PTE-01: nor can a slot whose table is locked.

use pgtable::LockedSlot;

fn case(slot: LockedSlot<'_>) {
    //= let _ = slot;
    let _ = *slot; //~ E0614
}
