//! PTE-08, GUP-03: the address of a local value is no slot.

use pgtable::{Guard, LockedSlot, Value, ptep_get};

fn case(slot: &LockedSlot<'_>, value: Value, guard: &Guard<'_>) {
    //= let _ = ptep_get(slot, guard);
    let _ = ptep_get(&value, guard); //~ E0308
}
