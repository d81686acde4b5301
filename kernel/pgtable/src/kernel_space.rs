//! Changes of `init_mm`: mapping and unmapping ranges with pages and blocks, under the one edit
//! token that serialises kernel tables (they have no split lock: CTOR-05, CTOR-09).

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::Attrs;
use arm64::geometry::Level;
use sync::{SpinGuard, rank};

use crate::TableError;
use crate::machine::{Invalidation, Machine};
use crate::slot::{LockedSlot, ReadSide, TableRef, ptep_get};
use crate::space::{Kernel, PageTable, SpaceKind};
use crate::table::link_under;
use crate::tlb::{Flushed, flush};
use crate::walk::step;

/// The right to change the kernel's tables: one holder at a time.
pub struct KernelEdit<'s, M: Machine> {
    space: &'s PageTable<Kernel, M>,
    _token: SpinGuard<'s, (), rank::Table>,
}

impl<M: Machine> PageTable<Kernel, M> {
    /// Waits for the edit token.
    pub fn edit(&self) -> KernelEdit<'_, M> {
        KernelEdit {
            space: self,
            _token: self.serial().lock(),
        }
    }
}

impl<M: Machine> KernelEdit<'_, M> {
    /// Maps `range` to consecutive memory from `pa` with the largest pages that fit (4 KiB,
    /// 2 MiB; 1 GiB blocks are left to memory that never changes, D16). Tables on the way are
    /// constructed with `init_mm` as their owner.
    ///
    /// # Errors
    /// [`TableError::Occupied`] where something is mapped, [`TableError::NoMemory`],
    /// [`TableError::Refused`], [`TableError::BadRange`] for bad alignment. What this call had
    /// mapped is unmapped again; tables made on the way stay for the next use.
    pub fn map(&mut self, range: VaRange, pa: PhysAddr, attrs: Attrs) -> Result<(), TableError> {
        let (start, end) = (range.start().raw(), range.end().raw());
        if (start | end | pa.raw()) & 0xfff != 0 {
            return Err(TableError::BadRange);
        }
        let mut va = start;
        while va < end {
            let to = PhysAddr::new(pa.raw() + (va - start));
            match self.map_one(va, end, to, attrs) {
                Ok(size) => va += size,
                Err(error) => {
                    if let Some(done) = VaRange::new(range.start(), VirtAddr::new(va)) {
                        let _nothing_to_free = self.unmap(done);
                    }
                    return Err(error);
                }
            }
        }
        self.space.machine().publish(SpaceKind::Kernel);
        Ok(())
    }

    fn map_one(
        &mut self,
        va: u64,
        end: u64,
        pa: PhysAddr,
        attrs: Attrs,
    ) -> Result<u64, TableError> {
        let block = Level::L2.size();
        let level = match (va | pa.raw()).is_multiple_of(block) && end - va >= block {
            true => Level::L2,
            false => Level::L3,
        };
        let stay = ();
        let section = self.space.machine().read_side(&stay);
        let table = self.table(va, level, &section)?;
        let slot = self.slot(table, va);
        let pte = self.space.machine().format().leaf(pa, attrs, level);
        slot.set_new(pte).map_err(|_| TableError::Occupied)?;
        table.add_entries(1);
        Ok(level.size())
    }

    fn slot<'l>(&'l self, table: TableRef<'l>, va: u64) -> LockedSlot<'l> {
        let index = self.space.geometry().index(va, table.level());
        // SAFETY: law 3 and CTOR-09: `self` holds the edit token of the space.
        unsafe { table.locked_slot(index) }
    }

    /// The table of `level` above `va`, made where it is missing.
    fn table<'g>(
        &self,
        va: u64,
        level: Level,
        section: &ReadSide<'g>,
    ) -> Result<TableRef<'g>, TableError> {
        let space = self.space;
        let mut table = space.root(section);
        while table.level() != level {
            let slot = self.slot(table, va);
            let pte = ptep_get(&slot);
            if let Some(next) = step(space.machine(), table, pte) {
                table = next;
                continue;
            }
            if !pte.is_none() {
                return Err(TableError::Occupied);
            }
            let finer = table.level().finer().ok_or(TableError::BadRange)?;
            let child = space.construct(finer)?;
            if let Err(child) = link_under(space.machine(), table, &slot, child) {
                space.discard(child, finer);
                return Err(TableError::Occupied);
            }
        }
        Ok(table)
    }

    /// Unmaps `range`, whatever part of it is mapped, and flushes. Blocks must lie inside the
    /// range as a whole. The frames behind are the caller's to free, with the token.
    pub fn unmap(&mut self, range: VaRange) -> Flushed {
        let space = self.space;
        let stay = ();
        let section = space.machine().read_side(&stay);
        let (start, end) = (range.start().raw(), range.end().raw());
        let mut va = start;
        while va < end {
            let mut table = space.root(&section);
            let slot = loop {
                let slot = self.slot(table, va);
                match step(space.machine(), table, ptep_get(&slot)) {
                    Some(next) => table = next,
                    None => break slot,
                }
            };
            if !ptep_get(&slot).is_none() {
                debug_assert!(end - va >= table.level().size(), "a block cut in two");
                slot.take();
                table.add_entries(-1);
            }
            va = space.geometry().addr_end(va, end, table.level());
        }
        flush(space.machine(), Invalidation::Kernel { start, end })
    }
}
