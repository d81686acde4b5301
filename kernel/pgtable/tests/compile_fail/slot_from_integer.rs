//! PTE-01: an integer cannot be made a slot.

use pgtable::Slot;

fn case(address: u64) {
    //= let _ = address as usize;
    let _ = address as Slot<'static>; //~ E0605
}
