//! PTE-08: a value has no setter.

use arm64::pte::Pte;
use pgtable::Value;

fn case(value: Value) {
    //= value.young();
    value.set(Pte::NONE); //~ E0599
}
