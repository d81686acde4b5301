//! GUP-12: and nothing else is such a proof.

use pgtable::{Flushed, Gather, Graveyard, Machine};

fn case<M: Machine>(gather: &mut Gather, machine: &M, graves: &Graveyard, flushed: &Flushed) {
    let _ = flushed;
    //= gather.release(machine, graves, flushed);
    gather.release(machine, graves, &()); //~ E0308
}
