//! The life of table pages.

use arm64::addr::PhysAddr;
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::Level;
use arm64::pte::{Format, Pte};
use model::Rule;
use pgtable::{Invalidation, SpaceKind};

use crate::bench::{Bench, LEAVES, MIDDLE, ROOT, SPARE, describe, page};

const A: u64 = 0x20_0000;

fn quiesce(bench: &mut Bench) {
    (0..2).for_each(|cpu| bench.mmu.quiescent(cpu));
}

#[test]
fn detach_flush_grace_destruct() {
    let mut bench = Bench::new();
    bench.store(MIDDLE, Level::L2, Pte::NONE);
    bench.flush_of(0..1, Level::L3, true);
    quiesce(&mut bench);
    bench.destruct(LEAVES, Level::L3);
    bench.right();
}

#[test]
fn destruct_without_flush() {
    let mut bench = Bench::new();
    bench.store(MIDDLE, Level::L2, Pte::NONE);
    quiesce(&mut bench);
    bench.destruct(LEAVES, Level::L3);
    bench.wrong(Rule::TableStillWalked);
}

#[test]
fn a_flush_of_the_last_level_leaves_the_walk_cache() {
    let mut bench = Bench::new();
    bench.store(MIDDLE, Level::L2, Pte::NONE);
    bench.flush_of(0..512, Level::L3, false);
    bench.wrong(Rule::StaleAfterOperation);
}

#[test]
fn destruct_before_grace() {
    let mut bench = Bench::new();
    bench.store(MIDDLE, Level::L2, Pte::NONE);
    bench.flush_of(0..1, Level::L3, true);
    bench.mmu.quiescent(0);
    bench.destruct(LEAVES, Level::L3);
    bench.wrong(Rule::BeforeGrace);
}

#[test]
fn an_idle_cpu_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.mmu.set_in_kernel(1, false);
    bench.store(MIDDLE, Level::L2, Pte::NONE);
    bench.flush_of(0..1, Level::L3, true);
    bench.mmu.quiescent(0);
    bench.destruct(LEAVES, Level::L3);
    bench.right();
}

#[test]
fn destruct_while_linked_or_loaded() {
    let mut bench = Bench::new();
    bench.destruct(LEAVES, Level::L3);
    bench.wrong(Rule::TableStillLinked);
    let mut bench = Bench::new();
    bench.destruct(ROOT, Level::L1);
    bench.wrong(Rule::TableStillRoot);
}

#[test]
fn constructed_once_destructed_once_linked_once() {
    let mut bench = Bench::new();
    bench.construct(LEAVES, Level::L3);
    bench.wrong(Rule::TableLife);
    let mut bench = Bench::new();
    bench.destruct(SPARE, Level::L3);
    bench.wrong(Rule::TableLife);
    let mut bench = Bench::new();
    let table = Format::NORMAL.table(PhysAddr::new(SPARE));
    bench.store(MIDDLE + 8, Level::L2, table);
    bench.wrong(Rule::TableLife);
    let mut bench = Bench::new();
    let table = Format::NORMAL.table(PhysAddr::new(LEAVES));
    bench.store(MIDDLE + 8, Level::L2, table);
    bench.wrong(Rule::TableLife);
}

#[test]
fn a_frame_becomes_a_table_while_it_is_cached_as_memory() {
    let mut bench = Bench::new();
    bench.put(3, page(SPARE));
    bench.take(3);
    bench.construct(SPARE, Level::L3);
    bench.flush(3..4);
    bench.wrong(Rule::ReleasedWhileCached);
}

/// The kernel's tables, one entry of which is taken away, flushed and made.
fn repaint(pa: u64) -> Bench {
    const KERNEL: u64 = 0x40_0000;
    let mut bench = Bench::new();
    let desc = describe(KERNEL, Level::L3, 1, SpaceKind::Kernel);
    bench.mmu.constructed(&desc, |_| 0);
    bench.mmu.load_kernel(PhysAddr::new(KERNEL));
    let entry = |pa| {
        let attrs = Attrs::kernel(Prot::RW, MemType::Normal)
            .with_young(true)
            .with_dirty(true);
        Format::NORMAL.leaf(PhysAddr::new(pa), attrs, Level::L3)
    };
    bench.store(KERNEL, Level::L3, entry(A));
    bench.store(KERNEL, Level::L3, Pte::NONE);
    bench.mmu.before_invalidate();
    let start = !0 << 48;
    let end = start + 0x1000;
    bench.mmu.invalidate(&Invalidation::Kernel { start, end });
    bench.store(KERNEL, Level::L3, entry(pa));
    bench
}

#[test]
fn a_kernel_mapping_is_never_taken_away_to_be_made_again() {
    repaint(A + 0x1000).right();
    repaint(A).wrong(Rule::KernelRepainted);
}
