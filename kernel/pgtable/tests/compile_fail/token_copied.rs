//! GUP-12: a proof is of one flush: it is not copied.

use pgtable::Flushed;

fn case(flushed: Flushed) -> (Flushed, Option<Flushed>) {
    //= (flushed, None)
    (flushed, Some(flushed)) //~ E0382
}
