//! PTE-21: integers and entries do not mix.

use pgtable::{Leaf, Machine, Moved, PageLevel, User};

fn case<M: Machine>(leaf: &Leaf<'_, User, M>, page: Moved<PageLevel>) {
    //= let _ = leaf.put_moved(0, page);
    let _ = leaf.put_moved(0, 0u64); //~ E0308
}
