//! GUP-03: what a walk found is a value, with no place beside it.

use pgtable::Walked;

fn case(walked: Walked) {
    //= if let Walked::Seen { value, .. } = walked {
    if let Walked::Seen { slot, .. } = walked { //~ E0026
    }
}
