//! CTOR-05: a table of a kernel space has no lock to take.

use pgtable::{Kernel, Machine, PageTable, ReadSide, User};

fn case<M: Machine>(
    user: &PageTable<User, M>,
    kernel: &PageTable<Kernel, M>,
    section: &ReadSide<'_>,
) {
    let _ = (user, kernel);
    //= let _ = user.lock_leaf(0, section, || true);
    let _ = kernel.lock_leaf(0, section, || true); //~ E0599
}
