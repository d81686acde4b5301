//! The page-table engine, over the 512 entries of one leaf table unless a row says otherwise.

use arm64::addr::{VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Geometry;
use frame::{TableFrame, UserFrame};
use pgtable::{Graveyard, Invalidation, Machine, PageTable, Torn, User, Walked, tlb};

use super::{Cost, Failure, measure, row};
use crate::arch::mmu::{HW, Hw};
use crate::memory::frames;

const VA: u64 = 0x12_3440_0000;
const PAGE: u64 = 4096;
const ENTRIES: u64 = 512;
/// A number that no process has.
const SPACE: u32 = 0xbe7c;
const ASID: u16 = 0;

type Table = PageTable<User, Hw>;

pub(super) fn run() -> Result<(), Failure> {
    let mut frames = [const { None }; ENTRIES as usize];
    for frame in &mut frames {
        let fresh = crate::memory::frames().alloc_fresh(0, true);
        *frame = Some(fresh.map_err(|_| "no frame")?.into_user());
    }
    single_pages(&mut frames)?;
    tables()?;
    spaces()
}

fn table() -> Result<Table, Failure> {
    Table::new(&HW, SPACE, Geometry::for_va_bits(39)).map_err(|_| "no space")
}

fn range() -> VaRange {
    match VaRange::new(VirtAddr::new(VA), VirtAddr::new(VA + ENTRIES * PAGE)) {
        Some(range) => range,
        None => panic!("the range of the benchmark is not one"),
    }
}

/// Map, walk, protect and unmap single pages.
fn single_pages(frames: &mut [Option<UserFrame>; ENTRIES as usize]) -> Result<(), Failure> {
    let mut table = table()?;
    // The way to the leaf table is made before, and its lines are warm in nobody's cache anyway.
    let (mapped, cost) = {
        let stay = ();
        drop(
            table
                .lock_leaf(VA, &HW.read_side(&stay))
                .map_err(|_| "no table")?,
        );
        measure(|| map(&table, frames))
    };
    mapped?;
    row("map", "entry", ENTRIES, cost);
    let (seen, cost) = measure(|| walk(&table));
    if seen != ENTRIES {
        return Err("not all pages are seen");
    }
    row("walk_lockless", "entry", ENTRIES, cost);
    let (changed, cost) = measure(|| protect(&table));
    changed?;
    row("protect", "entry", ENTRIES, cost);
    let graves = Graveyard::new();
    let (_, cost) = measure(|| unmap(&table, &graves));
    row("unmap", "entry", ENTRIES, cost);
    end(&mut table, &graves);
    reap(&graves)
}

fn map(table: &Table, frames: &mut [Option<UserFrame>]) -> Result<(), Failure> {
    let stay = ();
    let section = HW.read_side(&stay);
    let leaf = table.lock_leaf(VA, &section).map_err(|_| "no table")?;
    let attrs = Attrs::user(Prot::RW);
    let mut va = VA;
    for frame in frames {
        let frame = frame.take().ok_or("a frame is used twice")?;
        leaf.install(va, frame, attrs).map_err(|_| "occupied")?;
        va += PAGE;
    }
    Ok(())
}

fn walk(table: &Table) -> u64 {
    let stay = ();
    let section = HW.read_side(&stay);
    let pages = (0..ENTRIES).map(|page| table.walk(VA + page * PAGE, &section));
    pages
        .filter(|walked| matches!(walked, Walked::Seen { .. }))
        .count() as u64
}

fn protect(table: &Table) -> Result<(), Failure> {
    let stay = ();
    let section = HW.read_side(&stay);
    let leaf = table.lock_leaf(VA, &section).map_err(|_| "no table")?;
    let changed = leaf.protect(VA, VA + ENTRIES * PAGE, Prot::READ);
    drop(leaf);
    let _flushed = tlb::flush(&HW, Invalidation::Asid(ASID));
    changed.then_some(()).ok_or("nothing was protected")
}

fn unmap(table: &Table, graves: &Graveyard) {
    let stay = ();
    let section = HW.read_side(&stay);
    let (range, mut torn) = (range(), Torn::new());
    let mut at = range.start().raw();
    while at < range.end().raw() {
        let rest = match VaRange::new(VirtAddr::new(at), range.end()) {
            Some(rest) => rest,
            None => break,
        };
        at = table.zap(rest, &mut torn, &section);
        let flushed = tlb::flush(&HW, Invalidation::Asid(ASID));
        torn.release(frames(), graves, &flushed);
    }
}

fn end(table: &mut Table, graves: &Graveyard) {
    let mut torn = Torn::new();
    table.retire(&mut torn);
    let flushed = tlb::flush(&HW, Invalidation::Asid(ASID));
    torn.release(frames(), graves, &flushed);
}

/// Waits for the grace periods of what is buried: this is the only CPU.
fn reap(graves: &Graveyard) -> Result<(), Failure> {
    for _ in 0..16 {
        graves.reap(&HW, usize::MAX);
        if graves.is_empty() {
            return Ok(());
        }
        HW.grace().quiescent(sync::cpu_index());
    }
    Err("a grace period does not end")
}

/// A table page, beside clearing one.
fn tables() -> Result<(), Failure> {
    let mut zero = Cost::default();
    let mut fresh = frames().alloc_fresh(0, false).map_err(|_| "no frame")?;
    let mut made = Cost::default();
    for _ in 0..ENTRIES {
        zero.add(measure(|| fresh.zero_page(0)).1);
        let (table, cost) = measure(|| frames().alloc_table());
        made.add(cost);
        let table: TableFrame = table.map_err(|_| "no table")?;
        frames().free_table(table);
    }
    row("zero_page", "page", ENTRIES, zero);
    row("table_alloc", "table", ENTRIES, made);
    Ok(())
}

/// An empty space, from nothing to nothing.
fn spaces() -> Result<(), Failure> {
    const ROUNDS: u64 = 64;
    let mut cost = Cost::default();
    for _ in 0..ROUNDS {
        let graves = Graveyard::new();
        let (done, once) = measure(|| {
            let mut table = table()?;
            end(&mut table, &graves);
            Ok::<_, Failure>(())
        });
        done?;
        cost.add(once);
        let (done, freed) = measure(|| reap(&graves));
        done?;
        cost.add(freed);
    }
    row("space_create_destroy", "space", ROUNDS, cost);
    Ok(())
}
