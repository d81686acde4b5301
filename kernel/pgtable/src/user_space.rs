//! Changes of user tables: find or make the leaf table, lock it, change entries, tear out.

use arm64::addr::VaRange;
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use arm64::pte::Pte;
use frame::UserFrame;

use crate::TableError;
use crate::lock::TableLock;
use crate::machine::Machine;
use crate::slot::{ENTRIES, LockedSlot, ReadSide, TableRef, ptep_get, ptep_get_lockless};
use crate::space::{PageTable, SpaceKind, User};
use crate::table::{detach, link_under};
use crate::tlb::Torn;
use crate::walk::{Look, Walked, step};

/// What one call of [`PageTable::zap`] may cost, in looks at absent tables.
const ZAP_BUDGET: u32 = 64;
/// What scanning a leaf table costs in that measure.
const ZAP_LEAF_COST: u32 = 32;

/// Why a kernel access through a user address has to take the fault path first (D4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAllowed;

/// A locked leaf table of a user space.
pub struct Leaf<'g, M: Machine> {
    space: &'g PageTable<User, M>,
    table: TableRef<'g>,
    _lock: TableLock,
}

impl<M: Machine> PageTable<User, M> {
    /// Locks the leaf table of `va`, making the tables on the way (each linked only under its
    /// parent's lock, after the parent was found still linked: D5).
    ///
    /// # Errors
    /// No memory for a table or a hook's refusal; tables made on the way stay, empty ones are
    /// taken back with the range. [`TableError::BadRange`] above the space.
    pub fn lock_leaf<'g>(
        &'g self,
        va: u64,
        section: &ReadSide<'g>,
    ) -> Result<Leaf<'g, M>, TableError> {
        if !self.geometry().contains(va) {
            return Err(TableError::BadRange);
        }
        'again: loop {
            let mut table = self.root(section);
            while table.level() != Level::L3 {
                let index = self.geometry().index(va, table.level());
                let pte = ptep_get_lockless(&table.slot(index), section);
                table = match step(self.machine(), table, pte) {
                    Some(next) => next,
                    None if pte.is_none() => {
                        self.add_table(table, index)?;
                        continue;
                    }
                    None => return Err(TableError::Occupied),
                };
            }
            let lock = TableLock::take(&table);
            if table.is_live() {
                return Ok(Leaf {
                    space: self,
                    table,
                    _lock: lock,
                });
            }
            drop(lock);
            continue 'again;
        }
    }

    /// Locks the leaf table that `look` came to for `va`, or finds or makes it as
    /// [`Self::lock_leaf`] does where the look ended above or the table was unlinked since.
    ///
    /// # Errors
    /// As [`Self::lock_leaf`].
    #[inline(always)]
    pub fn lock_seen<'g>(
        &'g self,
        va: u64,
        look: &Look<'g>,
        section: &ReadSide<'g>,
    ) -> Result<Leaf<'g, M>, TableError> {
        if let Some(table) = look.leaf {
            let lock = TableLock::take(&table);
            if table.is_live() {
                return Ok(Leaf {
                    space: self,
                    table,
                    _lock: lock,
                });
            }
        }
        self.lock_leaf(va, section)
    }

    /// Makes a table for an empty slot of `parent`. Losing the race to another CPU is fine.
    fn add_table(&self, parent: TableRef<'_>, index: usize) -> Result<(), TableError> {
        let Some(level) = parent.level().finer() else {
            return Err(TableError::BadRange);
        };
        let child = self.construct(level)?;
        let lock = TableLock::take(&parent);
        // SAFETY: law 3: the parent's lock is held by `lock`.
        let slot = unsafe { parent.locked_slot(index) };
        let linked = match parent.is_live() {
            true => link_under(self.machine(), parent, &slot, child),
            false => Err(child),
        };
        drop(lock);
        if let Err(child) = linked {
            self.discard(child, level);
        }
        Ok(())
    }

    /// The table of `level` above `va`, or where the way down ends: the size that one entry there
    /// spans, so that a caller can skip it.
    fn table_at<'g>(
        &self,
        va: u64,
        level: Level,
        section: &ReadSide<'g>,
    ) -> Result<TableRef<'g>, Level> {
        let mut table = self.root(section);
        while table.level() != level {
            let index = self.geometry().index(va, table.level());
            let pte = ptep_get_lockless(&table.slot(index), section);
            match step(self.machine(), table, pte) {
                Some(next) => table = next,
                None => return Err(table.level()),
            }
        }
        Ok(table)
    }

    /// Locks the leaf table of `va` if there is one; else says at which level the way ended.
    pub fn lock_existing<'g>(
        &'g self,
        va: u64,
        section: &ReadSide<'g>,
    ) -> Result<Leaf<'g, M>, Level> {
        loop {
            let table = self.table_at(va, Level::L3, section)?;
            let lock = TableLock::take(&table);
            if table.is_live() {
                return Ok(Leaf {
                    space: self,
                    table,
                    _lock: lock,
                });
            }
        }
    }

    /// Takes every mapping out of `range`, one leaf table at a time, until the range ends or
    /// `torn` is full. Empty tables are unlinked and torn out with their entries. Returns where
    /// to go on; the range is done when that is its end.
    pub fn zap(&self, range: VaRange, torn: &mut Torn, section: &ReadSide<'_>) -> u64 {
        let (mut va, end) = (range.start().raw(), range.end().raw());
        let mut budget = ZAP_BUDGET;
        while va < end && torn.has_frame_room() && torn.has_table_room() && budget > 0 {
            let table_end = self.geometry().addr_end(va, end, Level::L2);
            match self.lock_existing(va, section) {
                Err(level) => {
                    budget -= 1;
                    self.unlink_empty(va, level, torn, section);
                    va = self.geometry().addr_end(va, end, level);
                }
                Ok(leaf) => {
                    budget -= ZAP_LEAF_COST.min(budget);
                    va = leaf.zap(va, table_end, torn);
                    let emptied = leaf.table.entry_count() == 0;
                    drop(leaf);
                    if emptied {
                        self.unlink_empty(va - 1, Level::L3, torn, section);
                    }
                }
            }
        }
        va.min(end)
    }

    /// Unlinks the table of `level` above `va` if it is (still) empty, then its parent likewise.
    /// The root stays. Locks: parent, then child (D15).
    fn unlink_empty(&self, va: u64, level: Level, torn: &mut Torn, section: &ReadSide<'_>) {
        let Some(up) = level.coarser() else { return };
        if level == self.geometry().root_level() {
            return;
        }
        let (Ok(parent), Ok(child)) = (
            self.table_at(va, up, section),
            self.table_at(va, level, section),
        ) else {
            return;
        };
        let parent_lock = TableLock::take(&parent);
        let child_lock = TableLock::take(&child);
        // SAFETY: law 3: the parent's lock is held.
        let slot = unsafe { parent.locked_slot(self.geometry().index(va, up)) };
        let linked = ptep_get(&slot) == self.machine().format().table(child.pa());
        if !(linked && parent.is_live() && child.is_live() && child.entry_count() == 0) {
            return;
        }
        slot.take();
        parent.add_entries(-1);
        self.stats().count_freed(level);
        // SAFETY: law 8: the entry that named it has just been removed, under both locks.
        torn.push_table(unsafe { detach(self.machine(), child.pa()) });
        let parent_empty = parent.entry_count() == 0;
        drop((child_lock, parent_lock));
        if parent_empty {
            self.unlink_empty(va, up, torn, section);
        }
    }

    /// Reads user memory of one page without a lock: reference if not zero, load again, same or
    /// give up (GUP-13). `bytes` must not cross a page.
    ///
    /// # Errors
    /// No readable, young page there: the fault path decides.
    pub fn read_user(
        &self,
        va: u64,
        bytes: &mut [u8],
        section: &ReadSide<'_>,
    ) -> Result<(), NotAllowed> {
        let frame = self.pin(va, section)?;
        frame.read((va & 0xfff) as usize, bytes);
        Ok(())
    }

    /// Loads a 32-bit word of user memory, atomically and without a lock.
    ///
    /// # Errors
    /// As [`Self::read_user`].
    pub fn load_user_u32(&self, va: u64, section: &ReadSide<'_>) -> Result<u32, NotAllowed> {
        Ok(self.pin(va, section)?.load_u32((va & 0xfff) as usize))
    }

    /// Takes a reference to the readable page at `va`.
    fn pin(&self, va: u64, section: &ReadSide<'_>) -> Result<UserFrame, NotAllowed> {
        let Walked::Seen {
            pte,
            level: Level::L3,
        } = self.walk(va, section)
        else {
            return Err(NotAllowed);
        };
        if !(pte.user_readable() && pte.young()) {
            return Err(NotAllowed);
        }
        let pfn = self.machine().format().pa(pte, Level::L3).pfn();
        let frame = self
            .machine()
            .frames()
            .try_get_user(pfn)
            .ok_or(NotAllowed)?;
        match self.walk(va, section) {
            Walked::Seen {
                pte: again,
                level: Level::L3,
            } if again.without_ad() == pte.without_ad() => Ok(frame),
            _ => Err(NotAllowed),
        }
    }
}

impl<M: Machine> Leaf<'_, M> {
    #[inline]
    fn slot(&self, va: u64) -> LockedSlot<'_> {
        let index = self.space.geometry().index(va, Level::L3);
        // SAFETY: law 3: the table's lock is held as long as `self` lives.
        unsafe { self.table.locked_slot(index) }
    }

    /// The entry of `va`.
    #[inline]
    pub fn get(&self, va: u64) -> Pte {
        ptep_get(&self.slot(va))
    }

    /// Maps `frame` at `va`. A new valid user entry needs no barrier of its own: a CPU that
    /// missed it faults again and finds it.
    ///
    /// # Errors
    /// The frame comes back if something is mapped there already.
    #[inline]
    pub fn install(&self, va: u64, frame: UserFrame, attrs: Attrs) -> Result<(), UserFrame> {
        let format = self.space.machine().format();
        let pte = format.leaf(frame.pfn().start(), attrs, Level::L3);
        if self.slot(va).set_new(pte).is_err() {
            return Err(frame);
        }
        let _now_the_entrys = frame.into_entry();
        self.table.add_entries(1);
        self.space.machine().publish(SpaceKind::User);
        Ok(())
    }

    /// Sets access flag, and dirty state for a write, of the entry at `va` if it allows that.
    /// Returns whether it did.
    pub fn mark_accessed(&self, va: u64, write: bool) -> bool {
        let mut fits = false;
        self.slot(va).update(|pte| {
            fits = pte.is_leaf(Level::L3) && pte.user() && (!write || pte.writable());
            fits.then(|| {
                if write {
                    pte.mkyoung().mkdirty()
                } else {
                    pte.mkyoung()
                }
            })
        });
        fits
    }

    /// Writes user memory of one page under the table lock, which is what makes it safe against
    /// write-protection and unmapping (law 17). `bytes` must not cross the page.
    ///
    /// # Errors
    /// The entry does not allow it: the fault path decides.
    pub fn write_user(&self, va: u64, bytes: &[u8]) -> Result<(), NotAllowed> {
        self.with_writable(va, |frame| frame.write((va & 0xfff) as usize, bytes))
    }

    /// Compare-and-exchange of a 32-bit word of user memory; the value found comes back.
    ///
    /// # Errors
    /// As [`Self::write_user`].
    pub fn cas_user_u32(&self, va: u64, old: u32, new: u32) -> Result<u32, NotAllowed> {
        self.with_writable(va, |frame| {
            frame
                .cas_u32((va & 0xfff) as usize, old, new)
                .unwrap_or_else(|found| found)
        })
    }

    fn with_writable<R>(
        &self,
        va: u64,
        access: impl FnOnce(&UserFrame) -> R,
    ) -> Result<R, NotAllowed> {
        if !self.mark_accessed(va, true) {
            return Err(NotAllowed);
        }
        let machine = self.space.machine();
        let pfn = machine.format().pa(self.get(va), Level::L3).pfn();
        let frame = machine.frames().try_get_user(pfn).ok_or(NotAllowed)?;
        Ok(access(&frame))
    }

    fn zap(&self, from: u64, end: u64, torn: &mut Torn) -> u64 {
        let format = self.space.machine().format();
        let present = self.table.entry_count() as i32;
        let mut va = from;
        let mut removed = 0;
        while va < end && torn.has_frame_room() {
            if removed == present {
                // What is left of the table is empty.
                va = end;
                break;
            }
            let slot = self.slot(va);
            if !ptep_get(&slot).is_none() {
                removed += 1;
                let pte = slot.take();
                if pte.maps_frame(Level::L3) {
                    torn.push_frame(format.pa(pte, Level::L3).pfn());
                }
            }
            va += Level::L3.size();
        }
        self.table.add_entries(-removed);
        va
    }

    /// Gives every mapped page of `[from, end)` in this table the rights `prot`; without any,
    /// the entry stays present to software only. Returns whether a flush is needed.
    pub fn protect(&self, from: u64, end: u64, prot: Prot) -> bool {
        let mut changed = false;
        let mut va = from;
        while va < end {
            self.slot(va).update(|pte| {
                let new = pte.with_prot(prot | Prot::USER);
                let differs = pte.maps_frame(Level::L3) && new != pte;
                changed |= differs;
                differs.then_some(new)
            });
            va += Level::L3.size();
        }
        changed
    }

    /// Takes the entry of `va` out as it is, for [`Self::put_moved`] elsewhere in the same space.
    pub fn take_moved(&self, va: u64) -> Option<Moved> {
        let slot = self.slot(va);
        if ptep_get(&slot).is_none() {
            return None;
        }
        self.table.add_entries(-1);
        Some(Moved(slot.take()))
    }

    /// Puts a moved entry into the empty slot of `va`.
    ///
    /// # Errors
    /// It comes back if the slot is not none.
    pub fn put_moved(&self, va: u64, moved: Moved) -> Result<(), Moved> {
        self.slot(va).set_new(moved.0).map_err(|_| Moved(moved.0))?;
        self.table.add_entries(1);
        self.space.machine().publish(SpaceKind::User);
        Ok(())
    }

    /// First address behind this table's range, or `end` if that is nearer.
    pub fn end(&self, va: u64, end: u64) -> u64 {
        self.space.geometry().addr_end(va, end, Level::L2)
    }

    /// Mapped pages of this table.
    pub fn mapped(&self) -> usize {
        (self.table.entry_count() as usize).min(ENTRIES)
    }
}

/// An entry on its way from one address to another: it still owns its reference.
#[must_use = "a moved entry owns a reference to its frame"]
#[derive(Debug)]
pub struct Moved(Pte);
