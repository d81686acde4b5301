//! CTOR-08: a user space has no edit token.

use pgtable::{Kernel, Machine, PageTable, User};

fn case<M: Machine>(user: &PageTable<User, M>, kernel: &PageTable<Kernel, M>) {
    let _ = (user, kernel);
    //= let _ = kernel.edit();
    let _ = user.edit(); //~ E0599
}
