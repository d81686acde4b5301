//! PTE-21: the entry of a block is not put where pages are.

use pgtable::{BlockLevel, Leaf, Machine, Moved, PageLevel, User};

fn case<M: Machine>(leaf: &Leaf<'_, User, M>, page: Moved<PageLevel>, block: Moved<BlockLevel>) {
    //= let _ = leaf.put_moved(0, page);
    let _ = leaf.put_moved(0, block); //~ E0308
}
