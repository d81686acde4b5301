//! D17: nor does a block.

use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use frame::{TableFrame, UserFrame};
use pgtable::{Machine, PageTable, ReadSide, User};

fn case<M: Machine>(
    space: &PageTable<User, M>,
    user: UserFrame,
    table: TableFrame,
    section: &ReadSide<'_>,
) {
    let attrs = Attrs::user(Prot::READ);
    let _ = (&user, &table);
    //= let _ = space.map_block(0, Level::L2, user, attrs, section, || true);
    let _ = space.map_block(0, Level::L2, table, attrs, section, || true); //~ E0277
}
