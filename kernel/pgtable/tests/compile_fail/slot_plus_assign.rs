//! GUP-19: a slot is not moved on.

use pgtable::Slot;

fn case(mut slot: Slot<'_>) {
    //= slot = slot;
    slot += 1; //~ E0368
}
