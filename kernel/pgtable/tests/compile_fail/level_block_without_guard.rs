//! PTE-06, PTE-03: the getter of a block wants its guard too.

use pgtable::{Block, Machine, User, ptep_get};

fn case<M: Machine>(block: &Block<'_, User, M>) {
    //= let _ = ptep_get(&block.slot(), block.guard());
    let _ = ptep_get(&block.slot()); //~ E0061
}
