//! GUP-12: nor is there one for nothing.

use pgtable::Flushed;

fn case(flushed: Flushed) -> Flushed {
    //= flushed
    Default::default() //~ E0277
}
