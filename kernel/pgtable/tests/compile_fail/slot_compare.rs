//! GUP-19, PTE-01: slots are not compared.

use pgtable::Slot;

fn case(a: Slot<'_>, b: Slot<'_>) {
    //= let _ = a.level() == b.level();
    let _ = a == b; //~ E0369
}
