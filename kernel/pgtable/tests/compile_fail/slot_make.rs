//! PTE-01: a slot is made by a guard only.

use pgtable::Slot;

fn case<'g>(slot: Slot<'g>) -> Slot<'g> {
    //= slot
    Slot { index: 0, ..slot } //~ E0451
}
