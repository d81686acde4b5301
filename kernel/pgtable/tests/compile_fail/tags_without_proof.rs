//! TAG-24: an entry that lacks tags gets its access for a page whose tags are there and nothing else.

use frame::{TagBacked, UserFrame};
use pgtable::{Leaf, Machine, User};

fn case<M: Machine>(leaf: &Leaf<'_, User, M>, proof: TagBacked<UserFrame>, other: UserFrame) {
    let _ = (&proof, &other);
    //= let _ = leaf.give_tags(0, &proof);
    let _ = leaf.give_tags(0, &other); //~ E0308
}
