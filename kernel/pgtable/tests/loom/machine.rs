//! A machine of loom's atomics, its walker that records accesses, and what tests do over and over.

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::{Geometry, Level};
use arm64::pte::{Format, Pte};
use frame::{Frames, UserFrame, arena};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use pgtable::{
    Gather, Graveyard, Invalidation, Machine, PageTable, Pause, ReadSide, SpaceKind, TableDesc,
    TableError, TableStats, User, Walked, Zap,
};
use sync::grace::Grace;

pub const PAGE: u64 = Level::L3.size();
pub type Space = PageTable<User, LoomMachine>;

/// Barriers and invalidations are nothing here: what a model shows follows from the entries' own
/// orderings, the locks and the grace periods alone.
pub struct LoomMachine {
    frames: &'static Frames,
    grace: &'static Grace,
    stats: &'static TableStats,
    pauses: AtomicU64,
}

impl LoomMachine {
    /// A machine with `pages` free frames and tables of `entries` entries, no CPU online.
    pub fn new(pages: u64, entries: usize) -> &'static Self {
        Box::leak(Box::new(Self {
            frames: arena::frames_with_tables(pages, entries),
            grace: Box::leak(Box::new(Grace::new())),
            stats: Box::leak(Box::default()),
            pauses: AtomicU64::new(0),
        }))
    }

    /// A user page of its own.
    pub fn page(&'static self) -> UserFrame {
        self.folio(0)
    }

    /// A folio of 2^`order` pages.
    pub fn folio(&'static self, order: u8) -> UserFrame {
        let fresh = self.frames.alloc_fresh(order, false);
        fresh.expect("a model has the frames it needs").into_user()
    }

    /// Free frames, when all threads are done.
    pub fn free_frames(&self) -> u64 {
        self.frames.stats().free
    }
}

impl Machine for LoomMachine {
    fn frames(&self) -> &'static Frames {
        self.frames
    }

    fn format(&self) -> Format {
        Format::NORMAL
    }

    fn publish(&self, _kind: SpaceKind) {}

    fn before_invalidate(&self) {}

    fn invalidate(&self, _what: Invalidation) {}

    fn repaints_without_flush(&self) -> bool {
        false
    }

    fn records_access(&self) -> bool {
        true
    }

    fn open_tables(&self) -> usize {
        0
    }

    fn close_tables(&self) {}

    fn sync_instructions(&self, _pa: PhysAddr) {}

    fn read_side<'g, T>(&self, stay: &'g T) -> ReadSide<'g> {
        // SAFETY: law 8: a model's threads report quiescent states after their sections only.
        unsafe { ReadSide::enter(stay) }
    }

    fn grace(&self) -> &'static Grace {
        self.grace
    }

    fn stats(&self) -> &'static TableStats {
        self.stats
    }

    fn on_construct(&self, _table: &TableDesc) -> Result<(), TableError> {
        Ok(())
    }

    fn on_destruct(&self, _table: &TableDesc) {}

    /// Loom takes two accesses for a race only if no third came between them: a thread's own load
    /// before its exchange hides another thread's earlier loads, and the order in which those come
    /// late is never tried. Additions to one number are in each other's way always; relaxed as they
    /// are, they order nothing else.
    fn pause(&self, _at: Pause) {
        self.pauses.fetch_add(1, Ordering::Relaxed);
    }

    fn stored(&self, _at: PhysAddr, _level: Level, _old: Pte, _new: Pte) {
        self.pauses.fetch_add(1, Ordering::Relaxed);
    }
}

/// A space whose tables have `bits`, root first, and contiguous blocks of two.
pub fn space(machine: &'static LoomMachine, bits: &[u8]) -> Space {
    let shape = Geometry::from_index_bits(bits).expect("a shape");
    PageTable::new(machine, 2, shape.with_cont_entries(2)).expect("a root")
}

pub fn pages(start: u64, end: u64) -> VaRange {
    VaRange::new(VirtAddr::new(start * PAGE), VirtAddr::new(end * PAGE)).expect("a range")
}

pub fn attrs() -> Attrs {
    Attrs::user(Prot::RW).with_young(true)
}

/// The space, when all other threads are done.
pub fn alone(space: Arc<Space>) -> Space {
    Arc::try_unwrap(space).unwrap_or_else(|_| panic!("a thread still has the space"))
}

/// Maps `frame` as page number `page`.
pub fn map(space: &Space, page: u64, frame: UserFrame, attrs: Attrs) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let leaf = space.lock_leaf(page * PAGE, &section, || true);
    let leaf = leaf.expect("a leaf table");
    leaf.install(page * PAGE, frame, attrs)
        .expect("an empty slot");
}

/// Maps the two pages of a folio from page number `page` on: a contiguous block.
pub fn map_block(space: &Space, page: u64, folio: UserFrame, attrs: Attrs) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let leaf = space.lock_leaf(page * PAGE, &section, || true);
    let leaf = leaf.expect("a leaf table");
    let done = leaf.install_folio(page * PAGE, folio, 2, attrs, None);
    done.expect("empty slots");
}

/// Takes the range out of the tables, flushes and releases.
pub fn unmap(space: &Space, graves: &Graveyard, range: VaRange) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let (mut at, end) = (range.start(), range.end());
    while at < end {
        let mut gather = Gather::new();
        let rest = VaRange::new(at, end).expect("a range");
        at = VirtAddr::new(space.zap(rest, Zap::REGION_GONE, &mut gather, &section));
        finish(space, graves, &mut gather);
    }
}

pub fn finish(space: &Space, graves: &Graveyard, gather: &mut Gather) {
    let flushed = gather.flush(space);
    gather.release(space.machine(), graves, &flushed);
}

pub fn walk(space: &Space, page: u64) -> Walked {
    let stay = ();
    space.walk(page * PAGE, &space.machine().read_side(&stay))
}

/// Ends the space of `roots` roots, when all other threads are done: nothing may be left of it.
pub fn end(mut space: Space, graves: &Graveyard, pages: u64, roots: u64) {
    let machine = space.machine();
    let tables = space.stats().live();
    assert_eq!(tables, roots, "tables are left in an empty space");
    let mut gather = Gather::new();
    space.retire(&mut gather);
    finish(&space, graves, &mut gather);
    // Twice: for what was buried before, and for the roots.
    graves.reap(machine, 99);
    graves.reap(machine, 99);
    assert!(graves.is_empty(), "a table is never destructed");
    assert_eq!(machine.stats().live(), 0, "a table is lost");
    assert_eq!(machine.free_frames(), pages, "a frame is lost");
}

/// What the hardware does to the entry of page number `page` when it is accessed: it sets the access
/// flag, and for a write takes the read-only bit away, if the entry is valid (and writable) at that
/// moment. Whether it did. [ARM "Hardware management of the Access flag and dirty state"]
pub fn hardware(
    machine: &LoomMachine,
    root: PhysAddr,
    bits: &[u8],
    page: u64,
    write: bool,
) -> bool {
    let shape = Geometry::from_index_bits(bits).expect("a shape");
    let (mut table, mut level) = (root, shape.root_level());
    loop {
        machine.pause(Pause::WalkStep);
        // SAFETY: the model's space has no table unlinked while its hardware walks.
        let cell = unsafe {
            let first = machine.frames.cells(table.pfn());
            &*first.add(shape.index(page * PAGE, level)).as_ptr()
        };
        let mut old = Pte::from_raw(cell.load(Ordering::Acquire));
        if let (true, Some(finer)) = (old.is_table(level), level.finer()) {
            (table, level) = (machine.format().table_pa(old), finer);
            continue;
        }
        while old.is_leaf(level) && old.user() && (!write || old.writable()) {
            let new = if write {
                old.mkyoung().mkdirty()
            } else {
                old.mkyoung()
            };
            let (from, to) = (old.raw(), new.raw());
            machine.pause(Pause::WalkStep);
            match cell.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => old = Pte::from_raw(now),
            }
        }
        return false;
    }
}
