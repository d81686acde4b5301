//! PTE-04, PTE-08: the word of a value is private.

use pgtable::Value;

fn case(value: Value) {
    //= let _ = value.prot();
    let _ = value.0; //~ E0616
}
