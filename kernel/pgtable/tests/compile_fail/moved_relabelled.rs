//! PTE-21: its level does not change on the way.

use pgtable::{BlockLevel, Moved, PageLevel};

fn case(page: Moved<PageLevel>, block: Moved<BlockLevel>) -> Moved<BlockLevel> {
    let _ = (&page, &block);
    //= block
    page //~ E0308
}
