//! PTE-03: the lockless getter wants the read-side section.

use pgtable::{ReadSide, Slot, ptep_get_lockless};

fn case(slot: &Slot<'_>, section: &ReadSide<'_>) {
    //= let _ = ptep_get_lockless(slot, section);
    let _ = ptep_get_lockless(slot); //~ E0061
}
