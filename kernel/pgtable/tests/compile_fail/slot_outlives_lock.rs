//! PTE-01, PTE-03: a locked slot borrows its guard: it does not outlive the lock.

use pgtable::{Leaf, Machine, User};

fn case<M: Machine>(leaf: Leaf<'_, User, M>, other: Leaf<'_, User, M>) {
    let slot = leaf.slot(0);
    //= drop(other);
    drop(leaf); //~ E0505
    let _ = slot.level();
}
