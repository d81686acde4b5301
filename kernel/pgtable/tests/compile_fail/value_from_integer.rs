//! PTE-08: a value comes from a getter, not from an integer.

use pgtable::Value;

fn case(word: u64) -> Value {
    let _ = word;
    //= Value::default()
    Value::from(word) //~ E0308
}
