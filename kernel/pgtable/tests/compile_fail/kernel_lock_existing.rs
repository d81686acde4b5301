//! CTOR-05: not on an existing table either.

use pgtable::{Kernel, Machine, PageTable, ReadSide, User};

fn case<M: Machine>(
    user: &PageTable<User, M>,
    kernel: &PageTable<Kernel, M>,
    section: &ReadSide<'_>,
) {
    let _ = (user, kernel);
    //= let _ = user.lock_existing(0, section);
    let _ = kernel.lock_existing(0, section); //~ E0599
}
