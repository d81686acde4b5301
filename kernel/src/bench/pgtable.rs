//! The page-table engine over the 512 entries of one leaf table, and its larger operations.

mod tables;

use arm64::addr::{VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Geometry;
use frame::{FramePins, UserFrame};
use pgtable::{Gather, Graveyard, Machine, PageTable, User, Visit, Walked, Zap};

use super::{Cost, Failure, measure, row};
use crate::arch::mmu::{Hw, hw};
use crate::memory::frames;

/// 2 MiB aligned: the range of one leaf table.
const VA: u64 = 0x12_3440_0000;
const PAGE: u64 = 4096;
const ENTRIES: u64 = 512;
/// A number that no process has.
const SPACE: u32 = 0xbe7c;
/// Pages of a contiguous block, and the order of a folio of so many.
const BLOCK: u64 = 16;
const BLOCK_ORDER: u8 = 4;

type Table = PageTable<User, Hw>;

pub(super) fn run() -> Result<(), Failure> {
    single_pages()?;
    folded_blocks()?;
    windows()?;
    conversions()?;
    tables::run()
}

fn table() -> Result<Table, Failure> {
    Table::new(hw(), SPACE, Geometry::for_va_bits(39)).map_err(|_| "no space")
}

/// A space with an empty leaf table at [`VA`].
fn table_with_leaf() -> Result<Table, Failure> {
    let table = table()?;
    let stay = ();
    let section = hw().read_side(&stay);
    let locked = table.lock_leaf(VA, &section, || true);
    drop(locked.map_err(|_| "no table")?);
    Ok(table)
}

/// `pages` pages from [`VA`] on.
fn range(pages: u64) -> Result<VaRange, Failure> {
    let (start, end) = (VirtAddr::new(VA), VirtAddr::new(VA + pages * PAGE));
    VaRange::new(start, end).ok_or("no range")
}

/// Map, walk, protect, age and unmap pages that do not fit together.
fn single_pages() -> Result<(), Failure> {
    let mut pages = [const { None }; ENTRIES as usize];
    for page in &mut pages {
        let fresh = frames().alloc_fresh(0, false).map_err(|_| "no frame")?;
        *page = Some(fresh.into_user());
    }
    let mut table = table_with_leaf()?;
    let (mapped, cost) = measure(|| map_pages(&table, &mut pages));
    mapped?;
    row("map", "entry", ENTRIES, cost);
    seen("walk_lockless", &table, PAGE)?;
    change("protect", &table)?;
    age("clear_young", &table)?;
    unmap("unmap", &mut table)
}

/// The same with pages in folded blocks of 64 KiB.
fn folded_blocks() -> Result<(), Failure> {
    let mut folios = [const { None }; (ENTRIES / BLOCK) as usize];
    for folio in &mut folios {
        *folio = Some(new_folio()?);
    }
    let mut table = table_with_leaf()?;
    let (mapped, cost) = measure(|| map_folios(&table, &mut folios));
    mapped?;
    row("map_folded", "page", ENTRIES, cost);
    seen("walk_lockless_folded", &table, BLOCK * PAGE)?;
    change("protect_folded", &table)?;
    age("clear_young_folded", &table)?;
    touch_one_of_each_block(&table)?;
    age("clear_young_folded_one", &table)?;
    idle("clear_young_folded_idle", &table)?;
    unmap("unmap_folded", &mut table)
}

/// Fault-around: windows of 64 KiB of resident folios, a call for each.
fn windows() -> Result<(), Failure> {
    let mut pages = [const { None }; ENTRIES as usize];
    for window in pages.chunks_exact_mut(BLOCK as usize) {
        let folio = new_folio()?;
        for (page, number) in window.iter_mut().zip(0..) {
            *page = Some(folio.page(number));
        }
    }
    let mut table = table_with_leaf()?;
    let (mapped, cost) = measure(|| map_around(&table, &mut pages));
    row("map_around", "page", ENTRIES, cost);
    (mapped == ENTRIES as usize)
        .then_some(())
        .ok_or("a page is missing")?;
    let graves = Graveyard::new();
    zap(&table, ENTRIES, &graves)?;
    end(&mut table, &graves)
}

fn map_around(table: &Table, pages: &mut [Option<UserFrame>]) -> usize {
    let stay = ();
    let section = hw().read_side(&stay);
    let Some(leaf) = table.lock_existing(VA, &section) else {
        return 0;
    };
    let (mut at, mut mapped) = (VA, 0);
    for window in pages.chunks_exact_mut(BLOCK as usize) {
        let to = at + BLOCK * PAGE;
        let find = |_, _, pins: &mut FramePins| {
            let all = window.iter_mut().enumerate();
            all.for_each(|(place, page)| pins.put(place, page.take().expect("a page for each")));
        };
        mapped += leaf.install_around((at, to), attrs(), at, find).mapped;
        at = to;
    }
    mapped
}

fn new_folio() -> Result<UserFrame, Failure> {
    let fresh = frames().alloc_fresh(BLOCK_ORDER, false);
    Ok(fresh.map_err(|_| "no folio")?.into_user())
}

/// Of a page that has been written.
fn attrs() -> Attrs {
    Attrs {
        young: true,
        dirty: true,
        ..Attrs::user(Prot::RW)
    }
}

fn map_pages(table: &Table, pages: &mut [Option<UserFrame>]) -> Result<(), Failure> {
    let stay = ();
    let section = hw().read_side(&stay);
    let leaf = table.lock_leaf(VA, &section, || true);
    let leaf = leaf.map_err(|_| "no table")?;
    let mut rest = pages.iter_mut();
    let mapped = leaf.install_pages(VA, attrs(), || rest.next()?.take());
    (mapped as u64 == ENTRIES).then_some(()).ok_or("occupied")
}

fn map_folios(table: &Table, folios: &mut [Option<UserFrame>]) -> Result<(), Failure> {
    let stay = ();
    let section = hw().read_side(&stay);
    let leaf = table.lock_leaf(VA, &section, || true);
    let leaf = leaf.map_err(|_| "no table")?;
    let (wanted, mut rest) = (folios.len(), folios.iter_mut());
    let mapped = leaf.install_folios(VA, BLOCK as usize, attrs(), || rest.next()?.take());
    (mapped == wanted).then_some(()).ok_or("occupied")
}

/// A walk of all entries, each of which translates `span` bytes.
fn seen(name: &str, table: &Table, span: u64) -> Result<(), Failure> {
    let stay = ();
    let section = hw().read_side(&stay);
    let (count, cost) = measure(|| {
        let mut count = 0;
        table.walk_range(VA, VA + ENTRIES * PAGE, &section, |_, walked| {
            count += u64::from(matches!(walked, Walked::Seen { span: s, .. } if s == span));
        });
        count
    });
    row(name, "entry", ENTRIES, cost);
    (count == ENTRIES)
        .then_some(())
        .ok_or("a walk has not seen what it should")
}

/// Takes the right to write from all pages, and flushes.
fn change(name: &str, table: &Table) -> Result<(), Failure> {
    let stay = ();
    let section = hw().read_side(&stay);
    let whole = range(ENTRIES)?;
    let (changed, cost) = measure(|| {
        let mut gather = Gather::new();
        table.protect(whole, Prot::READ, &mut gather, &section);
        let changed = gather.needs_flush();
        let _nothing_to_release = gather.flush(table);
        changed
    });
    row(name, "entry", ENTRIES, cost);
    changed.then_some(()).ok_or("nothing was protected")
}

/// Clears the accessed flag of all pages, and does not flush: reclaim does not either.
fn age(name: &str, table: &Table) -> Result<(), Failure> {
    let stay = ();
    let section = hw().read_side(&stay);
    let whole = range(ENTRIES)?;
    let mut gather = Gather::new();
    let (young, cost) = measure(|| match table.cursor(whole, &section).visit() {
        Some(Visit::Table(leaf)) => leaf.clear_young(&mut gather),
        _ => false,
    });
    row(name, "entry", ENTRIES, cost);
    let _nothing_to_release = gather.flush(table);
    young.then_some(()).ok_or("nothing was young")
}

/// Makes one page of each block young, as the hardware does.
fn touch_one_of_each_block(table: &Table) -> Result<(), Failure> {
    crate::arch::activate::activate(crate::arch::activate::RootActivation::new(
        table.root_word(),
        table.asid_cell(),
    ));
    for block in 0..ENTRIES / BLOCK {
        crate::arch::probe::load_as_user(VA + block * BLOCK * PAGE + 5 * PAGE);
    }
    crate::arch::activate::deactivate();
    Ok(())
}

/// As [`age`], with nothing to find.
fn idle(name: &str, table: &Table) -> Result<(), Failure> {
    let stay = ();
    let section = hw().read_side(&stay);
    let (whole, mut gather) = (range(ENTRIES)?, Gather::new());
    let (young, cost) = measure(|| match table.cursor(whole, &section).visit() {
        Some(Visit::Table(leaf)) => leaf.clear_young(&mut gather),
        _ => true,
    });
    row(name, "page", ENTRIES, cost);
    (!young).then_some(()).ok_or("something was young")
}

/// Takes everything out and flushes in batches; what giving the frames back costs is told apart.
fn unmap(name: &str, table: &mut Table) -> Result<(), Failure> {
    let graves = Graveyard::new();
    let [taken, freed] = zap(table, ENTRIES, &graves)?;
    row(name, "entry", ENTRIES, taken);
    row(
        match name {
            "unmap" => "release",
            _ => "release_folded",
        },
        "page",
        ENTRIES,
        freed,
    );
    end(table, &graves)
}

/// Takes out `pages` pages from [`VA`] on: what taking out and flushing cost, and what giving back.
fn zap(table: &Table, pages: u64, graves: &Graveyard) -> Result<[Cost; 2], Failure> {
    let stay = ();
    let section = hw().read_side(&stay);
    let (whole, mut gather) = (range(pages)?, Gather::new());
    let (mut taken, mut freed) = (Cost::default(), Cost::default());
    let mut at = whole.start();
    while at != whole.end() {
        let rest = VaRange::new(at, whole.end()).ok_or("no range")?;
        let ((next, flushed), cost) = measure(|| {
            let next = table.zap(rest, Zap::REGION_GONE, &mut gather, &section);
            (next, gather.flush(table))
        });
        taken.add(cost);
        let ((), cost) = measure(|| gather.release(hw(), graves, &flushed));
        freed.add(cost);
        at = VirtAddr::new(next);
    }
    Ok([taken, freed])
}

/// Ends a space, and waits for its grace periods: this is the only CPU.
fn end(table: &mut Table, graves: &Graveyard) -> Result<(), Failure> {
    let mut gather = Gather::new();
    table.retire(&mut gather);
    let flushed = gather.flush(table);
    gather.release(hw(), graves, &flushed);
    for _ in 0..16 {
        graves.reap(hw(), usize::MAX);
        if graves.is_empty() {
            return Ok(());
        }
        hw().grace().quiescent(sync::cpu_index());
    }
    Err("a grace period does not end")
}

/// The last page of a folded block becomes different, and the same again.
fn conversions() -> Result<(), Failure> {
    const ROUNDS: u64 = 64;
    let mut table = table_with_leaf()?;
    map_folios(&table, &mut [Some(new_folio()?)])?;
    let last = VA + (BLOCK - 1) * PAGE;
    let last = VaRange::new(VirtAddr::new(last), VirtAddr::new(last + PAGE));
    let last = last.ok_or("no range")?;
    let (mut apart, mut together) = (Cost::default(), Cost::default());
    for _ in 0..ROUNDS {
        apart.add(protect_one(&table, last, Prot::READ, PAGE)?);
        together.add(protect_one(&table, last, Prot::RW, BLOCK * PAGE)?);
    }
    row("unfold", "block", ROUNDS, apart);
    row("fold", "block", ROUNDS, together);
    let graves = Graveyard::new();
    zap(&table, ENTRIES, &graves)?;
    end(&mut table, &graves)
}

/// Changes one page; afterwards it translates `span` bytes.
fn protect_one(table: &Table, page: VaRange, prot: Prot, span: u64) -> Result<Cost, Failure> {
    let stay = ();
    let section = hw().read_side(&stay);
    let mut gather = Gather::new();
    let (_, cost) = measure(|| table.protect(page, prot, &mut gather, &section));
    let _nothing_to_release = gather.flush(table);
    match table.walk(page.start().raw(), &section) {
        Walked::Seen { span: seen, .. } if seen == span => Ok(cost),
        _ => Err("a block was not converted"),
    }
}
