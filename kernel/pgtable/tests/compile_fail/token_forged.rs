//! GUP-12: the proof of a flush cannot be forged.

use pgtable::Flushed;

fn case(flushed: Flushed) -> Flushed {
    //= flushed
    Flushed { _made_by_flush: () } //~ E0451
}
