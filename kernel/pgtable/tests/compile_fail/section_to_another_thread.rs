//! PTE-03: a section speaks of one CPU.

use arm64::geometry::Level;
use pgtable::ReadSide;

fn send<T: Send>(_: T) {}

fn case(section: ReadSide<'static>, level: Level) {
    //= send(level);
    send(section); //~ E0277
}
