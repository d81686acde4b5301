//! PTE-01: a slot cannot be cast to a pointer to the entry; the address of the handle itself is
//! nobody's secret.

use pgtable::Slot;

fn case(slot: &Slot<'_>) {
    //= let _ = slot as *const Slot<'_>;
    let _ = slot as *const u64; //~ E0606
}
