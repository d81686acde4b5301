//! Protected page tables: stores past the window fault, whatever the table; the window is open
//! while it is open and no longer.
//!
//! Booted with `tessera.protect_pgtables=off` the same tests say that nothing is stopped then.

use alloc::vec::Vec;

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::Prot;
use frame::{Class, TableFrame};
use mm::{Access, FaultOutcome};
use pgtable::{Gather, Kind, Machine, PageTable};

use super::loaded::{Loaded, PAGE, wait_for_graves};
use super::user_space::VA;
use super::{Outcome, check};
use crate::arch::activate;
use crate::arch::mmu::{Hw, hw};
use crate::arch::probe::{As, Store, translate, try_store};
use crate::arch::table_window;
use crate::memory::{self, frames, init_mm, protect};

const DIRECT_MAP: u64 = 0xffff_0000_0000_0000;
const CHUNK_FRAMES: u64 = 512;

fn is_on() -> bool {
    protect::window().is_some()
}

/// Stores to the page at `pa` through the direct map; whether that is stopped is what protection
/// says. The handler of the fault ran with the reserved root.
fn stray(pa: PhysAddr) -> Outcome {
    match try_store(DIRECT_MAP + pa.raw()) {
        Store::Done => check(!is_on(), "a live table can be written", pa.raw()),
        Store::Faulted { ttbr0 } => {
            check(
                is_on(),
                "tables are protected though they are not",
                pa.raw(),
            )?;
            check(
                ttbr0 == activate::reserved_ttbr0(),
                "TTBR0 in a handler",
                ttbr0,
            )
        }
    }
}

fn strays<K: Kind>(space: &PageTable<K, Hw>) -> Result<u64, super::Failure> {
    let stay = ();
    let (mut count, mut outcome) = (0, Ok(()));
    space.each_table(&hw().read_side(&stay), |_, pa| {
        count += 1;
        if outcome.is_ok() {
            outcome = stray(pa);
        }
    });
    outcome.map(|()| count)
}

pub(super) fn no_live_table_can_be_written_past_the_window() -> Outcome {
    let user = Loaded::new()?;
    for far in 0..4 {
        let at = VA + (far << 30);
        user.map(at, PAGE, Prot::RW)?;
        check(
            user.fault(at, Access::Write) == FaultOutcome::Done,
            "the fault was refused",
            at,
        )?;
    }
    let mut found = strays(init_mm())? + strays(user.0.table())?;
    for special in memory::special_spaces() {
        found += strays(special)?;
    }
    let live = hw().stats().live();
    check(found == live, "tables found differ from live ones", live)
}

pub(super) fn other_memory_is_written_as_ever() -> Outcome {
    let Ok(frame) = frames().alloc_kernel(0, Class::Kernel) else {
        return check(false, "no frame", 0);
    };
    let va = DIRECT_MAP + frame.pfn().start().raw();
    check(try_store(va) == Store::Done, "memory cannot be written", va)
}

pub(super) fn the_window_shows_tables_while_it_is_open() -> Outcome {
    let user = Loaded::new()?;
    user.map(VA, PAGE, Prot::RW)?;
    user.fault(VA, Access::Write);
    let table = init_mm().root_word().root();
    let free = frames().alloc_kernel(0, Class::Kernel);
    let free = free.map_or(0, |frame| frame.pfn().start().raw());
    let before = table_window::opened();
    let shown = |va: u64| translate(va, As::KernelRead).is_some();
    check(!shown(table.raw()), "open before it is opened", 0)?;
    if table_window::open() == 0 {
        table_window::close();
        check(!is_on(), "the window does not open", 0)?;
        return check(table_window::opened() == 0, "windows were opened", before);
    }
    let inside = (
        translate(table.raw(), As::KernelWrite) == Some(table),
        try_store(table.raw()) == Store::Done,
        translate(table.raw(), As::UserRead).is_none(),
        !shown(VA) && !shown(free),
    );
    table_window::close();
    check(inside.0 && inside.1, "it does not show tables", table.raw())?;
    check(inside.2, "EL0 could read tables", table.raw())?;
    check(inside.3, "it shows other memory", VA)?;
    check(!shown(table.raw()), "open after it is closed", 0)?;
    check(
        translate(VA, As::UserRead).is_some(),
        "the user is gone",
        VA,
    )?;
    check(
        table_window::opened() == before + 1,
        "windows opened",
        before,
    )
}

pub(super) fn an_exception_closes_the_window() -> Outcome {
    let table = init_mm().root_word().root();
    if table_window::open() == 0 {
        return Ok(());
    }
    // Where nothing is mapped, and where a table is that cannot be written: the handler of either
    // fault runs with the reserved root. Afterwards this code goes on with its window.
    let faults = [try_store(0), try_store(DIRECT_MAP + table.raw())];
    let again = try_store(table.raw());
    table_window::close();
    for fault in faults {
        let expected = Store::Faulted {
            ttbr0: activate::reserved_ttbr0(),
        };
        check(fault == expected, "the window was open in a handler", 0)?;
    }
    check(again == Store::Done, "a probe does not go on as before", 0)
}

pub(super) fn changes_close_their_windows() -> Outcome {
    let before = table_window::opened();
    let user = Loaded::new()?;
    let table = init_mm().root_word().root();
    let closed = |what| {
        let open = table_window::is_open() || translate(table.raw(), As::KernelRead).is_some();
        check(!open, what, 0)
    };
    user.map(VA, PAGE, Prot::RW)?;
    closed("a map leaves the window open")?;
    user.fault(VA, Access::Write);
    closed("a fault leaves the window open")?;
    let opened = table_window::opened() - before;
    check((opened != 0) == is_on(), "windows opened", opened)?;
    drop(user);
    wait_for_graves()?;
    closed("a destructor leaves the window open")
}

/// XC-07: one window for all 512 entries of a table.
pub(super) fn a_table_of_changes_is_one_window() -> Outcome {
    const TABLE: u64 = 0x12_3440_0000;
    let user = Loaded::new()?;
    user.map(TABLE, 512 * PAGE, Prot::RW)?;
    for page in 0..512 {
        user.fault(TABLE + page * PAGE, Access::Write);
    }
    let range = VaRange::from_len(VirtAddr::new(TABLE), 512 * PAGE);
    let Some(range) = range else {
        return check(false, "no range", TABLE);
    };
    let stay = ();
    let section = hw().read_side(&stay);
    let before = table_window::opened();
    let mut gather = Gather::new();
    let table = user.0.table();
    table.protect(range, Prot::READ, &mut gather, &section);
    let opened = table_window::opened() - before;
    let changed = gather.needs_flush();
    let _nothing_to_release = gather.flush(table);
    check(changed, "nothing was changed", 0)?;
    check(
        opened == u64::from(is_on()),
        "windows for one table",
        opened,
    )
}

fn take_tables(count: u64) -> Result<Vec<TableFrame>, super::Failure> {
    let mut tables = Vec::new();
    for n in 0..count {
        match frames().alloc_table() {
            Ok(table) => tables.push(table),
            Err(_) => {
                give_back(tables);
                return check(false, "no memory for tables", n).map(|()| Vec::new());
            }
        }
    }
    Ok(tables)
}

fn give_back(tables: Vec<TableFrame>) {
    tables
        .into_iter()
        .for_each(|table| frames().free_table(table));
}

pub(super) fn chunks_come_and_go_with_their_protection() -> Outcome {
    if !is_on() {
        return check(frames().chunks() == 0, "chunks without protection", 0);
    }
    let before = frames().stats();
    let chunks = frames().chunks();
    let tables = take_tables(before.of(Class::Spare) + CHUNK_FRAMES + 1)?;
    let last = tables.last().map_or(PhysAddr::new(0), TableFrame::address);
    let grown = frames().chunks() - chunks;
    let sealed = tables.iter().try_for_each(|table| stray(table.address()));
    give_back(tables);
    sealed?;
    check(grown == 2, "chunks for one table more than a chunk", grown)?;
    check(frames().chunks() <= chunks + 1, "chunks stay", chunks)?;
    let after = frames().stats();
    check(
        after.unused() == before.unused(),
        "frames were lost",
        after.unused(),
    )?;
    let freed = frames().meta(last.pfn()).map(frame::FrameMeta::class);
    check(
        freed == Some(Class::Free),
        "a chunk without a table",
        last.raw(),
    )?;
    let direct = DIRECT_MAP + last.raw();
    check(
        try_store(direct) == Store::Done,
        "a frame that was a table cannot be written",
        direct,
    )?;
    table_window::open();
    let shown = translate(last.raw(), As::KernelRead);
    table_window::close();
    check(
        shown.is_none(),
        "the window shows a freed chunk",
        last.raw(),
    )
}
