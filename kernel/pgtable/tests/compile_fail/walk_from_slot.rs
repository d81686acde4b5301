//! GUP-02: there is no offset of a slot, which would load the entry a second time.

use pgtable::{ReadSide, Slot, ptep_get_lockless};

fn case(slot: &Slot<'_>, section: &ReadSide<'_>) {
    //= let _ = ptep_get_lockless(slot, section);
    let _ = slot.offset(0, section); //~ E0599
}
