//! D17: a physical address is not mapped for a program.

use arm64::addr::PhysAddr;
use arm64::attrs::Attrs;
use frame::UserFrame;
use pgtable::{Leaf, Machine, User};

fn case<M: Machine>(leaf: &Leaf<'_, User, M>, user: UserFrame, other: PhysAddr, attrs: Attrs) {
    let _ = (&user, &other);
    //= let _ = leaf.install(0, user, attrs);
    let _ = leaf.install(0, other, attrs); //~ E0277
}
