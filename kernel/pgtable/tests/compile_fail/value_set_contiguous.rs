//! PTE-04: nor can a caller make one contiguous.

use pgtable::Value;

fn case(value: Value) {
    //= let _ = value.dirty();
    let _ = value.with_contiguous(true); //~ E0599
}
