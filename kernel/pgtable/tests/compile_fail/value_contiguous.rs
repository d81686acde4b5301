//! PTE-04: a value does not tell whether its block is contiguous.

use pgtable::Value;

fn case(value: Value) {
    //= let _ = value.is_none();
    let _ = value.is_contiguous(); //~ E0599
}
