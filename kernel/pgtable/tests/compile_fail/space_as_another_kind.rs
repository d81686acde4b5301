//! CTOR-08: a kernel space does not pass for a user space.

use pgtable::{Kernel, Machine, PageTable, User};

fn wants_user<M: Machine>(_: &PageTable<User, M>) {}

fn case<M: Machine>(user: &PageTable<User, M>, kernel: &PageTable<Kernel, M>) {
    let _ = (user, kernel);
    //= wants_user(user);
    wants_user(kernel); //~ E0308
}
