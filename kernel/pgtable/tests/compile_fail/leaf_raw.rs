//! PTE-04: raw entries, with the contiguous bit, are not reached through a locked leaf.

use pgtable::{Leaf, Machine, User};

fn case<M: Machine>(leaf: &Leaf<'_, User, M>) {
    //= leaf.get(0);
    leaf.each_raw(|_, _| 0); //~ E0624
}
