//! Single entries: break before make, flush before reuse, rights, exchanges.

use arm64::addr::{Pfn, PhysAddr};
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::Level;
use arm64::pte::{Format, Pte};
use model::Rule;
use pgtable::Invalidation;

use crate::bench::{ASID, Bench, LEAVES, entry, page, read_only};

const A: u64 = 0x20_0000;
const B: u64 = 0x30_0000;

#[test]
fn a_flushed_page_may_be_released() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.take(3);
    bench.flush(3..4);
    bench.release(A);
    bench.right();
}

#[test]
fn a_page_released_without_a_flush() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.take(3);
    bench.release(A);
    bench.flush(3..4);
    bench.wrong(Rule::ReleasedWhileCached);
}

#[test]
fn a_flush_begun_before_the_store_is_visible_ends_nothing() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.mmu.before_invalidate();
    bench.take(3);
    bench.mmu.invalidate(&Invalidation::Asid(ASID));
    bench.release(A);
    bench.wrong(Rule::ReleasedWhileCached);
}

#[test]
fn a_flush_of_another_identifier_or_place_ends_nothing() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.take(3);
    bench.mmu.before_invalidate();
    bench.mmu.invalidate(&Invalidation::Asid(ASID + 1));
    bench.flush(4..9);
    bench.wrong(Rule::StaleAfterOperation);
}

#[test]
fn a_wrong_level_hint_ends_nothing() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.take(3);
    bench.flush_of(3..4, Level::L2, false);
    bench.wrong(Rule::StaleAfterOperation);
}

#[test]
fn a_flush_of_walk_caches_needs_no_hint() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.take(3);
    bench.flush_of(3..4, Level::L2, true);
    bench.right();
}

#[test]
fn a_new_frame_after_break_and_flush() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.take(3);
    bench.flush(3..4);
    bench.put(3, page(B));
    bench.right();
}

#[test]
fn a_new_frame_over_a_live_entry() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.put(3, page(B));
    bench.flush(3..4);
    bench.wrong(Rule::MakeWithoutBreak);
}

#[test]
fn a_new_frame_after_a_break_without_flush() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.take(3);
    bench.put(3, page(B));
    bench.flush(3..4);
    bench.wrong(Rule::MadeOverCached);
}

#[test]
fn memory_types_but_for_tags_need_a_break() {
    let with = |mem| {
        let attrs = Attrs::user(Prot::RW).with_young(true).with_dirty(true);
        let attrs = attrs.with_mem(mem);
        Format::NORMAL.leaf(PhysAddr::new(A), attrs, Level::L3)
    };
    let mut bench = Bench::new();
    bench.put(3, with(MemType::Normal));
    bench.put(3, with(MemType::Tagged));
    bench.right();
    let mut bench = Bench::new();
    bench.put(3, with(MemType::Normal));
    bench.put(3, with(MemType::NonCacheable));
    bench.flush(3..4);
    bench.wrong(Rule::MakeWithoutBreak);
}

#[test]
fn taking_rights_away_needs_a_flush_and_giving_them_does_not() {
    let mut bench = Bench::new();
    bench.put(3, read_only(A));
    bench.put(3, page(A));
    bench.right();
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.put(3, read_only(A));
    bench.flush(3..4);
    bench.right();
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.put(3, read_only(A));
    bench.wrong(Rule::RightsAfterOperation);
}

#[test]
fn a_cpu_may_use_the_old_rights_until_the_flush() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.put(3, read_only(A));
    let writes = |bench: &Bench| {
        let found = bench.mmu.translations(1, 0x3008);
        let write = model::descriptor::right::WRITE;
        let found = found.iter().filter(|it| it.leaf.rights & write != 0);
        found.map(|it| (it.pa, it.stale)).collect::<Vec<_>>()
    };
    assert_eq!(writes(&bench), [(A + 8, true)]);
    bench.flush(3..4);
    assert_eq!(writes(&bench), []);
    bench.right();
}

#[test]
fn cleaning_a_dirty_page_needs_a_flush() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.put(3, page(A).mkclean());
    bench.wrong(Rule::RightsAfterOperation);
}

#[test]
fn access_flags_come_and_go_without_a_flush_and_the_page_counts_as_cached() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.put(3, page(A).mkold());
    bench.put(3, page(A));
    bench.put(3, page(A).mkold());
    bench.mmu.end_operation();
    bench.mmu.begin_operation();
    bench.take(3);
    bench.wrong(Rule::StaleAfterOperation);
}

#[test]
fn a_store_over_what_the_hardware_had_set() {
    let mut bench = Bench::new();
    let clean = page(A).mkclean();
    bench.put(3, clean);
    let at = PhysAddr::new(entry(LEAVES, 3));
    bench.mmu.stored(at, Level::L3, clean, page(A));
    // Software read `clean` before, and writes what follows from that.
    bench.mmu.stored(
        at,
        Level::L3,
        clean,
        clean.with_prot(Prot::READ | Prot::USER),
    );
    bench.flush(3..4);
    bench.wrong(Rule::LostUpdate);
}

#[test]
fn a_mark_on_a_writable_entry() {
    let mut bench = Bench::new();
    bench.put(3, read_only(A).with_uffd_wp(true));
    bench.right();
    let mut bench = Bench::new();
    bench.put(3, page(A).with_uffd_wp(true));
    bench.wrong(Rule::MarkWritable);
}

#[test]
fn an_inner_operation_does_not_answer_for_the_outer_one() {
    let mut bench = Bench::new();
    bench.put(3, page(A));
    bench.put(4, page(B));
    bench.take(3);
    bench.mmu.begin_operation();
    bench.take(4);
    bench.flush(4..5);
    bench.release(B);
    bench.mmu.end_operation();
    bench.flush(3..4);
    bench.release(A);
    bench.right();
}

#[test]
fn nothing_is_cached_of_a_space_that_is_loaded_nowhere() {
    let mut bench = Bench::new();
    for cpu in 0..2 {
        bench.mmu.step(cpu, pgtable::activation::Step::ReservedRoot);
        bench.mmu.step(cpu, pgtable::activation::Step::Isb);
        bench.mmu.step(cpu, pgtable::activation::Step::FlushAll);
        bench.mmu.step(cpu, pgtable::activation::Step::DsbNsh);
    }
    bench.put(3, page(A));
    bench.put(3, Pte::NONE);
    bench.mmu.released(Pfn::new(A >> 12));
    bench.right();
}
