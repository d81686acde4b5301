//! PTE-03: a read-side section cannot be forged.

use core::marker::PhantomData;
use pgtable::ReadSide;

fn case<'g>(section: ReadSide<'g>) -> ReadSide<'g> {
    //= section
    ReadSide { _stay: PhantomData } //~ E0451
}
