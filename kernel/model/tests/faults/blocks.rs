//! Contiguous blocks and blocks of 2 MiB.

use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use model::descriptor::right;
use pgtable::{Gather, Machine};

use crate::stage::{BASE, PAGE, Stage};

/// Pages `skip..skip + count` of one folio at `va` and behind, one by one.
fn fill_by_pages(stage: &Stage, va: u64, order: u8, skip: u64, count: u64) {
    let folio = stage.folio(order);
    stage.machine.operation(|| {
        for i in 0..count {
            let installed = stage.install(va + i * PAGE, folio.page(skip + i), Prot::RW);
            installed.expect("a table");
        }
    });
}

#[test]
fn folding_breaks_before_it_makes() {
    let stage = Stage::new();
    fill_by_pages(&stage, BASE, 4, 0, 16);
    assert!(
        stage
            .leaf(BASE + 7 * PAGE)
            .is_some_and(|leaf| leaf.contiguous)
    );
    stage.right();
}

#[test]
fn folding_and_unfolding_flush_in_between() {
    let stage = Stage::new();
    fill_by_pages(&stage, BASE, 4, 0, 16);
    stage.right();
    stage.protect(BASE, 5, Prot::READ);
    stage.right();
}

#[test]
fn unfolding_flushes_the_whole_block() {
    let stage = Stage::new();
    stage.fill_block(BASE, Prot::RW);
    stage.zap(BASE + 3 * PAGE, 1);
    stage.right();
}

#[test]
fn only_aligned_blocks_are_folded() {
    let stage = Stage::new();
    fill_by_pages(&stage, BASE + PAGE, 5, 0, 24);
    stage.right();
    let folded = (1..25).any(|i| {
        stage
            .leaf(BASE + i * PAGE)
            .is_some_and(|leaf| leaf.contiguous)
    });
    assert!(!folded, "address and frame are never aligned alike");
}

#[test]
fn pages_of_different_rights_are_not_folded() {
    let stage = Stage::new();
    let folio = stage.folio(4);
    for i in 0..16 {
        let prot = if i == 5 { Prot::READ } else { Prot::RW };
        let installed = stage.install(BASE + i * PAGE, folio.page(i), prot);
        installed.expect("a table");
    }
    let writable = |i: u64| {
        let leaf = stage.leaf(BASE + i * PAGE).expect("mapped");
        leaf.rights & right::WRITE != 0
    };
    assert_eq!((0..16).filter(|&i| writable(i)).count(), 15);
    assert!(!writable(5));
    stage.right();
}

#[test]
fn frames_of_different_folios_are_not_folded() {
    let stage = Stage::new();
    let (folio, other) = (stage.folio(3), stage.folio(3));
    let first = folio.pfn().raw().min(other.pfn().raw());
    assert_eq!(
        folio.pfn().raw().abs_diff(other.pfn().raw()),
        8,
        "neighbours"
    );
    for i in 0..16 {
        let of = [&folio, &other].into_iter().find(|of| {
            let from = of.pfn().raw();
            (from..from + 8).contains(&(first + i))
        });
        let of = of.expect("one of the two");
        let page = of.page(first + i - of.pfn().raw());
        stage
            .install(BASE + i * PAGE, page, Prot::RW)
            .expect("a table");
    }
    assert!(stage.leaf(BASE).is_some_and(|leaf| !leaf.contiguous));
    stage.right();
}

#[test]
fn unfolding_keeps_what_the_hardware_recorded_of_the_block() {
    let stage = Stage::new();
    stage.fill_block(BASE, Prot::RW);
    // Page 9 is written, and the hardware records it in entry 5.
    stage.machine.touch(0, BASE + 9 * PAGE, true, 5);
    stage.protect(BASE, 2, Prot::READ);
    let leaf = stage.leaf(BASE + 9 * PAGE).expect("mapped");
    assert!(!leaf.contiguous && leaf.dirty && leaf.young, "{leaf:x?}");
    stage.right();
}

#[test]
fn a_block_without_access_keeps_what_the_hardware_recorded_of_it() {
    let stage = Stage::new();
    stage.fill_block(BASE, Prot::RW);
    stage.machine.touch(0, BASE + 9 * PAGE, true, 5);
    stage.protect(BASE, 16, Prot::empty());
    stage.protect(BASE + 8 * PAGE, 8, Prot::READ);
    let leaf = stage.leaf(BASE + 9 * PAGE).expect("mapped");
    assert!(leaf.dirty && leaf.young, "{leaf:x?}");
    stage.right();
}

#[test]
fn protecting_a_part_of_a_block_unfolds_it() {
    let stage = Stage::new();
    stage.fill_block(BASE, Prot::RW);
    stage.protect(BASE + 3 * PAGE, 2, Prot::READ);
    stage.right();
    assert!(stage.leaf(BASE).is_some_and(|leaf| !leaf.contiguous));
}

#[test]
fn zapping_a_part_of_a_block_unfolds_it() {
    let stage = Stage::new();
    stage.fill_block(BASE, Prot::RW);
    stage.zap(BASE + 3 * PAGE, 2);
    stage.right();
    assert!(stage.leaf(BASE).is_some_and(|leaf| !leaf.contiguous));
}

#[test]
fn every_page_of_a_folio_has_its_reference() {
    let stage = Stage::new();
    let free = stage.machine.host().free_frames();
    stage.fill_block(BASE, Prot::RW);
    let first = stage.leaf(BASE).expect("mapped").pa >> 12;
    let meta = stage.machine.frames().meta(arm64::addr::Pfn::new(first));
    assert_eq!(meta.expect("a frame").references(), 16);
    stage.zap(BASE, 16);
    stage.settle();
    stage.right();
    assert_eq!(stage.machine.host().free_frames(), free);
}

/// A block of 2 MiB at `BASE`.
fn fill_large(stage: &Stage) {
    let stay = ();
    let section = stage.machine.read_side(&stay);
    let folio = stage.folio(9);
    let attrs = Attrs::user(Prot::RW);
    let mapped = stage.machine.operation(|| {
        let space = &stage.space;
        space.map_block(BASE, Level::L2, folio, attrs, &section, || true)
    });
    mapped.expect("a table");
}

#[test]
fn splitting_breaks_before_it_links() {
    let stage = Stage::new();
    fill_large(&stage);
    stage.zap(BASE, 16);
    stage.right();
    assert!(stage.leaf(BASE).is_none());
    assert!(
        stage
            .leaf(BASE + 16 * PAGE)
            .is_some_and(|leaf| leaf.contiguous)
    );
}

#[test]
fn a_table_is_collapsed_only_if_all_of_it_is_alike() {
    let stage = Stage::new();
    fill_large(&stage);
    stage.protect(BASE + 100 * PAGE, 1, Prot::READ);
    let collapse = || {
        let stay = ();
        let section = stage.machine.read_side(&stay);
        stage.machine.operation(|| {
            let mut gather = Gather::new();
            let collapsed = stage.space.collapse(BASE, &mut gather, &section);
            stage.flush(&mut gather);
            collapsed
        })
    };
    assert!(!collapse());
    let leaf = stage.leaf(BASE + 100 * PAGE).expect("mapped");
    assert_eq!(leaf.rights & right::WRITE, 0);
    stage.protect(BASE + 100 * PAGE, 1, Prot::RW);
    stage.machine.touch(1, BASE + 77 * PAGE, true, 0);
    assert!(collapse());
    let leaf = stage.leaf(BASE).expect("mapped");
    assert_eq!((leaf.size, leaf.dirty, leaf.young), (2 << 20, true, true));
    stage.settle();
    stage.right();
}
