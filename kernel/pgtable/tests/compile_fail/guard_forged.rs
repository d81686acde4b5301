//! PTE-03: a guard cannot be forged.

use pgtable::Guard;

fn case<'l>(held: Guard<'l>) -> Guard<'l> {
    //= held
    Guard { lock: None, ..held } //~ E0451
}
