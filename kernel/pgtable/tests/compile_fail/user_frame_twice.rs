//! D17: a reference maps one page.

use arm64::attrs::Attrs;
use frame::UserFrame;
use pgtable::{Leaf, Machine, User};

fn case<M: Machine>(leaf: &Leaf<'_, User, M>, user: UserFrame, other: UserFrame, attrs: Attrs) {
    let _ = leaf.install(0, user, attrs);
    //= let _ = leaf.install(4096, other, attrs);
    let _ = leaf.install(4096, user, attrs); //~ E0382
}
