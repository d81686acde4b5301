//! CTOR-08: a kernel space is never torn down.

use pgtable::{Gather, Kernel, Machine, PageTable, User};

fn case<M: Machine>(
    user: &mut PageTable<User, M>,
    kernel: &mut PageTable<Kernel, M>,
    gather: &mut Gather,
) {
    let _ = (&user, &kernel);
    //= user.retire(gather);
    kernel.retire(gather); //~ E0599
}
