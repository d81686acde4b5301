//! GUP-03: a value has no slot to go back to: a folded level hands back the slot it was given.

use pgtable::{Slot, Value};

fn case<'g>(slot: Slot<'g>, value: Value) -> Slot<'g> {
    let _ = (&slot, value);
    //= slot.into()
    value.into() //~ E0277
}
