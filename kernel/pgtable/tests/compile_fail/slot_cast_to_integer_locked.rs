//! PTE-01: nor is a locked slot.

use pgtable::LockedSlot;

fn case(slot: LockedSlot<'_>) {
    //= let _ = slot.level() as u64;
    let _ = slot as u64; //~ E0605
}
