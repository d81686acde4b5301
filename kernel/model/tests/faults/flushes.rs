//! What has to be invalidated, and how far.

use arm64::attrs::Prot;

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
fn a_torn_table_is_flushed_though_no_entry_of_it_was_valid() {
    let stage = Stage::new();
    stage.fill(BASE, Prot::RW);
    stage.protect(BASE, 1, Prot::empty());
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
