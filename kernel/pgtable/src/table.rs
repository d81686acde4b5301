//! The life of a table page: constructed once, linked, detached, destructed once (law 8).
//!
//! ```text
//! allocated ─ construct ─▶ constructed ─ link ─▶ (live) ─ unlink ─▶ detached
//!     ▲            │ hook refuses                                      │ flush, grace period
//!     └── free ◀───┴───────────────────────────── destruct ◀───────────┘
//! ```

use core::sync::atomic::Ordering;

use arm64::addr::{Pfn, PhysAddr};
use arm64::geometry::{Geometry, Level};
use frame::{FrameMeta, Frames, TableFrame, TableState};
use sync::SpinLock;
use sync::grace::{Grace, Ticket};
use sync::planted::{self, Fault};
use sync::rank;

use crate::TableError;
use crate::machine::Machine;
use crate::slot::{LockedSlot, TableRef};
use crate::space::Owner;
use crate::stats::TableStats;
use crate::writer::Writer;

/// Entries of a table page.
const ENTRIES_PER_PAGE: usize = 512;

/// What a hook learns about a table page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableDesc {
    /// The page.
    pub pa: PhysAddr,
    /// The level of its entries.
    pub level: Level,
    /// Whose it is.
    pub owner: Owner,
}

/// The one constructor: a zeroed frame, described, counted and passed to the hook.
pub(crate) fn construct<M: Machine>(
    machine: &M,
    shape: &Geometry,
    level: Level,
    owner: Owner,
) -> Result<TableFrame, TableError> {
    let frames = machine.frames();
    // The hardware's tables are pages; only shapes of tests have larger ones.
    let frame = match shape.entries(level) / ENTRIES_PER_PAGE {
        0 | 1 => frames.alloc_table(),
        pages => frames.alloc_wide_table(pages.ilog2() as u8),
    };
    describe(
        machine,
        frame.map_err(|_| TableError::NoMemory)?,
        level,
        owner,
    )
}

fn describe<M: Machine>(
    machine: &M,
    mut frame: TableFrame,
    level: Level,
    owner: Owner,
) -> Result<TableFrame, TableError> {
    frame.set_level(level);
    frame.set_owner(owner.id, owner.kind);
    let desc = TableDesc {
        pa: frame.address(),
        level,
        owner,
    };
    if let Err(error) = machine.on_construct(&desc) {
        match planted::is(Fault::LeakOnRefusal) {
            true => drop(frame.into_entry()),
            false => machine.frames().free_table(frame),
        }
        return Err(error);
    }
    frame.set_state(TableState::Constructed);
    machine.stats().count_made(level);
    Ok(frame)
}

/// The one destructor. The frame was never linked, or its grace period is over.
pub(crate) fn destruct<M: Machine>(machine: &M, mut frame: TableFrame) {
    let meta = frame.meta();
    let (Some(level), Some(kind)) = (meta.table_level(), meta.space_kind()) else {
        panic!("law 8: {frame:?} reached the destructor without a description");
    };
    let owner = Owner {
        id: meta.owner(),
        kind,
    };
    machine.on_destruct(&TableDesc {
        pa: frame.address(),
        level,
        owner,
    });
    machine.stats().count_freed(level);
    frame.set_state(TableState::Allocated);
    machine.frames().free_table(frame);
}

/// Takes over a table whose entry (or root word) has just been removed, its serialiser held: from
/// here on it is detached, and waits for its flush and grace period.
///
/// # Safety
/// The caller removed what named the table (law 8).
pub(crate) unsafe fn detach<M: Machine>(machine: &M, pa: PhysAddr) -> TableFrame {
    // SAFETY: by this function's contract.
    let mut frame = unsafe { machine.frames().table_from_entry(pa.pfn()) };
    frame.set_state(TableState::Detached);
    frame
}

/// Gives a constructed table to the entry (or root word) that will name it.
pub(crate) fn link(frame: TableFrame) -> PhysAddr {
    frame.into_entry().start()
}

impl TableRef<'_> {
    /// Entries that are not none.
    pub(crate) fn entry_count(&self) -> u32 {
        self.entry_count_of(self.meta())
    }

    /// The same where the table's record is at hand.
    #[inline(always)]
    pub(crate) fn entry_count_of(&self, meta: &FrameMeta) -> u32 {
        meta.table_live().load(Ordering::Relaxed)
    }

    /// Adjusts the number of entries; the table's serialiser is held.
    #[inline]
    pub(crate) fn add_entries(&self, delta: i32) {
        self.add_entries_of(self.meta(), delta);
    }

    /// The same where the table's record is at hand.
    #[inline(always)]
    pub(crate) fn add_entries_of(&self, meta: &FrameMeta, delta: i32) {
        if planted::is(Fault::MiscountEntries) && delta < 0 {
            return;
        }
        let count = meta.table_live();
        let now = count.load(Ordering::Relaxed).wrapping_add_signed(delta);
        debug_assert!(
            now as usize <= self.entries(),
            "law 8: entry count of a table ran out of range"
        );
        count.store(now, Ordering::Relaxed);
    }

    /// Whether the table is still linked. Checked again after its lock was taken (D5, check 1).
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.meta().table_state() == TableState::Constructed
    }
}

/// Links `child` under `slot` of `parent`, whose serialiser is held and whose slot is none.
pub(crate) fn link_under<M: Machine>(
    writer: &Writer<'_, M>,
    parent: &TableRef<'_>,
    slot: &LockedSlot<'_>,
    child: TableFrame,
) -> Result<(), TableFrame> {
    if !slot.raw().is_none() {
        return Err(child);
    }
    let pa = link(child);
    slot.put(writer, writer.machine().format().table(pa));
    parent.add_entries(1);
    Ok(())
}

/// Tables that were unlinked and flushed, waiting for their grace period.
#[derive(Debug)]
pub struct Graveyard {
    lists: SpinLock<Lists, rank::FrameList>,
}

#[derive(Debug)]
struct Lists {
    /// Buried since the last grace period began: first page, or none.
    fresh: Option<Pfn>,
    /// Waiting for `ticket`.
    waiting: Option<Pfn>,
    ticket: Option<Ticket>,
}

impl Graveyard {
    sync::const_fn! {
        /// Empty.
        pub const fn new() -> Self {
            Self {
                lists: SpinLock::new(Lists {
                    fresh: None,
                    waiting: None,
                    ticket: None,
                }),
            }
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        let lists = self.lists.lock();
        lists.fresh.is_none() && lists.waiting.is_none()
    }

    pub(crate) fn bury(&self, table: TableFrame) {
        let mut lists = self.lists.lock();
        lists.fresh = Some(table.chain(lists.fresh));
    }

    /// Destructs up to `most` tables whose grace period is over, and starts the next period for
    /// those that came meanwhile. Returns how many were destructed.
    pub fn reap<M: Machine>(&self, machine: &M, most: usize) -> usize {
        let frames = machine.frames();
        let mut done = 0;
        while done < most {
            let Some(table) = self.next_over(frames, machine.grace()) else {
                break;
            };
            destruct(machine, table);
            done += 1;
        }
        done
    }

    fn next_over(&self, frames: &'static Frames, grace: &Grace) -> Option<TableFrame> {
        let mut lists = self.lists.lock();
        if lists.waiting.is_none() {
            lists.waiting = lists.fresh.take();
            lists.ticket = lists.waiting.map(|_| grace.start());
        }
        if !grace.is_over(lists.ticket?) {
            return None;
        }
        // SAFETY: the list owns what was buried in it; its lock is held. The tables are detached
        // and flushed, and their grace period is over (laws 8 and 12).
        let (table, rest) = unsafe { frames.unchain_table(lists.waiting?) };
        lists.waiting = rest;
        Some(table)
    }
}

impl Default for Graveyard {
    fn default() -> Self {
        Self::new()
    }
}

/// Constructs descriptors for the boot tables under `pa`, depth first (CTOR-11).
///
/// # Safety
/// As for [`crate::PageTable::adopt`].
pub(crate) unsafe fn adopt_tree<M: Machine>(
    machine: &M,
    space: &TableStats,
    shape: &Geometry,
    owner: Owner,
    pa: PhysAddr,
    level: Level,
) -> Result<(), TableError> {
    let frames = machine.frames();
    let meta = frames.meta(pa.pfn()).ok_or(TableError::BadRange)?;
    if meta.table_state() != TableState::None {
        return Err(TableError::BadRange);
    }
    // SAFETY: a boot table page, owned by nobody, by this function's contract.
    let frame = unsafe { frames.adopt_table(pa.pfn()) };
    link(describe(machine, frame, level, owner)?);
    for counts in [space, machine.stats()] {
        counts.count_adopted(level);
    }
    space.count_made(level);
    // SAFETY: constructed just now; nobody frees it while boot is single-threaded.
    let table = unsafe { TableRef::new(frames, shape, pa, level) };
    let mut entries = 0;
    for index in 0..ENTRIES_PER_PAGE {
        let pte = table.load(index, Ordering::Relaxed);
        if pte.is_none() {
            continue;
        }
        entries += 1;
        if planted::is(Fault::AdoptRootOnly) {
            continue;
        }
        if let (true, Some(finer)) = (pte.is_table(level), level.finer()) {
            // SAFETY: a table entry of a well-formed boot tree names a boot table.
            unsafe {
                let pa = machine.format().table_pa(pte);
                adopt_tree(machine, space, shape, owner, pa, finer)?;
            }
        }
    }
    table.add_entries(entries);
    Ok(())
}
