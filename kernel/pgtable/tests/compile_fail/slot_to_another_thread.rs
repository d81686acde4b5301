//! PTE-01: a slot speaks of one stay on one CPU: it is not sent to another.

use pgtable::Slot;

fn send<T: Send>(_: T) {}

fn case(slot: Slot<'_>) {
    //= send(slot.level());
    send(slot); //~ E0277
}
