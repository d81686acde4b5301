//! Loading roots: identifiers, numbers of levels, growth.

use arm64::addr::PhysAddr;
use arm64::geometry::Level;
use model::Rule;
use pgtable::activation::{Activation, Step};
use pgtable::{Invalidation, SpaceKind};

use crate::bench::{ASID, Bench, ROOT, SPARE, T0SZ, describe, page};

const OTHER: u64 = 0x10_4000;
const T0SZ_OF_FOUR: u8 = 16;

/// A second space with its root at `OTHER`.
fn second(bench: &mut Bench) {
    let desc = describe(OTHER, Level::L1, 10, SpaceKind::User);
    bench.mmu.constructed(&desc, |_| 0);
}

/// A root above the old one.
fn grow(bench: &mut Bench) {
    bench.construct(SPARE, Level::L0);
    bench.table(SPARE, Level::L0, ROOT);
}

fn steps(bench: &mut Bench, steps: &[Step]) {
    steps.iter().for_each(|&step| bench.mmu.step(0, step));
}

fn root(root: u64, t0sz: u8) -> Step {
    Step::Root(Activation {
        root: PhysAddr::new(root),
        t0sz,
        asid: ASID,
    })
}

#[test]
fn an_identifier_goes_to_another_space_after_a_flush() {
    let mut bench = Bench::new();
    second(&mut bench);
    bench.activate(0, OTHER, T0SZ, ASID + 1);
    bench.mmu.step(1, Step::ReservedRoot);
    bench.mmu.step(1, Step::Isb);
    bench.mmu.invalidate(&Invalidation::Asid(ASID));
    bench.activate(0, OTHER, T0SZ, ASID);
    bench.right();
}

#[test]
fn an_identifier_goes_to_another_space_without_a_flush() {
    let mut bench = Bench::new();
    second(&mut bench);
    bench.activate(0, OTHER, T0SZ, ASID);
    bench.wrong(Rule::AsidReused);
}

#[test]
fn a_local_flush_counts_when_it_is_complete() {
    let flushed = |complete: bool| {
        let mut bench = Bench::new();
        second(&mut bench);
        bench.mmu.step(1, Step::ReservedRoot);
        bench.mmu.step(1, Step::Isb);
        steps(&mut bench, &[Step::ReservedRoot, Step::Isb, Step::FlushAll]);
        if complete {
            bench.mmu.step(0, Step::DsbNsh);
        }
        bench.activate(0, OTHER, T0SZ, ASID);
        bench
    };
    flushed(true).right();
    flushed(false).wrong(Rule::AsidReused);
}

#[test]
fn one_identifier_for_two_spaces_at_once() {
    let mut bench = Bench::new();
    second(&mut bench);
    let reload = [Step::ReservedRoot, Step::Isb, Step::FlushAll, Step::DsbNsh];
    steps(&mut bench, &reload);
    steps(&mut bench, &[root(OTHER, T0SZ), Step::Isb]);
    bench.wrong(Rule::AsidShared);
}

#[test]
fn a_grown_root_comes_with_a_flush() {
    let mut bench = Bench::new();
    grow(&mut bench);
    let all = [
        Step::ReservedRoot,
        Step::Isb,
        Step::Tcr(T0SZ_OF_FOUR),
        Step::Isb,
        Step::FlushAsid(ASID),
        Step::DsbNsh,
        Step::Isb,
        root(SPARE, T0SZ_OF_FOUR),
        Step::Isb,
    ];
    steps(&mut bench, &all);
    bench.right();
}

#[test]
fn a_grown_root_without_a_flush() {
    let mut bench = Bench::new();
    grow(&mut bench);
    bench.activate(0, SPARE, T0SZ_OF_FOUR, ASID);
    bench.wrong(Rule::GrownWithoutFlush);
}

#[test]
fn t0sz_under_a_loaded_root() {
    let mut bench = Bench::new();
    grow(&mut bench);
    let all = [
        Step::Tcr(T0SZ_OF_FOUR),
        Step::Isb,
        Step::FlushAsid(ASID),
        Step::DsbNsh,
        root(SPARE, T0SZ_OF_FOUR),
    ];
    steps(&mut bench, &all);
    bench.wrong(Rule::SizeUnderRoot);
}

#[test]
fn t0sz_before_the_isb_after_the_reserved_root() {
    let mut bench = Bench::new();
    steps(&mut bench, &[Step::ReservedRoot, Step::Tcr(T0SZ_OF_FOUR)]);
    bench.wrong(Rule::SizeUnderRoot);
}

#[test]
fn a_root_before_the_isb_after_t0sz() {
    let mut bench = Bench::new();
    grow(&mut bench);
    let all = [
        Step::ReservedRoot,
        Step::Isb,
        Step::FlushAsid(ASID),
        Step::DsbNsh,
        Step::Tcr(T0SZ_OF_FOUR),
        root(SPARE, T0SZ_OF_FOUR),
    ];
    steps(&mut bench, &all);
    bench.wrong(Rule::SizeUnderRoot);
}

#[test]
fn a_root_of_another_number_of_levels() {
    let mut bench = Bench::new();
    second(&mut bench);
    bench.activate(0, OTHER, T0SZ_OF_FOUR, ASID + 1);
    bench.wrong(Rule::SizeMismatch);
}

#[test]
fn a_former_root_is_freed_while_a_cpu_has_it_loaded() {
    let mut bench = Bench::new();
    grow(&mut bench);
    bench.store(SPARE, Level::L0, arm64::pte::Pte::NONE);
    bench.flush_of(0..1, Level::L3, true);
    (0..2).for_each(|cpu| bench.mmu.quiescent(cpu));
    bench.destruct(ROOT, Level::L1);
    bench.wrong(Rule::TableStillRoot);
}

#[test]
fn an_older_identifier_comes_back_without_a_flush() {
    let mut bench = Bench::new();
    bench.put(3, page(0x20_0000));
    for cpu in 0..2 {
        bench.activate(cpu, ROOT, T0SZ, ASID + 1);
    }
    bench.take(3);
    bench.mmu.before_invalidate();
    bench.mmu.invalidate(&Invalidation::Asid(ASID + 1));
    bench.release(0x20_0000);
    bench.activate(0, ROOT, T0SZ, ASID);
    bench.wrong(Rule::AsidReused);
}
