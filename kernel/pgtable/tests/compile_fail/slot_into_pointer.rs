//! PTE-01: a slot converts into no pointer.

use pgtable::Slot;

fn case(slot: Slot<'_>) {
    //= let _: Slot<'_> = slot.into();
    let _: *const u64 = slot.into(); //~ E0277
}
