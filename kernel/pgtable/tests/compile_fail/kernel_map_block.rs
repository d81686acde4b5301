//! CTOR-08: an operation of user spaces is not done to a kernel space: blocks of folios.

use pgtable::{Kernel, Machine, PageTable, ReadSide, User};

fn case<M: Machine>(
    user: &PageTable<User, M>,
    kernel: &PageTable<Kernel, M>,
    section: &ReadSide<'_>,
) {
    let _ = (user, kernel);
    //= let _ = user.split_block(0, section);
    let _ = kernel.split_block(0, section); //~ E0599
}
