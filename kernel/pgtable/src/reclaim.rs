//! Taking mappings out of a range, and the tables that this empties, under walkers (PTE-17).

use core::sync::atomic::Ordering;

use arm64::addr::VaRange;
use arm64::attrs::Prot;
use arm64::geometry::Level;
use sync::planted::{self, Fault};

use crate::TableError;
use crate::cursor::{Cursor, Visit};
use crate::gather::Gather;
use crate::lock::Guard;
use crate::machine::Machine;
use crate::rights::Rights;
use crate::slot::{ReadSide, TableRef};
use crate::space::{PageTable, User};
use crate::table::detach;
use crate::walk::step;
use crate::writer::Writer;
use crate::zap::Zap;

/// What one call of [`PageTable::zap`] may cost, in looks at absent tables.
const ZAP_BUDGET: u32 = 64;
/// Most blocks that one call of [`PageTable::protect`] changes before a table.
const PROTECT_BLOCKS: u32 = 16;
/// What scanning a leaf table costs in that measure.
const ZAP_LEAF_COST: u32 = 64;

impl<M: Machine> PageTable<User, M> {
    /// Takes every mapping out of `range`, one table at a time, until the range ends, `gather` is
    /// full or the step is long enough. Empty tables are unlinked and torn out with their entries.
    /// Returns where to go on; the range is done when that is its end. A block that is covered in
    /// part is split first; without memory for that the step ends before it: [`Self::split_ends`],
    /// called before the first effect, makes sure that it does not come to that.
    pub fn zap(
        &self,
        range: VaRange,
        zap: Zap,
        gather: &mut Gather,
        section: &ReadSide<'_>,
    ) -> u64 {
        let mut cursor = self.cursor(range, section);
        let mut budget = ZAP_BUDGET;
        while budget > 0 && gather.has_frame_room() && gather.has_table_room() {
            match cursor.visit() {
                None => break,
                Some(Visit::Absent(absent)) => {
                    budget -= 1;
                    let (va, level) = (absent.from(), absent.level());
                    drop(absent);
                    self.unlink_empty(va, level, gather, section);
                }
                Some(Visit::Block(block)) if block.is_whole() => {
                    budget -= 1;
                    let (va, level) = (block.from(), block.level());
                    let emptied = block.zap(zap, gather);
                    drop(block);
                    if emptied {
                        self.unlink_empty(va, level, gather, section);
                    }
                }
                Some(Visit::Block(block)) => {
                    budget -= ZAP_LEAF_COST.min(budget);
                    let va = block.from();
                    drop(block);
                    cursor.seek(va);
                    if self.split_block(va, section).is_err() {
                        break;
                    }
                }
                Some(Visit::Table(leaf)) => {
                    budget -= ZAP_LEAF_COST.min(budget);
                    let va = leaf.zap(zap, gather);
                    let emptied = leaf.mapped() == 0;
                    drop(leaf);
                    cursor.seek(va);
                    if emptied {
                        self.unlink_empty(va - 1, Level::L3, gather, section);
                    }
                }
            }
        }
        cursor.at()
    }

    /// Gives everything mapped in `range` the rights `prot`, one table or some blocks at a time;
    /// returns where to go on. Blocks as in [`Self::zap`].
    pub fn protect(
        &self,
        range: VaRange,
        prot: Prot,
        gather: &mut Gather,
        section: &ReadSide<'_>,
    ) -> u64 {
        self.protect_by(range, Rights::new(prot), gather, section)
    }

    /// As [`Self::protect`], for memory that is to carry tags: entries of it that do not become
    /// `PAGE_FAULT_ON_ACCESS`, whatever their frames have (TAG-01); the shared page of zeros is
    /// mapped tagged at once.
    pub fn protect_tagged(
        &self,
        range: VaRange,
        prot: Prot,
        gather: &mut Gather,
        section: &ReadSide<'_>,
    ) -> u64 {
        let rights = Rights::new(prot).tagged(self.machine().format());
        self.protect_by(range, rights, gather, section)
    }

    #[inline(always)]
    fn protect_by(
        &self,
        range: VaRange,
        rights: Rights,
        gather: &mut Gather,
        section: &ReadSide<'_>,
    ) -> u64 {
        let mut cursor = self.cursor(range, section);
        for _ in 0..PROTECT_BLOCKS {
            match cursor.visit() {
                Some(Visit::Block(block)) if block.is_whole() => block.protect_by(rights, gather),
                Some(Visit::Absent(_)) => {}
                other => {
                    self.protect_last(other, &mut cursor, rights, gather, section);
                    break;
                }
            }
        }
        cursor.at()
    }

    /// The visit that ends a step of [`Self::protect`].
    #[inline(always)]
    fn protect_last<'g>(
        &'g self,
        visit: Option<Visit<'g, User, M>>,
        cursor: &mut Cursor<'g, User, M>,
        rights: Rights,
        gather: &mut Gather,
        section: &ReadSide<'_>,
    ) {
        match visit {
            Some(Visit::Table(leaf)) => leaf.protect_by(rights, gather),
            Some(Visit::Block(block)) => {
                let va = block.from();
                drop(block);
                cursor.seek(va);
                // Without memory the caller finds itself where it was, and tries again.
                let _split_or_not = self.split_block(va, section);
            }
            Some(Visit::Absent(_)) | None => {}
        }
    }

    /// Splits the blocks that `range` would cut in two: what can fail of an unmapping or protection
    /// for want of memory, done before its first effect (D3).
    ///
    /// # Errors
    /// No memory for a table, or a refusal.
    pub fn split_ends(&self, range: VaRange, section: &ReadSide<'_>) -> Result<(), TableError> {
        let (start, end) = (range.start().raw(), range.end().raw());
        let table = self.geometry().span(Level::L2);
        // Where there is no block around the start, there is none around an end in the same table.
        let near = start / table == end / table && self.block_at(start, section).is_none();
        let edges = [start, end];
        for edge in edges.into_iter().filter(|_| !near) {
            let mut edge_of_block = Some(edge);
            // A block of level 1 leaves blocks of level 2 behind.
            while let Some(va) = edge_of_block.take() {
                let look = self.look(va, section);
                let is_block = look.level() != Level::L3 && look.value.maps_frame(look.level());
                if is_block && va & (look.level().size() - 1) != 0 {
                    self.split_block(va, section)?;
                    edge_of_block = Some(va);
                }
            }
        }
        Ok(())
    }

    /// The table of `level` above `va`, if it is there.
    fn table_at<'g>(
        &'g self,
        va: u64,
        level: Level,
        section: &ReadSide<'g>,
    ) -> Option<TableRef<'g>> {
        let mut table = self.root(section);
        while table.level() != level {
            let pte = table.load(table.index(va), Ordering::Acquire);
            table = step(self.machine(), table, pte)?;
        }
        Some(table)
    }

    /// Unlinks the table of `level` above `va` if it is (still) empty, then its parent likewise.
    /// Roots, former ones included, stay. Locks: parent, then child (D15).
    pub(crate) fn unlink_empty(
        &self,
        va: u64,
        level: Level,
        gather: &mut Gather,
        section: &ReadSide<'_>,
    ) {
        let Some(up) = level.coarser() else { return };
        if level <= self.geometry().root_level() || !self.geometry().contains(va) {
            return;
        }
        let (Some(parent), Some(child)) = (
            self.table_at(va, up, section),
            self.table_at(va, level, section),
        ) else {
            return;
        };
        if self.was_root(&child, va) {
            return;
        }
        let parent_guard = Guard::lock(&parent);
        let child_guard = (!planted::is(Fault::UnlinkUnlocked)).then(|| Guard::lock(&child));
        let slot = parent_guard.slot(&parent, parent.index(va));
        let linked = slot.raw() == self.machine().format().table(child.pa());
        if !(linked && parent_guard.is_live() && child.is_live() && child.entry_count() == 0) {
            return;
        }
        slot.take(&Writer::open(self.machine()));
        parent.add_entries(-1);
        self.stats().count_freed(level);
        self.stats().count_reclaimed();
        let size = parent.shape().span(up);
        let start = va & !(size - 1);
        if !planted::is(Fault::FreeTableUnflushed) {
            gather.changed(start, start + size, up);
        }
        // SAFETY: law 8: the entry that named it has just been removed, under both locks.
        gather.tear_table(unsafe { detach(self.machine(), child.pa()) });
        let parent_empty = parent.entry_count() == 0;
        drop((child_guard, parent_guard));
        if parent_empty {
            self.unlink_empty(va, up, gather, section);
        }
    }
}
