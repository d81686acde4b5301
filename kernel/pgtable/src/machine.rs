//! What the engine asks of the machine it runs on: memory, invalidation, hooks.

use arm64::addr::{Pfn, PhysAddr};
use arm64::geometry::Level;
use arm64::pte::{Format, Pte};
use frame::Frames;
use sync::grace::Grace;

use crate::TableError;
use crate::slot::ReadSide;
use crate::space::SpaceKind;
use crate::stats::TableStats;
use crate::table::TableDesc;

/// What a TLB invalidation covers, always broadcast to the inner-shareable domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// Every translation of one address-space identifier, walk caches included.
    Asid(u16),
    /// Translations of `[start, end)` in one address space.
    Range {
        /// The identifier of the space.
        asid: u16,
        /// First byte, page aligned.
        start: u64,
        /// First byte behind, page aligned.
        end: u64,
        /// The level of the entries that were changed: what one operation drops at a time, and the
        /// level hint where `tables` is false.
        level: Level,
        /// Tables were torn out too: walk caches must go, and no level may be hinted.
        tables: bool,
    },
    /// Global (kernel) translations of a range of pages, walk caches included.
    Kernel {
        /// First byte.
        start: u64,
        /// First byte after the range.
        end: u64,
    },
}

/// A place in the engine at which a test machine may run another CPU's operation: what makes a race
/// a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pause {
    /// A walk has loaded an entry that names a table and goes on to that table.
    WalkStep,
    /// A pin has loaded the leaf and is about to take a reference.
    PinBeforeReference,
    /// A pin has its reference and is about to load the leaf again.
    PinBeforeRecheck,
    /// A live entry was read, and is about to be exchanged for what follows from that.
    BeforeExchange,
    /// A contiguous block was taken apart and is not written again yet.
    Repaint,
    /// A table was found to be missing; its parent is not locked yet.
    TableMissing,
    /// A leaf table was found; it is not locked yet.
    BeforeLock,
    /// A new root is constructed and not published yet.
    BeforeGrow,
    /// Entries were torn out and are not flushed yet.
    BeforeFlush,
}

/// What became of a block of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// A contiguous block was made.
    Fold,
    /// A contiguous block was taken apart.
    Unfold,
    /// A block of level 1 or 2 was replaced by a table.
    Split,
}

/// The machine under the engine. The kernel implements it over the direct map and TLBI
/// instructions, host tests over an arena, the model over an MMU that keeps every translation it may.
///
/// The constructor and destructor hooks have no default on purpose: a port has to say what it
/// does with a table page (CTOR-17, CTOR-20).
pub trait Machine: Sync + 'static {
    /// The allocator that table frames come from and the window through which they are reached.
    fn frames(&self) -> &'static Frames;

    /// How descriptors place their address bits on this machine.
    fn format(&self) -> Format;

    /// Makes stores to tables visible to the table walkers of all CPUs, before the next
    /// instruction where `kind` is a kernel space (Arm ARM D8.2.10 “Ordering of memory accesses
    /// from translation table walks”).
    fn publish(&self, kind: SpaceKind);

    /// Completes earlier stores to tables, so that no walk begun later sees what they replaced
    /// (DSB ISHST). An identifier that an invalidation needs is read after this.
    fn before_invalidate(&self);

    /// Invalidates and waits for completion on all CPUs. [`Self::before_invalidate`] came before.
    fn invalidate(&self, what: Invalidation);

    /// More entries than this are invalidated by dropping the whole identifier: where there are no
    /// range operations each costs an instruction of its own, and a bounded stay (law 16).
    #[inline(always)]
    fn flush_limit(&self) -> u64 {
        512
    }

    /// Whether a contiguous block may be made and unmade without an invalidation in between:
    /// FEAT_BBM level 2 on CPUs known never to take a TLB conflict abort for it.
    fn repaints_without_flush(&self) -> bool;

    /// Whether the hardware sets the access flag and the dirty state of an entry by itself
    /// (FEAT_HAFDBS, in use): what a batch maps beside the page touched is then born old and clean.
    fn records_access(&self) -> bool;

    /// Gives this CPU the right to write table pages until [`Self::close_tables`]: the distance
    /// (wrapping) from where a table is read to where it is written; 0 where tables are not
    /// protected (D16). Never nested.
    fn open_tables(&self) -> usize;

    /// Takes the right away again.
    fn close_tables(&self);

    /// Makes the bytes of the page at `pa`, written as data, visible to instruction fetches.
    fn sync_instructions(&self, pa: PhysAddr);

    /// Opens a read-side section that lasts as long as `stay` is borrowed, a value of the caller's
    /// stack frame. The implementor vouches that this CPU reports no quiescent state meanwhile.
    fn read_side<'g, T>(&self, stay: &'g T) -> ReadSide<'g>;

    /// Grace periods: what a detached table waits for.
    fn grace(&self) -> &'static Grace;

    /// Where tables of all spaces are counted.
    fn stats(&self) -> &'static TableStats;

    /// Called for every table page before it can be linked.
    ///
    /// # Errors
    /// Any error unwinds the construction: the frame is freed, the caller sees the error.
    fn on_construct(&self, table: &TableDesc) -> Result<(), TableError>;

    /// Called for every table page after its grace period, before the frame is freed.
    fn on_destruct(&self, table: &TableDesc);

    /// Told of every change of an entry, right after it. `at` is the physical address of the entry
    /// in a table of `level`. For models; nothing on hardware.
    #[inline(always)]
    fn stored(&self, at: PhysAddr, level: Level, old: Pte, new: Pte) {
        let _ = (at, level, old, new);
    }

    /// Told of every reference to a user frame that entries gave up, when its flush is over and just
    /// before it is dropped. For models; nothing on hardware.
    #[inline(always)]
    fn released(&self, frame: Pfn) {
        let _ = frame;
    }

    /// Told of a block made or taken apart: `bytes` from `va` on in the space of this number. For
    /// those who watch; called with the table locked.
    #[inline(always)]
    fn converted(&self, what: Conversion, space: u32, va: u64, bytes: u64) {
        let _ = (what, space, va, bytes);
    }

    /// A place where a test may interleave. Nothing on hardware.
    #[inline(always)]
    fn pause(&self, at: Pause) {
        let _ = at;
    }
}
