//! PTE-01: a slot is no pointer: it cannot be dereferenced.

use pgtable::Slot;

fn case(slot: Slot<'_>) {
    //= let _ = slot;
    let _ = *slot; //~ E0614
}
