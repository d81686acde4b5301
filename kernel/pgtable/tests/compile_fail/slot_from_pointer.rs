//! PTE-01: a pointer to an entry cannot be made a slot by a conversion.

use pgtable::LockedSlot;

fn case(entry: *const u64) {
    //= let _ = entry;
    let _ = LockedSlot::from(entry); //~ E0308
}
