//! GUP-19: slots have no distance.

use pgtable::Slot;

fn case(a: Slot<'_>, b: Slot<'_>) {
    //= let _ = (a, b);
    let _ = a - b; //~ E0369
}
