//! PTE-03: the locked getter wants the guard.

use pgtable::{Guard, LockedSlot, ptep_get};

fn case(slot: &LockedSlot<'_>, guard: &Guard<'_>) {
    //= let _ = ptep_get(slot, guard);
    let _ = ptep_get(slot); //~ E0061
}
