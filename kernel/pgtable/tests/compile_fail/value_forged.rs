//! PTE-08: nor from a word.

use arm64::pte::Pte;
use pgtable::Value;

fn case() -> Value {
    //= Value::default()
    Value(Pte::NONE) //~ E0423
}
