//! Contiguous blocks and blocks of 2 MiB.

use arm64::geometry::Level;
use arm64::pte::Pte;
use model::Rule;

use crate::bench::{Bench, LEAVES, MIDDLE, SPARE, block, page, read_only};

const A: u64 = 0x20_0000;

fn put_singles(bench: &mut Bench, first: u64, pa: u64) {
    (0..16).for_each(|i| bench.put(first + i, page(pa + 0x1000 * i)));
}

fn take(bench: &mut Bench, first: u64) {
    (first..first + 16).for_each(|i| bench.take(i));
}

#[test]
fn folding_and_unfolding_with_break_and_flush() {
    let mut bench = Bench::new();
    put_singles(&mut bench, 16, A);
    take(&mut bench, 16);
    bench.flush(16..32);
    bench.put_block(16, A);
    take(&mut bench, 16);
    bench.flush(16..32);
    put_singles(&mut bench, 16, A);
    bench.right();
}

#[test]
fn folding_over_live_entries() {
    let mut bench = Bench::new();
    put_singles(&mut bench, 16, A);
    bench.put_block(16, A);
    bench.flush(16..32);
    bench.wrong(Rule::MakeWithoutBreak);
}

#[test]
fn folding_without_a_flush_in_between() {
    let mut bench = Bench::new();
    put_singles(&mut bench, 16, A);
    take(&mut bench, 16);
    bench.put_block(16, A);
    bench.flush(16..32);
    bench.wrong(Rule::MadeOverCached);
}

#[test]
fn unfolding_with_a_flush_of_one_page() {
    let mut bench = Bench::new();
    bench.put_block(16, A);
    take(&mut bench, 16);
    bench.flush(19..20);
    put_singles(&mut bench, 16, A);
    bench.flush(16..32);
    bench.wrong(Rule::MadeOverCached);
}

#[test]
fn with_level_2_a_block_may_be_repainted_at_once() {
    let mut bench = Bench::with(true);
    put_singles(&mut bench, 16, A);
    take(&mut bench, 16);
    bench.put_block(16, A);
    bench.mmu.end_operation();
    bench.mmu.begin_operation();
    take(&mut bench, 16);
    put_singles(&mut bench, 16, A);
    bench.take(19);
    bench.flush(19..20);
    bench.release(A + 0x3000);
    bench.right();
}

#[test]
fn level_2_does_not_allow_another_frame() {
    let mut bench = Bench::with(true);
    bench.put(3, page(A));
    bench.take(3);
    bench.put(3, page(A + 0x1000));
    bench.flush(3..4);
    bench.wrong(Rule::MadeOverCached);
}

#[test]
fn a_hole_in_a_block() {
    let mut bench = Bench::new();
    bench.put_block(16, A);
    bench.take(19);
    bench.flush(16..32);
    bench.wrong(Rule::BlockMalformed);
}

#[test]
fn a_neighbour_still_translates_a_page_taken_out_of_a_block() {
    let mut bench = Bench::new();
    bench.put_block(16, A);
    bench.take(19);
    let found = bench.mmu.translations(0, 19 << 12);
    assert!(found.iter().any(|it| !it.stale && it.pa == A + 0x3000));
    bench.wrong(Rule::BlockMalformed);
}

#[test]
fn rights_that_differ_within_a_block() {
    let mut bench = Bench::new();
    bench.put_block(16, A);
    bench.put(20, read_only(A + 0x4000).with_contiguous(true));
    bench.flush(16..32);
    bench.wrong(Rule::BlockMalformed);
}

#[test]
fn rights_of_a_whole_block_change_in_place() {
    let mut bench = Bench::new();
    bench.put_block(16, A);
    for i in 0..16 {
        bench.put(16 + i, read_only(A + 0x1000 * i).with_contiguous(true));
    }
    bench.flush(16..32);
    bench.right();
}

#[test]
fn a_block_between_two_places() {
    let mut bench = Bench::new();
    bench.put_block(19, A);
    bench.wrong(Rule::BlockMalformed);
}

#[test]
fn a_block_of_frames_that_are_not_aligned() {
    let mut bench = Bench::new();
    bench.put_block(16, A + 0x1000);
    bench.wrong(Rule::BlockMalformed);
}

#[test]
fn accessed_and_dirty_may_differ_within_a_block() {
    let mut bench = Bench::new();
    for i in 0..16 {
        let entry = page(A + 0x1000 * i).with_contiguous(true);
        bench.put(
            16 + i,
            if i % 3 == 0 {
                entry
            } else {
                entry.mkold().mkclean()
            },
        );
    }
    bench.right();
}

#[test]
fn a_narrow_flush_leaves_the_rest_of_a_block() {
    let mut bench = Bench::new();
    bench.put_block(16, A);
    take(&mut bench, 16);
    bench.flush(16..17);
    bench.release(A + 0x5000);
    bench.wrong(Rule::ReleasedWhileCached);
}

/// The leaf table goes; a block of 2 MiB stands in its place.
fn collapse(bench: &mut Bench, flush: bool) {
    bench.put(0, page(A));
    bench.store(MIDDLE, Level::L2, Pte::NONE);
    if flush {
        bench.flush_of(0..512, Level::L2, true);
    }
    bench.store(MIDDLE, Level::L2, block(A));
}

#[test]
fn a_collapsed_table() {
    let mut bench = Bench::new();
    collapse(&mut bench, true);
    bench.right();
    let mut bench = Bench::new();
    collapse(&mut bench, false);
    bench.flush_of(0..512, Level::L2, true);
    bench.wrong(Rule::MadeOverCached);
}

#[test]
fn a_split_block() {
    let split = |flush: bool| {
        let mut bench = Bench::new();
        collapse(&mut bench, true);
        bench.construct(SPARE, Level::L3);
        if flush {
            bench.store(MIDDLE, Level::L2, Pte::NONE);
            bench.flush_of(0..512, Level::L2, false);
        }
        bench.table(MIDDLE, Level::L2, SPARE);
        bench.flush_of(0..512, Level::L2, true);
        bench
    };
    split(true).right();
    split(false).wrong(Rule::MakeWithoutBreak);
}

#[test]
fn leaves_of_a_table_that_was_taken_out_are_cached_too() {
    let mut bench = Bench::new();
    bench.put(7, page(A));
    bench.store(MIDDLE, Level::L2, Pte::NONE);
    assert_eq!(bench.mmu.translations(1, 7 << 12)[0].pa, A);
    // Only last-level translations go, and the walk cache brings them back.
    bench.flush_of(0..512, Level::L3, false);
    assert_eq!(bench.mmu.translations(1, 7 << 12)[0].pa, A);
    bench.flush_of(7..8, Level::L3, true);
    assert_eq!(bench.mmu.translations(1, 7 << 12), []);
    let at = arm64::addr::PhysAddr::new(LEAVES + 8 * 7);
    assert_eq!(bench.mmu.shadow(at), Some(page(A)));
    bench.right();
}
