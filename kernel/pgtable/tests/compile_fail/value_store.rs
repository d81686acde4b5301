//! PTE-08: a value is no place: nothing can be stored to it.

use pgtable::Value;

fn case(value: Value, other: Value) {
    //= let _ = (value, other);
    *value = other; //~ E0614
}
