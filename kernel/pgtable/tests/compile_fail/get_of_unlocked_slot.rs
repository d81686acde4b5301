//! PTE-03: what was found without a lock is not read as if it were locked.

use pgtable::{Guard, LockedSlot, Slot, ptep_get};

fn case(slot: &LockedSlot<'_>, found: &Slot<'_>, guard: &Guard<'_>) {
    //= let _ = ptep_get(slot, guard);
    let _ = ptep_get(found, guard); //~ E0308
}
