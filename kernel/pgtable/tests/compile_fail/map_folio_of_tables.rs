//! D17: nor does a batch map tables.

use arm64::attrs::Attrs;
use frame::{TableFrame, UserFrame};
use pgtable::{Leaf, Machine, User};

fn case<M: Machine>(leaf: &Leaf<'_, User, M>, user: UserFrame, table: TableFrame, attrs: Attrs) {
    let _ = (&user, &table);
    //= let _ = leaf.install_folio(0, user, 16, attrs, None);
    let _ = leaf.install_folio(0, table, 16, attrs, None); //~ E0277
}
