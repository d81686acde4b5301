//! The life of tables under walkers and CPUs that have not reported.

use std::sync::Arc;

use arm64::attrs::Prot;
use pgtable::{LockError, Pause, TableError};

use crate::stage::{BASE, PAGE, Stage};

#[test]
fn a_table_waits_for_every_cpu() {
    let stage = Stage::new();
    stage.fill(BASE, Prot::RW);
    let made = stage.machine.host().hook_calls();
    stage.zap(BASE, 1);
    stage.graves.reap(stage.machine, 99);
    stage.machine.quiescent(0);
    stage.graves.reap(stage.machine, 99);
    assert_eq!(stage.machine.host().hook_calls(), made);
    stage.machine.quiescent(1);
    assert_eq!(stage.graves.reap(stage.machine, 99), 2);
    stage.right();
}

#[test]
fn an_emptied_table_is_reclaimed() {
    let stage = Stage::new();
    let free = stage.machine.host().free_frames();
    stage.fill(BASE, Prot::RW);
    stage.fill(BASE + 7 * PAGE, Prot::RW);
    stage.zap(BASE, 1);
    stage.zap(BASE + PAGE, 9);
    stage.settle();
    assert_eq!(stage.machine.host().free_frames(), free);
    stage.right();
}

#[test]
fn no_table_is_linked_under_a_dead_parent() {
    let stage = Arc::new(Stage::new());
    stage.fill(BASE, Prot::RW);
    let other = Arc::downgrade(&stage);
    // The table of the neighbouring 2 MiB is missing; before it is made, its parent goes.
    stage.once_at(Pause::TableMissing, move || {
        if let Some(stage) = other.upgrade() {
            stage.zap(BASE, 1);
        }
    });
    stage.fill(BASE + (2 << 20), Prot::RW);
    assert!(
        stage.leaf(BASE + (2 << 20)).is_some(),
        "mapped where nobody finds it"
    );
    stage.settle();
    stage.right();
}

#[test]
fn a_refused_table_is_given_back() {
    let stage = Stage::new();
    let page = stage.folio(0);
    let free = stage.machine.host().free_frames();
    stage.machine.host().refuse_after(0);
    let refused = stage.install(BASE, page, Prot::RW);
    assert_eq!(refused, Err(LockError::Table(TableError::Refused)));
    // The page went with the refusal.
    assert_eq!(stage.machine.host().free_frames(), free + 1);
    stage.machine.host().refuse_after(u64::MAX);
    stage.fill(BASE, Prot::RW);
    stage.right();
}
