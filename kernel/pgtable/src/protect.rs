//! What protected tables need of the engine (D16, CTOR-17): rights of the direct map that change in
//! place, and a special space that shows memory at its own address.

use arm64::addr::PhysAddr;
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;

use crate::TableError;
use crate::gather::flush_kernel;
use crate::machine::{Invalidation, Machine};
use crate::slot::{LockedSlot, TableRef};
use crate::space::{Kernel, Kind, PageTable, RootWord, SpaceKind, Special};
use crate::table::link_under;
use crate::walk::step;
use crate::writer::Writer;

/// Bytes of the part of a mapping that is named to invalidate all of it: an entry goes with any
/// address that it translates (Arm ARM, “TLB maintenance instructions”).
const ANY_PAGE: u64 = 4096;

impl<K: Kind, M: Machine> PageTable<K, M> {
    /// The slot of `level` for `va`, if the walk gets that far.
    ///
    /// # Safety
    /// Law 3 and CTOR-09: the caller keeps others from changing that entry, and tables of the
    /// space are not freed.
    unsafe fn entry<'l>(
        &'l self,
        va: u64,
        level: Level,
    ) -> Result<(TableRef<'l>, LockedSlot<'l>), TableError> {
        let mut table = self.root_of(self.root_word());
        loop {
            // SAFETY: by this function's contract.
            let slot = unsafe { table.locked_slot(table.index(va)) };
            if table.level() == level {
                return Ok((table, slot));
            }
            let next = step(self.machine(), table, slot.raw());
            table = next.ok_or(TableError::BadRange)?;
        }
    }
}

impl<M: Machine> PageTable<Kernel, M> {
    /// Gives or takes the right to write where the entry of `level` maps `va`, in place: size,
    /// address and memory type stay, so nothing breaks (law 5), and what other CPUs hold of it is
    /// invalidated. Not serialised by the edit token, under which tables are constructed: the
    /// caller is the only one who changes rights of this entry, and it stays mapped.
    ///
    /// # Errors
    /// [`TableError::BadRange`] if `va` is mapped by an entry of another level, or not at all.
    pub fn set_writable(&self, va: u64, level: Level, writable: bool) -> Result<(), TableError> {
        // SAFETY: by this function's contract; tables of `init_mm` are never freed.
        let (_table, slot) = unsafe { self.entry(va, level)? };
        let writer = Writer::open(self.machine());
        let mut is_leaf = false;
        slot.update(&writer, |old| {
            is_leaf = old.is_leaf(level);
            let new = match writable {
                true => old.mkwrite(),
                false => old.wrprotect(),
            };
            is_leaf.then_some(new)
        });
        drop(writer);
        if !is_leaf {
            return Err(TableError::BadRange);
        }
        let _nothing_to_free = flush_kernel(self.machine(), va, va + ANY_PAGE);
        Ok(())
    }
}

impl<M: Machine> PageTable<Kernel, M> {
    /// Takes the access to the `pages` pages at `va` away, or gives it back as it was, in place, and
    /// flushes: data that must not be touched faults at once. Not serialised by the edit token, as
    /// [`Self::set_writable`].
    ///
    /// # Errors
    /// [`TableError::BadRange`] if one is not mapped by an entry of its own.
    pub fn set_accessible(&self, va: u64, pages: u64, access: bool) -> Result<(), TableError> {
        let writer = Writer::open(self.machine());
        for at in (0..pages).map(|page| va + page * ANY_PAGE) {
            // SAFETY: by this function's contract; tables of `init_mm` are never freed.
            let (_table, slot) = unsafe { self.entry(at, Level::L3)? };
            let prot = match access {
                true => Prot::RW,
                false => Prot::empty(),
            };
            let mut is_page = false;
            slot.update(&writer, |old| {
                is_page = old.maps_frame(Level::L3);
                is_page.then(|| old.with_prot(prot))
            });
            if !is_page {
                return Err(TableError::BadRange);
            }
        }
        drop(writer);
        match access {
            // It was invalid: nothing is in a TLB.
            true => self.machine().publish(SpaceKind::Kernel),
            false => {
                let _nothing_to_free = flush_kernel(self.machine(), va, va + pages * ANY_PAGE);
            }
        }
        Ok(())
    }
}

impl<M: Machine> PageTable<Special, M> {
    /// Makes the tables down to `level` on the way to `va`, where they are missing. The space is
    /// private: `&mut`.
    ///
    /// # Errors
    /// [`TableError::NoMemory`], [`TableError::Refused`], or [`TableError::Occupied`] where a
    /// coarser entry maps something.
    pub fn prepare(&mut self, va: u64, level: Level) -> Result<(), TableError> {
        let mut at = self.geometry().root_level();
        while at < level {
            let finer = at.finer().ok_or(TableError::BadRange)?;
            // SAFETY: nobody else changes a private space.
            let (_, slot) = unsafe { self.entry(va, at)? };
            let pte = slot.raw();
            if pte.is_none() {
                let child = self.construct(self.geometry(), finer)?;
                // SAFETY: as above.
                let (table, slot) = unsafe { self.entry(va, at)? };
                let writer = Writer::open(self.machine());
                if let Err(child) = link_under(&writer, &table, &slot, child) {
                    drop(writer);
                    self.discard(child, finer);
                    return Err(TableError::Occupied);
                }
            } else if !pte.is_table(at) {
                return Err(TableError::Occupied);
            }
            at = finer;
        }
        self.machine().publish(SpaceKind::Special);
        Ok(())
    }

    /// Root and levels of the part of this space that lies below the range of so many levels: a
    /// space that is loaded with any number of levels has one of these chained under each other
    /// (D12). None if the tables on the way are missing, or the space has fewer levels.
    pub fn root_with_levels(&self, levels: u8) -> Option<RootWord> {
        let wanted = RootWord::new(PhysAddr::new(0), levels).root_level();
        // SAFETY: nothing is changed.
        let (table, _) = unsafe { self.entry(0, wanted).ok()? };
        Some(RootWord::new(table.pa(), levels))
    }

    /// Maps the block of `level` at `va` in tables that are [prepared](Self::prepare). Callers of
    /// this and of [`Self::hide`] take turns: that is what serialises a special space.
    ///
    /// # Errors
    /// [`TableError::BadRange`] without a table, [`TableError::Occupied`] if something is mapped.
    pub fn show(
        &self,
        va: u64,
        pa: PhysAddr,
        attrs: Attrs,
        level: Level,
    ) -> Result<(), TableError> {
        // SAFETY: callers take turns, by this function's contract; its tables are never freed.
        let (table, slot) = unsafe { self.entry(va, level)? };
        if !slot.raw().is_none() {
            return Err(TableError::Occupied);
        }
        let pte = self.machine().format().leaf(pa, attrs, level);
        slot.put(&Writer::open(self.machine()), pte);
        table.add_entries(1);
        self.machine().publish(SpaceKind::Special);
        Ok(())
    }

    /// Unmaps the block of `level` at `va` and flushes it, in the space that is loaded with `asid`.
    ///
    /// # Errors
    /// [`TableError::BadRange`] if no such block is mapped there.
    pub fn hide(&self, va: u64, level: Level, asid: u16) -> Result<(), TableError> {
        // SAFETY: as in `show`.
        let (table, slot) = unsafe { self.entry(va, level)? };
        if !slot.raw().is_leaf(level) {
            return Err(TableError::BadRange);
        }
        slot.take(&Writer::open(self.machine()));
        table.add_entries(-1);
        let (start, end) = (va, va + level.size());
        self.machine().before_invalidate();
        self.machine().invalidate(Invalidation::Range {
            asid,
            start,
            end,
            level,
            tables: false,
        });
        Ok(())
    }
}
