//! GUP-02, PTE-03: a walk wants a read-side section.

use pgtable::{Machine, PageTable, ReadSide, User};

fn case<M: Machine>(space: &PageTable<User, M>, section: &ReadSide<'_>) {
    //= let _ = space.walk(0, section);
    let _ = space.walk(0); //~ E0061
}
