//! PTE-01: only the engine stores through a slot; others ask a locked leaf.

use pgtable::{LockedSlot, Machine};

fn case<M: Machine>(slot: &LockedSlot<'_>, machine: &M) {
    //= let _ = slot.level();
    let _ = slot.take(machine); //~ E0624
}
