//! GUP-02: a walk does not begin at a slot.

use pgtable::{Machine, PageTable, ReadSide, Slot, User};

fn case<M: Machine>(space: &PageTable<User, M>, slot: &Slot<'_>, section: &ReadSide<'_>) {
    let _ = slot;
    //= let _ = space.walk(0, section);
    let _ = space.walk(slot, section); //~ E0308
}
