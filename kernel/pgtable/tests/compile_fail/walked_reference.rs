//! GUP-03: the address of the value in a result is no slot.

use pgtable::{ReadSide, Slot, Walked, ptep_get_lockless};

fn case(walked: &Walked, slot: &Slot<'_>, section: &ReadSide<'_>) {
    let Walked::Seen { value, .. } = walked else {
        return;
    };
    //= let _ = (value, ptep_get_lockless(slot, section));
    let _ = ptep_get_lockless(value, section); //~ E0308
}
