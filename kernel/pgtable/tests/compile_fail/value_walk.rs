//! PTE-08: one walks to an address of a space, not on from a value.

use pgtable::{Machine, PageTable, ReadSide, User, Value};

fn case<M: Machine>(space: &PageTable<User, M>, va: u64, value: Value, section: &ReadSide<'_>) {
    let _ = (va, value);
    //= let _ = space.walk(va, section);
    let _ = space.walk(value, section); //~ E0308
}
