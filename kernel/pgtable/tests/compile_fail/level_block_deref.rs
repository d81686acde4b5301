//! PTE-06: and for the slot of a locked block.

use pgtable::{Block, Machine, User, ptep_get};

fn case<M: Machine>(block: &Block<'_, User, M>) {
    //= let _ = ptep_get(&block.slot(), block.guard());
    let _ = *block.slot(); //~ E0614
}
