//! PTE-03: a lock is no read-side section.

use pgtable::{Guard, ReadSide, Slot, ptep_get_lockless};

fn case(slot: &Slot<'_>, guard: &Guard<'_>, section: &ReadSide<'_>) {
    //= let _ = ptep_get_lockless(slot, section);
    let _ = ptep_get_lockless(slot, guard); //~ E0308
}
