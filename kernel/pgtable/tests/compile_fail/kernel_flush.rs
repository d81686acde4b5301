//! CTOR-08: what a user space owes is not flushed as a kernel space's.

use pgtable::{Flushed, Gather, Kernel, Machine, PageTable, User};

fn case<M: Machine>(
    user: &PageTable<User, M>,
    kernel: &PageTable<Kernel, M>,
    gather: &mut Gather,
) -> Flushed {
    let _ = (user, kernel);
    //= gather.flush(user)
    gather.flush(kernel) //~ E0308
}
