//! CTOR-08: there are three kinds of spaces.

use pgtable::{Kind, Machine, User};

enum Mine {}

fn kind<K: Kind>() {}

fn case<M: Machine>(machine: &'static M) {
    let _ = machine;
    //= kind::<User>();
    kind::<Mine>(); //~ E0277
}
