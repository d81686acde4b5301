//! PTE-03: and a locked slot has one getter.

use pgtable::{LockedSlot, ReadSide, Slot, ptep_get_lockless};

fn case(slot: &LockedSlot<'_>, found: &Slot<'_>, section: &ReadSide<'_>) {
    //= let _ = ptep_get_lockless(found, section);
    let _ = ptep_get_lockless(slot, section); //~ E0308
}
