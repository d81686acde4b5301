//! PTE-08, GUP-03: the address of a local value is no slot without a lock either.

use pgtable::{ReadSide, Slot, Value, ptep_get_lockless};

fn case(slot: &Slot<'_>, value: Value, section: &ReadSide<'_>) {
    //= let _ = ptep_get_lockless(slot, section);
    let _ = ptep_get_lockless(&value, section); //~ E0308
}
