//! Blocks: entries of level 1 or 2 that map memory; splitting them into a table and collapsing a
//! table into one, each by break before make (law 5).

use core::marker::PhantomData;
use core::ops::Deref;

use arm64::UserAddr;
use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::Level;
use arm64::pte::Pte;
use frame::{Bytes, Folio, UserFrame};
use sync::planted::{self, Fault};

use crate::TableError;
use crate::contpte::leaf;
use crate::cursor::{LockError, Visit};
use crate::gather::Gather;
use crate::leaf::{Accessed, BlockLevel, Moved, NotAllowed};
use crate::lock::Guard;
use crate::machine::{Conversion, Machine, Pause};
use crate::part::Part;
use crate::pin::reach;
use crate::rights::Rights;
use crate::slot::{LockedSlot, ReadSide, TableRef, ptep_get};
use crate::space::{Kind, PageTable, SpaceKind, User};
use crate::table::{detach, link};
use crate::value::Value;
use crate::walk::step;
use crate::writer::Writer;
use crate::zap::Zap;

/// The part of a range that one block translates, its table's serialiser held.
pub struct Block<'g, K: Kind, M: Machine>(Part<'g, K, M>);

impl<'g, K: Kind, M: Machine> Deref for Block<'g, K, M> {
    type Target = Part<'g, K, M>;

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'g, K: Kind, M: Machine> Block<'g, K, M> {
    pub(crate) fn new(part: Part<'g, K, M>) -> Self {
        Self(part)
    }

    /// The level of the entry.
    pub fn level(&self) -> Level {
        self.table.level()
    }

    /// The slot of the block, for [`ptep_get`] with [`Part::guard`].
    pub fn slot(&self) -> LockedSlot<'_> {
        self.guard.slot(&self.table, self.table.index(self.from))
    }

    /// The entry.
    pub fn get(&self) -> Value {
        ptep_get(&self.slot(), &self.guard)
    }

    /// Whether the part is the whole block.
    pub fn is_whole(&self) -> bool {
        self.to.wrapping_sub(self.from) == self.level().size()
    }

    /// Changes the entry as a whole; whether it was valid and is different now.
    pub(crate) fn change(&self, change_to: impl Fn(Pte) -> Pte) -> bool {
        debug_assert!(self.is_whole(), "law 5: a part of a block is split first");
        let writer = Writer::open(self.space.machine());
        let mut flush = false;
        self.slot().update(&writer, |pte| {
            let new = change_to(pte);
            flush |= new != pte && pte.is_valid();
            (new != pte).then_some(new)
        });
        flush
    }

    /// Takes the entry out.
    pub(crate) fn take(&self) -> Pte {
        let writer = Writer::open(self.space.machine());
        self.table.add_entries(-1);
        self.slot().take(&writer)
    }
}

impl<M: Machine> Block<'_, User, M> {
    /// Takes the block, which the part covers, out; whether that emptied its table. Nothing of it can
    /// stay, whatever the reason: a block carries no mark (law 9).
    pub fn zap(&self, _zap: Zap, gather: &mut Gather) -> bool {
        let (pte, level) = (self.take(), self.level());
        debug_assert!(!pte.uffd_wp(), "law 9: a block with a mark");
        // Not only if it is valid: another CPU may have made it invalid and not flushed yet.
        if pte.maps_frame(level) {
            gather.changed(self.from, self.to, level);
        }
        if pte.maps_frame(level) && !pte.special() {
            let pfn = self.space.machine().format().pa(pte, level).pfn();
            gather.tear_folio(pfn, (level.size() >> 12) as u32);
        }
        self.table.entry_count() == 0
    }

    /// Gives the block, which the part covers, other rights; a special one does not become writable.
    pub fn protect(&self, prot: Prot, gather: &mut Gather) {
        self.protect_by(Rights::new(prot), gather);
    }

    pub(crate) fn protect_by(&self, rights: Rights, gather: &mut Gather) {
        if self.change(|pte| rights.apply(pte)) {
            gather.changed(self.from, self.to, self.level());
        }
    }

    /// Takes the right to write from the block, which the part covers.
    pub fn write_protect(&self, gather: &mut Gather) {
        if self.change(Pte::wrprotect) {
            gather.changed(self.from, self.to, self.level());
        }
    }

    /// Sets access flag, and dirty state for a write, of the whole block if it allows that, as
    /// [`crate::Leaf::mark_accessed`] does for a page.
    pub fn mark_accessed(&self, write: bool) -> Accessed {
        let raw = self.slot().raw();
        if !raw.is_leaf(self.level()) || !raw.user() || write && !raw.writable() {
            return Accessed::NotAllowed;
        }
        let wanted = |pte: Pte| match write {
            true => pte.mkyoung().mkdirty(),
            false => pte.mkyoung(),
        };
        if wanted(raw) == raw {
            return Accessed::Already;
        }
        let writer = Writer::open(self.space.machine());
        self.slot()
            .update(&writer, |pte| Some(wanted(pte)).filter(|new| *new != pte));
        let size = self.level().size();
        let start = self.from & !(size - 1);
        Accessed::Recorded {
            start,
            end: start + size,
        }
    }

    /// Writes user memory of one page of the block, as [`crate::Leaf::write_user`] does.
    ///
    /// # Errors
    /// The entry does not allow it: the fault path decides.
    pub fn write_user(&self, at: UserAddr, bytes: &[u8]) -> Result<usize, NotAllowed> {
        self.with_writable(at, bytes.len(), |frame, offset, reach| {
            frame.write(offset, &bytes[..reach]);
            reach
        })
    }

    /// As [`crate::Leaf::write_user`], from a part of a page.
    ///
    /// # Errors
    /// As [`Self::write_user`].
    pub fn copy_user(&self, at: UserAddr, bytes: Bytes<'_>) -> Result<usize, NotAllowed> {
        self.with_writable(at, bytes.len, |frame, offset, len| {
            frame.copy_from(offset, Bytes { len, ..bytes });
            len
        })
    }

    /// Compare-and-exchange of a 32-bit word, as [`crate::Leaf::cas_user_u32`] does.
    ///
    /// # Errors
    /// As [`Self::write_user`].
    pub fn cas_user_u32(
        &self,
        at: UserAddr,
        old: u32,
        new: u32,
    ) -> Result<Option<u32>, NotAllowed> {
        self.with_writable(at, 4, |frame, offset, reach| {
            (reach == 4).then(|| {
                frame
                    .cas_u32(offset, old, new)
                    .unwrap_or_else(|found| found)
            })
        })
    }

    /// As [`crate::Leaf::write_user`]'s way to the page.
    fn with_writable<R>(
        &self,
        at: UserAddr,
        len: usize,
        access: impl FnOnce(&UserFrame, usize, usize) -> R,
    ) -> Result<R, NotAllowed> {
        let va = at.va();
        if self.mark_accessed(true) == Accessed::NotAllowed {
            return Err(NotAllowed);
        }
        let machine = self.space.machine();
        let raw = self.slot().raw();
        let first = machine.format().pa(raw, self.level()).pfn();
        let page = (va & (self.level().size() - 1)) >> 12;
        let frame = machine
            .frames()
            .try_pin_user(first.add(page))
            .ok_or(NotAllowed)?;
        let offset = (va & 0xfff) as usize;
        let reach = reach(&frame, raw.mem_type(), at.write_tag(), offset, len);
        Ok(access(&frame, offset, reach))
    }

    /// Takes the entry out as it is, for [`PageTable::put_moved_block`].
    pub fn take_moved(&self, gather: &mut Gather) -> Moved<BlockLevel> {
        let pte = self.take();
        gather.changed(self.from, self.to, self.level());
        Moved(pte, PhantomData)
    }
}

impl<M: Machine> PageTable<User, M> {
    /// Maps a folio of at least the size of a block of `level` at `va`: each page that the block covers
    /// takes a reference. Tables are made and locked as by [`Self::lock_leaf`]: the entry is written
    /// only after `still` was true under its lock.
    ///
    /// # Errors
    /// As [`Self::lock_leaf`], with the frame; [`TableError::Occupied`] also over a table, even an
    /// empty one; [`TableError::BadRange`] for an address or frame that is not aligned, a folio of
    /// another size, and a userfaultfd mark, which blocks do not carry.
    pub fn map_block<F: Folio>(
        &self,
        va: u64,
        level: Level,
        frame: F,
        attrs: Attrs,
        section: &ReadSide<'_>,
        still: impl Fn() -> bool,
    ) -> Result<(), (LockError, F)> {
        let (pa, pages) = (frame.first().start(), level.size() >> 12);
        if 1 << frame.block_order() < pages {
            return Err((TableError::BadRange.into(), frame));
        }
        let room = self.room_for_block(va, level, (pa, attrs), section, &still);
        let (table, guard) = match room {
            Ok(room) => room,
            Err(error) => return Err((error, frame)),
        };
        // Before the entry: what it gives up later it has to own.
        let _now_the_entrys = frame.into_entries(pages as u32);
        self.put_block(va, (&table, &guard), pa, attrs, F::MEM);
        Ok(())
    }

    /// As [`Self::map_block`], memory that is not counted: with [`Attrs::special`].
    ///
    /// # Errors
    /// As [`Self::map_block`].
    pub fn map_special_block(
        &self,
        va: u64,
        level: Level,
        pa: PhysAddr,
        attrs: Attrs,
        section: &ReadSide<'_>,
        still: impl Fn() -> bool,
    ) -> Result<(), LockError> {
        let attrs = attrs.with_special(true);
        let (table, guard) = self.room_for_block(va, level, (pa, attrs), section, &still)?;
        self.put_block(va, (&table, &guard), pa, attrs, attrs.mem);
        Ok(())
    }

    /// The locked table whose entry for `va` is none, if a block may be there.
    fn room_for_block<'g>(
        &'g self,
        va: u64,
        level: Level,
        (pa, attrs): (PhysAddr, Attrs),
        section: &ReadSide<'g>,
        still: &dyn Fn() -> bool,
    ) -> Result<(TableRef<'g>, Guard<'g>), LockError> {
        let aligned = (va | pa.raw()) & (level.size() - 1) == 0;
        if !aligned || attrs.uffd_wp || !self.machine().format().has_leaf(level) {
            return Err(TableError::BadRange.into());
        }
        let (table, guard) = self.lock_table(va, level, section, still)?;
        match guard.slot(&table, table.index(va)).raw().is_none() {
            true => Ok((table, guard)),
            false => Err(TableError::Occupied.into()),
        }
    }

    fn put_block(
        &self,
        va: u64,
        (table, guard): (&TableRef<'_>, &Guard<'_>),
        pa: PhysAddr,
        attrs: Attrs,
        is: MemType,
    ) {
        let (machine, slot) = (self.machine(), guard.slot(table, table.index(va)));
        let block = leaf(machine, pa, attrs, is, table.level());
        slot.put(&Writer::open(machine), block);
        table.add_entries(1);
        machine.publish(SpaceKind::User);
    }

    /// Puts a moved block at `va`, where there is nothing.
    ///
    /// # Errors
    /// As [`Self::lock_leaf`], with the entry.
    pub fn put_moved_block(
        &self,
        va: u64,
        moved: Moved<BlockLevel>,
        section: &ReadSide<'_>,
    ) -> Result<(), (LockError, Moved<BlockLevel>)> {
        if va & (Level::L2.size() - 1) != 0 {
            return Err((TableError::BadRange.into(), moved));
        }
        let (table, guard) = match self.lock_table(va, Level::L2, section, &|| true) {
            Ok(locked) => locked,
            Err(error) => return Err((error, moved)),
        };
        let slot = guard.slot(&table, table.index(va));
        if !slot.raw().is_none() {
            return Err((TableError::Occupied.into(), moved));
        }
        slot.put(&Writer::open(self.machine()), moved.0);
        table.add_entries(1);
        Ok(())
    }

    /// Replaces the block around `va` by a table of entries that map the same, if there is one:
    /// break, invalidate, link. EL0 may fault in between and waits for the lock.
    ///
    /// # Errors
    /// No memory for the table, or a refusal: the block stays.
    pub fn split_block(&self, va: u64, section: &ReadSide<'_>) -> Result<(), TableError> {
        let Some((level, start)) = self.block_at(va, section) else {
            return Ok(());
        };
        let Some(finer) = level.finer() else {
            return Ok(());
        };
        let child = self.construct(self.geometry(), finer)?;
        let range = VaRange::from_len(VirtAddr::new(start), level.size());
        let range = range.ok_or(TableError::BadRange)?;
        match self.cursor(range, section).visit() {
            Some(Visit::Block(block)) if block.level() == level => {
                self.split_locked(&block, child, finer);
            }
            // It went, or was split, meanwhile.
            _ => self.discard(child, finer),
        }
        Ok(())
    }

    pub(crate) fn block_at(&self, va: u64, section: &ReadSide<'_>) -> Option<(Level, u64)> {
        let look = self.look(va, section);
        let level = look.level();
        let block = level != Level::L3 && look.value.maps_frame(level);
        block.then_some((level, va & !(level.size() - 1)))
    }

    fn split_locked(&self, block: &Block<'_, User, M>, child: frame::TableFrame, finer: Level) {
        let machine = self.machine();
        let writer = Writer::open(machine);
        let slot = block.slot();
        let broken = !planted::is(Fault::SplitWithoutBreak);
        let old = match broken {
            true => slot.take(&writer),
            false => slot.raw(),
        };
        machine.pause(Pause::Repaint);
        if broken && old.is_valid() {
            let mut gather = Gather::new();
            gather.changed(block.from, block.to, block.level());
            let _frees_nothing = gather.flush(self);
        }
        let pa = link(child);
        // SAFETY: law 8: constructed, and nobody else knows it before it is linked.
        let table = unsafe { TableRef::new(machine.frames(), block.table.shape(), pa, finer) };
        let (format, contiguous) = (machine.format(), finer == Level::L3);
        let from = format.pa(old, block.level());
        for index in 0..table.entries() {
            let to = PhysAddr::new(from.raw() + index as u64 * finer.size());
            let pte = format.at_level(old, to, finer, contiguous);
            // SAFETY: law 3: nobody else knows the table.
            unsafe { table.locked_slot(index) }.put(&writer, pte);
        }
        table.add_entries(table.entries() as i32);
        let entry = machine.format().table(pa);
        match broken {
            true => slot.put(&writer, entry),
            false => slot.update(&writer, |_| Some(entry)),
        }
        machine.publish(SpaceKind::User);
        self.stats().count_split();
        let bytes = block.to - block.from;
        machine.converted(Conversion::Split, self.owner().id, block.from, bytes);
    }

    /// Replaces the table around `va` by a block, if every entry of it maps the next page of one
    /// folio alike, without a userfaultfd mark, which a block would lose when it is unmapped: break, invalidate with walk caches, make. The table is torn out into `gather`.
    /// Returns whether it did; it does not where the gather has no room for a table.
    pub fn collapse(&self, va: u64, gather: &mut Gather, section: &ReadSide<'_>) -> bool {
        let root = self.root(section);
        let mut parent = root;
        if !self.contains(&root, va) || root.level() > Level::L2 || !gather.has_table_room() {
            return false;
        }
        while parent.level() != Level::L2 {
            let pte = parent.load(parent.index(va), core::sync::atomic::Ordering::Acquire);
            match step(self.machine(), parent, pte) {
                Some(next) => parent = next,
                None => return false,
            }
        }
        let parent_guard = Guard::lock(&parent);
        let slot = parent_guard.slot(&parent, parent.index(va));
        let Some(child) = step(self.machine(), parent, slot.raw()) else {
            return false;
        };
        let child_guard = Guard::lock(&child);
        if !parent_guard.is_live() || !child_guard.is_live() || self.was_root(&child, va) {
            return false;
        }
        let Some(block) = self.block_of_table(&child, &child_guard) else {
            return false;
        };
        self.collapse_locked(va, &slot, (child, child_guard), block, gather);
        true
    }

    /// The block that would map what the table maps, accessed and dirty left out.
    fn block_of_table(&self, table: &TableRef<'_>, guard: &Guard<'_>) -> Option<Pte> {
        let format = self.machine().format();
        let first = guard.slot(table, 0).raw();
        let pa = format.pa(first, Level::L3);
        let order = table.frames().meta(pa.pfn())?.order();
        if !first.is_leaf(Level::L3)
            || first.uffd_wp()
            || !pa.is_aligned(Level::L2.size())
            || 1u64 << order < Level::L2.size() >> 12
        {
            return None;
        }
        let plain = |pte: Pte| pte.without_ad().with_contiguous(false);
        let alike = (1..table.entries()).all(|i| {
            let next = PhysAddr::new(pa.raw() + i as u64 * Level::L3.size());
            let entry = guard.slot(table, i).raw();
            plain(entry) == format.with_pa(plain(first), next, Level::L3)
        });
        (alike || planted::is(Fault::CollapseUnchecked))
            .then(|| format.at_level(plain(first), pa, Level::L2, false))
    }

    fn collapse_locked(
        &self,
        va: u64,
        slot: &LockedSlot<'_>,
        (child, child_guard): (TableRef<'_>, Guard<'_>),
        block: Pte,
        gather: &mut Gather,
    ) {
        let machine = self.machine();
        let start = va & !(Level::L2.size() - 1);
        let writer = Writer::open(machine);
        slot.take(&writer);
        self.stats().count_freed(child.level());
        // SAFETY: law 8: the entry that named it has just been removed, under both locks.
        gather.tear_table(unsafe { detach(machine, child.pa()) });
        gather.changed(start, start + Level::L2.size(), Level::L2);
        gather.changed(start, start + Level::L2.size(), Level::L3);
        // No hardware walker reaches the table any more: what it recorded stays as it is.
        let _covers_the_gather = gather.flush(self);
        let mut new = block;
        for index in 0..child.entries() {
            let old = child_guard.slot(&child, index).raw();
            new = if old.young() { new.mkyoung() } else { new };
            new = if old.dirty() { new.mkdirty() } else { new };
        }
        slot.put(&writer, new);
        machine.publish(SpaceKind::User);
        self.stats().count_collapse();
    }
}
