//! PTE-03: a lock is released where it was taken.

use arm64::geometry::Level;
use pgtable::Guard;

fn send<T: Send>(_: T) {}

fn case(guard: Guard<'static>, level: Level) {
    //= send(level);
    send(guard); //~ E0277
}
