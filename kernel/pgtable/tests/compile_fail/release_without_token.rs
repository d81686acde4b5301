//! GUP-12: what was torn out is not freed without the proof of its flush.

use pgtable::{Flushed, Gather, Graveyard, Machine};

fn case<M: Machine>(gather: &mut Gather, machine: &M, graves: &Graveyard, flushed: &Flushed) {
    let _ = flushed;
    //= gather.release(machine, graves, flushed);
    gather.release(machine, graves); //~ E0061
}
