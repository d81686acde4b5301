//! PTE-03: the guard of a whole space is made by whoever serialises it.

use pgtable::Guard;

fn case() {
    //= let _ = size_of::<Guard<'_>>();
    let _ = Guard::whole_space; //~ E0624
}
