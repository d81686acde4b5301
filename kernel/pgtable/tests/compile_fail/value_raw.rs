//! PTE-04, PTE-08: the word of a value is for the engine alone.

use pgtable::Value;

fn case(value: Value) {
    //= let _ = value.prot();
    let _ = value.pte(); //~ E0624
}
