//! CTOR-08: an operation of user spaces is not done to a kernel space: pin.

use pgtable::{Kernel, Machine, PageTable, ReadSide, User};

fn case<M: Machine>(
    user: &PageTable<User, M>,
    kernel: &PageTable<Kernel, M>,
    section: &ReadSide<'_>,
) {
    let _ = (user, kernel);
    //= let _ = user.pin(0, section);
    let _ = kernel.pin(0, section); //~ E0599
}
