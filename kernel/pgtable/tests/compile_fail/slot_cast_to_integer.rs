//! PTE-01: a slot is no integer either.

use pgtable::Slot;

fn case(slot: Slot<'_>) {
    //= let _ = slot.level() as u64;
    let _ = slot as u64; //~ E0605
}
