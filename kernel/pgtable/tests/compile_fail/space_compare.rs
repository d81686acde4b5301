//! CTOR-08: what a space is for is asked of its kind, not by comparing it with another.

use pgtable::{Machine, PageTable, User};

fn case<M: Machine>(a: &PageTable<User, M>, b: &PageTable<User, M>) {
    //= let _ = a.owner() == b.owner();
    let _ = a == b; //~ E0369
}
