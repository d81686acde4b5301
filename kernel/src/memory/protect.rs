//! Protected page tables (D16, CTOR-17): the direct map is read-only over chunks of tables, and
//! stores to tables go through a window that is opened for a batch of them.
//!
//! The chunk that boot made its tables in is the first; the window's own tables lie in chunks too.
//! They are all made at boot, down to the level of blocks and for all memory that there may be, so
//! that a new chunk costs two stores through the window: one shows the chunk there, one takes the
//! right to write it in the direct map away. Nothing has to be allocated for that.

use core::fmt;

use arm64::addr::{Pfn, PhysAddr};
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::{Geometry, Level};
use frame::{ChunkError, Class, TableChunks, TableState};
use pgtable::{Machine, PageTable, Special, TableDesc, TableError, Walked};
use sync::planted::{self, Fault};
use sync::{Once, SpinLock, rank};

use super::{WINDOW_ID, boot, frames, init_mm};
use crate::arch::mmu::{self, Hw, hw};
use crate::arch::probe;
use crate::arch::table_window::{self, WINDOW_ASID};
use crate::early::{BootInfo, List};

/// A chunk is what one block of the direct map shows.
const CHUNK: Level = Level::L2;
const CHUNK_ORDER: u8 = 9;
/// The window shows memory below this at its own address: all numbers of levels reach so far.
const WINDOW_END: u64 = 1 << 39;
/// Chunks that can be there before the window is.
const EARLY: usize = 4;

static WINDOW: Once<PageTable<Special, Hw>> = Once::new();
/// First addresses of the chunks that were there before the window.
static BEFORE: SpinLock<Option<List<u64, EARLY>>, rank::Leaf> = SpinLock::new(None);

const RULES: TableChunks = TableChunks {
    order: CHUNK_ORDER,
    begin,
    end,
    zero_page: table_window::zero_page,
};

/// Protects the tables of the machine, boot's included, from here on.
///
/// # Panics
/// If that cannot be done: memory is too short for the window's tables, or what boot made is not
/// what it should be.
pub(super) fn start(info: &BootInfo) {
    if let Err(error) = try_start(info) {
        panic!("page tables could not be protected: {error:?}");
    }
}

/// Why tables could not be protected.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "read by its Debug, in the panic that ends the machine"
)]
enum StartError {
    Chunk(ChunkError),
    Table(TableError),
}

fn try_start(info: &BootInfo) -> Result<(), StartError> {
    *BEFORE.lock() = Some(List::new());
    frames().set_aside_tables(RULES);
    boot::adopt_chunk(info.boot_tables).map_err(StartError::Chunk)?;
    let window = WINDOW.try_call_once(|| make_window(info));
    let window = window.map_err(StartError::Table)?;
    let chunks = BEFORE.lock().take().unwrap_or_default();
    let all = |act: &dyn Fn(u64) -> Result<(), TableError>| {
        let done = chunks.iter().try_for_each(|&chunk| act(chunk));
        done.map_err(StartError::Table)
    };
    all(&|chunk| show(window, chunk))?;
    let levels = 3..=window.root_word().levels();
    table_window::install(levels.filter_map(|levels| window.root_with_levels(levels)));
    all(&seal)
}

/// The window over nothing yet, with every table that it will ever need.
fn make_window(info: &BootInfo) -> Result<PageTable<Special, Hw>, TableError> {
    let levels = if hw().format().lpa2 { 5 } else { 4 };
    let geometry = Geometry::for_levels(levels).ok_or(TableError::BadRange)?;
    let mut window = PageTable::new(hw(), WINDOW_ID, geometry)?;
    let step = Level::L1.size();
    for bank in info.banks.iter().chain(&info.held) {
        let end = bank.end.min(WINDOW_END);
        let first = bank.start & !(step - 1);
        for va in (first..end).step_by(step as usize) {
            window.prepare(va, CHUNK)?;
        }
    }
    Ok(window)
}

/// Shows the chunk at `chunk` in the window: EL1's alone, not executable, young and dirty.
fn show(window: &PageTable<Special, Hw>, chunk: u64) -> Result<(), TableError> {
    let attrs = Attrs::kernel(Prot::RW, MemType::Normal).with_global(false);
    window.show(chunk, PhysAddr::new(chunk), attrs, CHUNK)
}

/// Takes the right to write the chunk away from the direct map.
fn seal(chunk: u64) -> Result<(), TableError> {
    if planted::is(Fault::LeaveTableWritable) {
        return Ok(());
    }
    init_mm().set_writable(boot::DIRECT_MAP + chunk, CHUNK, false)
}

/// A block is about to hold tables.
fn begin(first: Pfn) -> bool {
    let chunk = first.start().raw();
    if chunk >= WINDOW_END {
        log::warn!("memory at {chunk:#x} cannot hold tables: the window ends at {WINDOW_END:#x}");
        return false;
    }
    if let Some(early) = BEFORE.lock().as_mut() {
        return early.push(chunk).is_ok();
    }
    let Some(window) = WINDOW.get() else {
        return false;
    };
    table_window::outside(|| {
        let shown = show(window, chunk);
        let sealed = shown.and_then(|()| seal(chunk));
        if shown.is_ok() && sealed.is_err() {
            let _it_is_there = window.hide(chunk, CHUNK, WINDOW_ASID);
        }
        sealed.is_ok()
    })
}

/// A chunk has no table any more.
///
/// # Panics
/// If it is not mapped as `begin` has left it: somebody changed kernel mappings behind our back.
fn end(first: Pfn) {
    let chunk = first.start().raw();
    table_window::outside(|| {
        let window = WINDOW.get().ok_or(TableError::BadRange);
        let hidden = window.and_then(|window| window.hide(chunk, CHUNK, WINDOW_ASID));
        let opened = init_mm().set_writable(boot::DIRECT_MAP + chunk, CHUNK, true);
        assert!(
            hidden.is_ok() && opened.is_ok(),
            "the chunk of tables at {chunk:#x} was mapped in another way"
        );
    });
}

/// The window's space, if tables are protected.
pub fn window() -> Option<&'static PageTable<Special, Hw>> {
    WINDOW.get()
}

/// The live table that the direct map shows at `va`: its level and the number of its space.
/// For reports: takes no lock and does not panic.
pub fn live_table_at(va: u64) -> Option<(Level, u32)> {
    let pa = va.checked_sub(boot::DIRECT_MAP)?;
    if pa >= boot::DIRECT_MAP_LEN {
        return None;
    }
    let meta = mmu::frames_if_there()?.meta(PhysAddr::new(pa).pfn())?;
    let live = matches!(
        meta.table_state(),
        TableState::Constructed | TableState::Detached
    );
    if !meta.is(Class::Table) || !live {
        return None;
    }
    Some((meta.table_level()?, meta.owner()))
}

/// Whether the table page of `table` is as the constructor has to leave it.
pub(super) fn is_sealed(table: &TableDesc) -> bool {
    let stay = ();
    let direct = boot::DIRECT_MAP + table.pa.raw();
    match init_mm().walk(direct, &hw().read_side(&stay)) {
        Walked::Seen { value, .. } => !value.writable(),
        Walked::Miss { .. } => false,
    }
}

/// Stores to a live table as a stray pointer would: the machine ends with a report, unless tables
/// are not protected. The table keeps its content.
pub fn stray_store() {
    let root = boot::DIRECT_MAP + init_mm().root_word().root().raw();
    probe::store_again(root);
    log::warn!("a stray store to a live page table was not noticed: tables are not protected");
}

/// What protection costs so far, in words.
///
/// # Errors
/// Those of `out`.
pub fn report(out: &mut dyn fmt::Write) -> fmt::Result {
    match WINDOW.get() {
        Some(_) => writeln!(
            out,
            "page tables: read-only in {} chunks of 2 MiB, {} windows opened",
            frames().chunks(),
            table_window::opened()
        ),
        None => writeln!(out, "page tables: not protected"),
    }
}
