//! What has to be invalidated, and how far.

use arm64::attrs::Prot;

use pgtable::Machine;

use crate::stage::{BASE, PAGE, Stage};

#[test]
fn a_page_is_flushed_before_it_is_released() {
    let stage = Stage::new();
    stage.fill(BASE, Prot::RW);
    stage.zap(BASE, 1);
    stage.right();
}

#[test]
fn a_range_is_flushed_to_its_end() {
    let stage = Stage::new();
    (0..9).for_each(|i| stage.fill(BASE + i * PAGE, Prot::RW));
    stage.zap(BASE, 8);
    stage.right();
}

#[test]
fn a_flush_names_the_level_of_its_entries() {
    let stage = Stage::new();
    (0..9).for_each(|i| stage.fill(BASE + i * PAGE, Prot::RW));
    stage.protect(BASE, 4, Prot::READ);
    stage.right();
    stage.zap(BASE, 8);
    stage.right();
}

#[test]
fn a_torn_table_is_flushed_with_its_walk_caches() {
    let stage = Stage::new();
    stage.fill(BASE, Prot::RW);
    stage.zap(BASE, 1);
    stage.right();
    stage.settle();
    stage.right();
}

#[test]
fn a_torn_table_is_flushed_though_nothing_was_mapped_in_it() {
    let stage = Stage::new();
    let stay = ();
    let section = stage.machine.read_side(&stay);
    // A fault that made its table and then found that it was too late.
    let leaf = stage.space.lock_leaf(BASE, &section, || true);
    assert!(leaf.is_ok_and(|leaf| leaf.is_empty(BASE, 1)));
    stage.zap(BASE, 1);
    stage.settle();
    stage.right();
}

#[test]
fn rights_are_gone_when_their_removal_returns() {
    let stage = Stage::new();
    stage.fill(BASE, Prot::RW);
    stage.protect(BASE, 1, Prot::READ);
    let write = model::descriptor::right::WRITE;
    let found = stage.machine.translations(1, BASE);
    assert!(found.iter().all(|found| found.leaf.rights & write == 0));
    stage.right();
}
