//! Against what the hardware records, and other CPUs change, in the middle of an operation.

use std::sync::Arc;

use arm64::attrs::Prot;
use pgtable::{Accessed, Machine, Pause};

use crate::stage::{BASE, PAGE, Stage};

#[test]
fn a_write_while_software_changes_the_entry_is_not_lost() {
    let stage = Stage::new();
    stage.fill(BASE, Prot::RW);
    let machine = stage.machine;
    stage.once_at(Pause::BeforeExchange, || {
        machine.touch(1, BASE, true, 0);
    });
    stage.protect(BASE, 1, Prot::READ);
    assert!(
        stage
            .leaf(BASE)
            .is_some_and(|leaf| leaf.dirty && leaf.young)
    );
    stage.right();
}

#[test]
fn the_getter_sees_what_was_recorded_in_another_entry() {
    let stage = Stage::new();
    stage.fill_block(BASE, Prot::RW);
    stage.machine.touch(0, BASE + 9 * PAGE, true, 5);
    let stay = ();
    let section = stage.machine.read_side(&stay);
    let leaf = stage.space.lock_existing(BASE, &section).expect("a table");
    assert!(leaf.get(BASE).dirty() && leaf.get(BASE).young());
}

#[test]
fn an_access_is_recorded_where_a_walker_may_look_for_it() {
    let stage = Stage::new();
    stage.fill_block(BASE, Prot::RW);
    stage.machine.touch(0, BASE + 9 * PAGE, true, 5);
    let stay = ();
    let section = stage.machine.read_side(&stay);
    let leaf = stage.space.lock_existing(BASE, &section).expect("a table");
    let accessed = leaf.mark_accessed(BASE, true);
    assert!(
        matches!(accessed, Accessed::Recorded { .. }),
        "{accessed:?}"
    );
    assert_eq!(leaf.mark_accessed(BASE, true), Accessed::Already);
    stage.right();
}

#[test]
fn a_pin_is_compared_with_the_entry_again() {
    let stage = Arc::new(Stage::new());
    stage.fill(BASE, Prot::RW);
    stage.fill(BASE + PAGE, Prot::RW);
    stage.machine.touch(0, BASE, false, 0);
    let other = Arc::downgrade(&stage);
    stage.once_at(Pause::PinBeforeRecheck, move || {
        if let Some(stage) = other.upgrade() {
            stage.zap(BASE, 1);
        }
    });
    let stay = ();
    let section = stage.machine.read_side(&stay);
    assert!(stage.space.pin(BASE, &section).is_err());
    stage.right();
}
