//! PTE-01: the raw word under a lock is for the engine alone.

use pgtable::LockedSlot;

fn case(slot: &LockedSlot<'_>) {
    //= let _ = slot.level();
    let _ = slot.raw(); //~ E0624
}
