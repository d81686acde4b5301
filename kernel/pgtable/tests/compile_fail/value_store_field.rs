//! PTE-08: nor into it.

use arm64::pte::Pte;
use pgtable::Value;

fn case(mut value: Value, other: Value) {
    //= value = other;
    value.0 = Pte::NONE; //~ E0616
}
