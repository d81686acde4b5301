//! PTE-21, PTE-08: a value that was read owns no references and is not put anywhere.

use pgtable::{Leaf, Machine, Moved, PageLevel, User, Value};

fn case<M: Machine>(leaf: &Leaf<'_, User, M>, page: Moved<PageLevel>, value: Value) {
    let _ = value;
    //= let _ = leaf.put_moved(0, page);
    let _ = leaf.put_moved(0, value); //~ E0308
}
