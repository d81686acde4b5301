//! CTOR-05: a special space has no lock to take.

use pgtable::{Machine, PageTable, ReadSide, Special, User};

fn case<M: Machine>(
    user: &PageTable<User, M>,
    special: &PageTable<Special, M>,
    section: &ReadSide<'_>,
) {
    let _ = (user, special);
    //= let _ = user.lock_leaf(0, section, || true);
    let _ = special.lock_leaf(0, section, || true); //~ E0599
}
