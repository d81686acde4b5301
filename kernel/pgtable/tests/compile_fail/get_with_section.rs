//! PTE-03: a read-side section is no lock.

use pgtable::{Guard, LockedSlot, ReadSide, ptep_get};

fn case(slot: &LockedSlot<'_>, guard: &Guard<'_>, section: &ReadSide<'_>) {
    //= let _ = ptep_get(slot, guard);
    let _ = ptep_get(slot, section); //~ E0308
}
