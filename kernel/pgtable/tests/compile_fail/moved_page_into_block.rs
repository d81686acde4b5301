//! PTE-21: the entry of a page is not put where blocks are.

use pgtable::{BlockLevel, Machine, Moved, PageLevel, PageTable, ReadSide, User};

fn case<M: Machine>(
    space: &PageTable<User, M>,
    section: &ReadSide<'_>,
    page: Moved<PageLevel>,
    block: Moved<BlockLevel>,
) {
    //= let _ = space.put_moved_block(0, block, section);
    let _ = space.put_moved_block(0, page, section); //~ E0308
}
