//! PTE-01: a slot cannot be kept where other CPUs see it.

use arm64::geometry::Level;
use pgtable::LockedSlot;

fn shared<T: Sync>() {}

fn case() {
    //= shared::<Level>();
    shared::<LockedSlot<'static>>(); //~ E0277
}
