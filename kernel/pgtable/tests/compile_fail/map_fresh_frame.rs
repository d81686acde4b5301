//! D17: a frame that is still the kernel's to fill is not mapped for a program.

use arm64::attrs::Attrs;
use frame::{FreshFrame, UserFrame};
use pgtable::{Leaf, Machine, User};

fn case<M: Machine>(leaf: &Leaf<'_, User, M>, user: UserFrame, other: FreshFrame, attrs: Attrs) {
    let _ = (&user, &other);
    //= let _ = leaf.install(0, user, attrs);
    let _ = leaf.install(0, other, attrs); //~ E0277
}
