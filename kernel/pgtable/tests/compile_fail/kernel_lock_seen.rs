//! CTOR-05: nor on one that a look came to.

use pgtable::{Kernel, Machine, PageTable, ReadSide, User};

fn case<M: Machine>(
    user: &PageTable<User, M>,
    kernel: &PageTable<Kernel, M>,
    section: &ReadSide<'_>,
) {
    let _ = kernel;
    let look = user.look(0, section);
    //= let _ = user.lock_seen(0, &look, || true);
    let _ = kernel.lock_seen(0, &look, || true); //~ E0599
}
