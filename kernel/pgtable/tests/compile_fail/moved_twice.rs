//! PTE-21: an entry is put in one place.

use pgtable::{Leaf, Machine, Moved, PageLevel, User};

fn case<M: Machine>(leaf: &Leaf<'_, User, M>, page: Moved<PageLevel>, other: Moved<PageLevel>) {
    let _ = leaf.put_moved(0, page);
    //= let _ = leaf.put_moved(4096, other);
    let _ = leaf.put_moved(4096, page); //~ E0382
}
