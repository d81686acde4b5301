//! Changes of `init_mm`: mapping and unmapping ranges with pages and blocks, under the one edit
//! token that serialises kernel tables (they have no split lock: CTOR-05, CTOR-09).

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use arm64::pte::Pte;
use sync::{SpinGuard, rank};

use crate::TableError;
use crate::cursor::{Cursor, Visit};
use crate::gather::{Flushed, flush_kernel};
use crate::leaf::Leaf;
use crate::machine::Machine;
use crate::slot::{LockedSlot, ReadSide, TableRef};
use crate::space::{Kernel, PageTable, SpaceKind};
use crate::table::link_under;
use crate::walk::step;
use crate::writer::Writer;

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
    /// Maps `range` to consecutive memory from `pa` with the largest pages that fit (4 KiB; 2 MiB
    /// where no table is yet; 1 GiB blocks are left to memory that never changes, D16). Tables on
    /// the way are constructed with `init_mm` as their owner.
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
        // The end of the address space is address 0 (GUP-24).
        while va != end {
            let to = PhysAddr::new(pa.raw() + (va - start));
            match self.map_one(va, end, to, attrs) {
                Ok(size) => va = va.wrapping_add(size),
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
        let mut level = match (va | pa.raw()).is_multiple_of(block) && end.wrapping_sub(va) >= block
        {
            true => Level::L2,
            false => Level::L3,
        };
        let stay = ();
        let machine = self.space.machine();
        let section = machine.read_side(&stay);
        let mut table = self.table(va, level, &section)?;
        let mut slot = self.slot(&table, va);
        if slot.raw().is_table(level) {
            // It stayed here after other pages, and keeps the place of a block.
            level = Level::L3;
            table = self.table(va, level, &section)?;
            slot = self.slot(&table, va);
        }
        if !slot.raw().is_none() {
            return Err(TableError::Occupied);
        }
        let pte = machine.format().leaf(pa, attrs, level);
        slot.put(&Writer::open(machine), pte);
        table.add_entries(1);
        Ok(level.size())
    }

    fn slot<'l>(&'l self, table: &TableRef<'l>, va: u64) -> LockedSlot<'l> {
        // SAFETY: law 3 and CTOR-09: `self` holds the edit token of the space.
        unsafe { table.locked_slot(table.index(va)) }
    }

    /// Visits `range`; the token serialises all tables of the space.
    pub fn cursor<'g>(
        &'g mut self,
        range: VaRange,
        section: &'g ReadSide<'g>,
    ) -> Cursor<'g, Kernel, M> {
        // SAFETY: CTOR-09: the token is held, and borrowed as long as the cursor lives.
        unsafe { Cursor::new(self.space, range, section) }
    }

    /// Gives what is mapped in `range` other rights, in place, and flushes. Blocks must lie inside
    /// the range as a whole. Never folds or unfolds anything (XC-13).
    pub fn protect(&mut self, range: VaRange, prot: Prot) -> Flushed {
        let space = self.space;
        let stay = ();
        let section = space.machine().read_side(&stay);
        let prot = prot.difference(Prot::USER);
        let mut cursor = self.cursor(range, &section);
        while let Some(visit) = cursor.visit() {
            match visit {
                Visit::Table(leaf) => leaf.protect_kernel(prot),
                Visit::Block(block) => {
                    let _flushed_below = block.change(|pte| kernel_prot(pte, prot));
                }
                Visit::Absent(_) => {}
            }
        }
        flush_kernel(space.machine(), range.start().raw(), range.end().raw())
    }

    /// The table of `level` above `va`, made where it is missing.
    fn table<'g>(
        &'g self,
        va: u64,
        level: Level,
        section: &ReadSide<'g>,
    ) -> Result<TableRef<'g>, TableError> {
        let space = self.space;
        let mut table = space.root(section);
        while table.level() != level {
            let slot = self.slot(&table, va);
            let pte = slot.raw();
            if let Some(next) = step(space.machine(), table, pte) {
                table = next;
                continue;
            }
            if !pte.is_none() {
                return Err(TableError::Occupied);
            }
            let finer = table.level().finer().ok_or(TableError::BadRange)?;
            let child = space.construct(table.shape(), finer)?;
            let writer = Writer::open(space.machine());
            if let Err(child) = link_under(&writer, &table, &slot, child) {
                drop(writer);
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
        let mut cursor = self.cursor(range, &section);
        while let Some(visit) = cursor.visit() {
            match visit {
                Visit::Table(leaf) => leaf.empty_kernel(),
                Visit::Block(block) => {
                    debug_assert!(block.is_whole(), "a block cut in two");
                    let _frame_is_the_callers = block.take();
                }
                Visit::Absent(_) => {}
            }
        }
        flush_kernel(space.machine(), range.start().raw(), range.end().raw())
    }
}

/// A kernel entry with other rights: dirty from birth where writable, since the kernel never faults
/// on its own memory.
fn kernel_prot(pte: Pte, prot: Prot) -> Pte {
    let new = pte.with_prot(prot);
    match prot.contains(Prot::WRITE) {
        true => new.mkdirty(),
        false => new.mkclean(),
    }
}

impl<M: Machine> Leaf<'_, Kernel, M> {
    fn protect_kernel(&self, prot: Prot) {
        self.each_raw(|slot, writer| {
            slot.update(writer, |pte| {
                let new = kernel_prot(pte, prot);
                (pte.maps_frame(Level::L3) && new != pte).then_some(new)
            });
            0
        });
    }

    fn empty_kernel(&self) {
        self.each_raw(|slot, writer| match slot.raw().is_none() {
            true => 0,
            false => {
                slot.take(writer);
                -1
            }
        });
    }
}
