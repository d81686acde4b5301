//! PTE-21: an entry on its way is taken out of a table, not made up.

use arm64::pte::Pte;
use core::marker::PhantomData;
use pgtable::{Moved, PageLevel};

fn case(page: Moved<PageLevel>) -> Moved<PageLevel> {
    //= page
    Moved(Pte::NONE, PhantomData) //~ E0423
}
