//! GUP-19: slots have no order.

use pgtable::LockedSlot;

fn case(a: LockedSlot<'_>, b: LockedSlot<'_>) {
    //= let _ = a.level() < b.level();
    let _ = a < b; //~ E0369
}
