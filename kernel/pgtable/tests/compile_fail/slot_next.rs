//! GUP-19: a slot does not iterate over its table.

use pgtable::Slot;

fn case(slot: Slot<'_>) {
    //= for _ in [slot] {}
    for _ in slot {} //~ E0277
}
