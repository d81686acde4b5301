//! PTE-08: a value does not lead to a table.

use pgtable::Value;

fn case(value: Value) {
    //= let _ = value.writable();
    let _ = value.table(); //~ E0599
}
