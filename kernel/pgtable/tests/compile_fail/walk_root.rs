//! GUP-02: the root table is not handed out.

use arm64::geometry::Level;
use pgtable::{Machine, PageTable, ReadSide, User};

fn case<M: Machine>(space: &PageTable<User, M>, section: &ReadSide<'_>) {
    //= let _ = space.slot_of(0, Level::L0, section);
    let _ = space.root(section); //~ E0624
}
