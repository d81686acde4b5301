//! What a change tore out of the tables, and the token that says it may be freed (law 12).

use arm64::addr::Pfn;
use frame::{Frames, TableFrame};

use crate::machine::{Invalidation, Machine};
use crate::table::Graveyard;

/// Proof that the translations of one space (or of the kernel's range) that were torn out before
/// are in no TLB any more. Made only by [`flush`].
#[derive(Debug)]
#[must_use = "what was torn out stays allocated until it is released with this token"]
pub struct Flushed {
    _made_by_flush: (),
}

/// Invalidates `what` on all CPUs, waits, and hands out the proof.
pub fn flush<M: Machine>(machine: &M, what: Invalidation) -> Flushed {
    machine.before_invalidate();
    machine.invalidate(what);
    Flushed { _made_by_flush: () }
}

/// Most user frames one step tears out.
pub const TORN_FRAMES: usize = 64;
/// Most tables one step tears out.
pub const TORN_TABLES: usize = 8;

/// Frames and tables taken out of live tables in one step, still to be flushed.
#[must_use = "torn-out frames leak unless they are released after the flush"]
#[derive(Debug)]
pub struct Torn {
    frames: [Pfn; TORN_FRAMES],
    frame_count: usize,
    tables: [Option<TableFrame>; TORN_TABLES],
    table_count: usize,
}

impl Torn {
    /// Nothing torn out yet.
    pub const fn new() -> Self {
        Self {
            frames: [Pfn::new(0); TORN_FRAMES],
            frame_count: 0,
            tables: [const { None }; TORN_TABLES],
            table_count: 0,
        }
    }

    /// Whether nothing needs a flush.
    pub fn is_empty(&self) -> bool {
        self.frame_count == 0 && self.table_count == 0
    }

    /// How many references to user frames are in it.
    pub fn frame_count(&self) -> usize {
        self.frame_count
    }

    /// Room for another frame.
    pub(crate) fn has_frame_room(&self) -> bool {
        self.frame_count < TORN_FRAMES
    }

    /// Room for another chain of tables.
    pub(crate) fn has_table_room(&self) -> bool {
        self.table_count + 4 <= TORN_TABLES
    }

    pub(crate) fn push_frame(&mut self, pfn: Pfn) {
        self.frames[self.frame_count] = pfn;
        self.frame_count += 1;
    }

    pub(crate) fn push_table(&mut self, table: TableFrame) {
        self.tables[self.table_count] = Some(table);
        self.table_count += 1;
    }

    /// Drops the references and buries the tables, which now wait for a grace period. Afterwards
    /// nothing is torn out any more.
    pub fn release(&mut self, frames: &'static Frames, graveyard: &Graveyard, _flushed: &Flushed) {
        for &pfn in &self.frames[..self.frame_count] {
            // SAFETY: the reference was the entry's; the entry is gone and flushed (law 12), so
            // it is ours to drop, once.
            drop(unsafe { frames.from_entry(pfn) });
        }
        self.frame_count = 0;
        for table in &mut self.tables[..self.table_count] {
            if let Some(table) = table.take() {
                graveyard.bury(table);
            }
        }
        self.table_count = 0;
    }
}

impl Drop for Torn {
    fn drop(&mut self) {
        debug_assert!(
            self.is_empty(),
            "law 12: torn out, never flushed and released"
        );
    }
}

impl Default for Torn {
    fn default() -> Self {
        Self::new()
    }
}
