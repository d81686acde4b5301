//! A locked leaf table, or a part of it: the changes of pages.

use arm64::UserAddr;
use arm64::addr::{Pfn, PhysAddr};
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::{CONT_ENTRIES, Level};
use arm64::pte::Pte;
use frame::{Bytes, Folio, Page, UserFrame};
use sync::planted::{self, Fault};

use core::marker::PhantomData;
use core::ops::{Deref, Range};

use crate::cells::Cells;
use crate::contpte::{Change, each_of_block, ends_block, page};
use crate::gather::{Flush, Gather};
use crate::machine::Machine;
use crate::part::Part;
use crate::pin::reach;
use crate::rights::Rights;
use crate::slot::{LockedSlot, ptep_get};
use crate::space::{Kind, SpaceKind, User};
use crate::tags::settle;
use crate::value::Value;
use crate::writer::Writer;

pub(crate) const PAGE: u64 = Level::L3.size();
/// Entries of a contiguous block on hardware: what loops are laid out for.
pub(crate) const BLOCK: usize = CONT_ENTRIES as usize;

/// Why a kernel access through a user address has to take the fault path first (D4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAllowed;

/// There is an entry already where one was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupied;

/// What became of a wish to record an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accessed {
    /// The entry does not allow the access.
    NotAllowed,
    /// Every entry concerned says so already: the CPU holds a translation older than that.
    Already,
    /// Recorded now, in every entry that translates `[start, end)`.
    Recorded {
        /// First byte.
        start: u64,
        /// First byte behind.
        end: u64,
    },
}

/// A part of a table of level 3, its serialiser held.
pub struct Leaf<'g, K: Kind, M: Machine>(Part<'g, K, M>);

impl<'g, K: Kind, M: Machine> Deref for Leaf<'g, K, M> {
    type Target = Part<'g, K, M>;

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'g, K: Kind, M: Machine> Leaf<'g, K, M> {
    pub(crate) fn new(part: Part<'g, K, M>) -> Self {
        Self(part)
    }

    /// Makes the part smaller: only `[from, to)`, which lies in the same table.
    ///
    /// # Panics
    /// If it does not.
    pub fn narrow(&mut self, from: u64, to: u64) {
        let table = Level::L3.size() * self.table.entries() as u64;
        let home = self.0.from / table;
        assert!(
            from < to && from / table == home && (to - 1) / table == home,
            "{from:#x}..{to:#x} is in another table"
        );
        (self.0.from, self.0.to) = (from, to);
    }

    /// The slot of `va`, for [`ptep_get`] with [`Part::guard`].
    #[inline(always)]
    pub fn slot(&self, va: u64) -> LockedSlot<'_> {
        self.guard.slot(&self.table, self.table.index(va))
    }

    /// The entry of `va`.
    #[inline]
    pub fn get(&self, va: u64) -> Value {
        ptep_get(&self.slot(va), &self.guard)
    }

    /// The entry `index` as it is.
    #[inline(always)]
    pub(crate) fn raw(&self, index: usize) -> Pte {
        self.guard.slot(&self.table, index).raw()
    }

    /// Entries of the whole table that are not none.
    pub fn mapped(&self) -> u32 {
        self.table.entry_count_of(self.guard.meta())
    }

    /// Counts entries that are not none; as `TableRef::add_entries`, with the record at hand.
    #[inline(always)]
    pub(crate) fn add_entries(&self, delta: i32) {
        self.table.add_entries_of(self.guard.meta(), delta);
    }

    /// Does `act` to every entry of the part, in one batch; it says by how many the entries that
    /// are not none change.
    pub(crate) fn each_raw(&self, mut act: impl FnMut(&LockedSlot<'_>, &Writer<'_, M>) -> i32) {
        let writer = Writer::open(self.space.machine());
        let pages = self.to.wrapping_sub(self.from) / PAGE;
        let delta = (0..pages).map(|i| act(&self.slot(self.from + i * PAGE), &writer));
        self.add_entries(delta.sum());
    }
}

impl<M: Machine> Leaf<'_, User, M> {
    /// Does `act` with the table open for writing: once per batch (XC-07).
    #[inline(always)]
    pub(crate) fn write<R>(&self, act: impl FnOnce(&Change<'_, '_, M>) -> R) -> R {
        let writer = Writer::open(self.space.machine());
        act(&self.change(&writer))
    }

    /// The table with what it takes to change it while `writer` is open.
    #[inline(always)]
    pub(crate) fn change<'a>(&'a self, writer: &'a Writer<'a, M>) -> Change<'a, 'a, M> {
        debug_assert!(
            self.guard.covers(&self.table),
            "CTOR-09: a change under the wrong lock"
        );
        Change {
            table: self.table,
            held: PhantomData,
            writer,
            stats: self.space.stats(),
            space: self.space.owner().id,
            base: self.from & !(self.table.entries() as u64 * PAGE - 1),
            asid: self.space.asid_cell(),
        }
    }

    /// Whether nothing at all is at the `count` pages from `va` on.
    #[inline(always)]
    pub fn is_empty(&self, va: u64, count: usize) -> bool {
        let first = self.table.index(va);
        let mut all = 0;
        each_of_block(count, |i| {
            all |= self.guard.slot(&self.table, first + i).raw().raw();
        });
        all == 0
    }

    /// Maps `frame` at `va`. A new valid user entry needs no barrier of its own: a CPU that
    /// missed it faults again and finds it.
    ///
    /// # Errors
    /// The frame comes back if something is mapped there already.
    #[inline(always)]
    pub fn install<F: Page>(&self, va: u64, frame: F, attrs: Attrs) -> Result<(), F> {
        let slot = self.slot(va);
        if !slot.raw().is_none() {
            return Err(frame);
        }
        let pte = page(
            self.space.machine(),
            frame.into_entry().start(),
            attrs,
            F::MEM,
        );
        let writer = Writer::open(self.space.machine());
        self.change(&writer).words().put_new(slot.index, pte);
        if ends_block(&self.table, slot.index, pte) {
            self.change(&writer).try_fold_block(slot.index, va);
        }
        drop(writer);
        self.add_entries(1);
        self.space.machine().publish(SpaceKind::User);
        Ok(())
    }

    /// Maps the page `pfn`, which is not counted, at `va`, and never writable: the shared page of
    /// zeros. It is in no contiguous block.
    ///
    /// # Errors
    /// Something is mapped there already.
    #[inline(always)]
    pub fn install_special(&self, va: u64, pfn: Pfn, attrs: Attrs) -> Result<(), Occupied> {
        let prot = attrs.prot.difference(Prot::WRITE);
        let attrs = attrs.with_prot(prot).with_special(true);
        // Its tags are zeros, like its contents, and its storage is reserved from the start (TAG-28).
        let pte = page(self.space.machine(), pfn.start(), attrs, MemType::Tagged);
        self.put_uncounted(va, pte)
    }

    /// Puts an entry of a page that is not counted where nothing is.
    #[inline(always)]
    fn put_uncounted(&self, va: u64, pte: Pte) -> Result<(), Occupied> {
        let slot = self.slot(va);
        if !slot.raw().is_none() {
            return Err(Occupied);
        }
        let writer = Writer::open(self.space.machine());
        self.change(&writer).words().put_new(slot.index, pte);
        drop(writer);
        self.add_entries(1);
        self.space.machine().publish(SpaceKind::User);
        Ok(())
    }

    /// Maps the page of registers at `pfn`, which is no memory: not counted, in no contiguous block, never
    /// executed. It is born accessed and written, since nothing asks for either.
    ///
    /// # Errors
    /// Something is mapped there already.
    pub fn install_device(&self, va: u64, pfn: Pfn, prot: Prot) -> Result<(), Occupied> {
        let mem = match planted::is(Fault::DeviceAsNormal) {
            true => MemType::Normal,
            false => MemType::Device,
        };
        let attrs = Attrs::user(prot.difference(Prot::EXEC))
            .with_mem(mem)
            .with_special(true);
        let attrs = attrs.with_young(true).with_dirty(true);
        let pte = self
            .space
            .machine()
            .format()
            .leaf(pfn.start(), attrs, Level::L3);
        self.put_uncounted(va, pte)
    }

    /// Maps the frames that `next` gives, one page each, from `va` on, until it gives none, the
    /// table ends, or something is mapped already; returns how many. `next` is asked only when
    /// there is a place.
    pub fn install_pages(
        &self,
        va: u64,
        attrs: Attrs,
        mut next: impl FnMut() -> Option<UserFrame>,
    ) -> usize {
        let (format, first) = (self.space.machine().format(), self.table.index(va));
        let frames = self.space.machine().frames();
        let template = page(
            self.space.machine(),
            PhysAddr::new(0),
            attrs,
            MemType::Normal,
        );
        let mut i = first;
        self.write(|change| {
            let cells = change.words();
            while i < self.table.entries() {
                if !cells.raw(i).is_none() {
                    break;
                }
                let Some(frame) = next() else { break };
                let pfn = frame.into_entry();
                let pte = format.with_pa(template, pfn.start(), Level::L3);
                cells.put_new(i, settle(frames, pte, pfn));
                change.try_fold(i, va + (i - first) as u64 * PAGE);
                i += 1;
            }
        });
        self.add_entries((i - first) as i32);
        self.space.machine().publish(SpaceKind::User);
        i - first
    }

    /// Maps the folios that `next` gives, of `count` pages each, one behind the other from `va` on, as
    /// [`Self::install_pages`] does with single pages; returns how many.
    pub fn install_folios(
        &self,
        va: u64,
        count: usize,
        attrs: Attrs,
        mut next: impl FnMut() -> Option<UserFrame>,
    ) -> usize {
        let (format, first) = (self.space.machine().format(), self.table.index(va));
        let template = page(
            self.space.machine(),
            PhysAddr::new(0),
            attrs,
            MemType::Normal,
        );
        let mut i = first;
        self.write(|change| {
            while i + count <= self.table.entries()
                && self.is_empty(va + (i - first) as u64 * PAGE, count)
            {
                let Some(frame) = next() else { break };
                let pa = frame.into_entries(count as u32).start();
                let pte = format.with_pa(template, pa, Level::L3);
                change.set_batch(i, count, pte, None);
                i += count;
            }
        });
        self.add_entries((i - first) as i32);
        self.space.machine().publish(SpaceKind::User);
        (i - first) / count
    }

    /// Maps `count` pages of one folio from `frame` on, at `va` and behind, in one batch; aligned
    /// blocks come out contiguous. With `touched`, only that page is born young (and dirty, if
    /// `attrs` is): for CPUs that record both by themselves. Each page takes a reference.
    ///
    /// # Errors
    /// The frame comes back if something is mapped in the range already.
    #[inline(always)]
    pub fn install_folio<F: Folio>(
        &self,
        va: u64,
        frame: F,
        count: usize,
        attrs: Attrs,
        touched: Option<u64>,
    ) -> Result<(), F> {
        if !self.is_empty(va, count) {
            return Err(frame);
        }
        let references = match planted::is(Fault::OneReferencePerBlock) {
            true => 1,
            false => count as u32,
        };
        let pfn = frame.into_entries(references);
        let first = page(self.space.machine(), pfn.start(), attrs, F::MEM);
        let touched = touched.map(|at| ((at - va) / PAGE) as usize);
        let writer = Writer::open(self.space.machine());
        self.change(&writer)
            .set_batch(self.table.index(va), count, first, touched);
        drop(writer);
        self.add_entries(count as i32);
        self.space.machine().publish(SpaceKind::User);
        Ok(())
    }

    /// Sets access flag, and dirty state for a write, of the page at `va` if it allows that. In a
    /// contiguous block all entries are set, unless all raw ones are as wanted: an agent that
    /// looks at one of them must not fault on it for ever (law 7).
    pub fn mark_accessed(&self, va: u64, write: bool) -> Accessed {
        let slot = self.slot(va);
        let raw = slot.raw();
        if !raw.is_leaf(Level::L3) || !raw.user() || write && !raw.writable() {
            return Accessed::NotAllowed;
        }
        let wanted = |pte: Pte| match write {
            true => pte.mkyoung().mkdirty(),
            false => pte.mkyoung(),
        };
        let (first, count) = self.block_of(&slot, raw);
        let as_wanted = |i: usize| {
            let pte = self.guard.slot(&self.table, first + i).raw();
            wanted(pte) == pte
        };
        let already = match planted::is(Fault::GatheredNoop) {
            true => {
                let seen = ptep_get(&slot, &self.guard);
                seen.young() && (seen.dirty() || !write)
            }
            false => (0..count).all(as_wanted),
        };
        if already {
            return Accessed::Already;
        }
        self.write(|change| {
            let cells = change.words();
            for i in first..first + count {
                cells.update(i, |pte| Some(wanted(pte)).filter(|new| *new != pte));
            }
        });
        let start = (va & !(PAGE - 1)) - (slot.index - first) as u64 * PAGE;
        let end = start + count as u64 * PAGE;
        Accessed::Recorded { start, end }
    }

    /// The entries that change together with `slot`: its block's, or it alone.
    #[inline(always)]
    fn block_of(&self, slot: &LockedSlot<'_>, raw: Pte) -> (usize, usize) {
        let entries = self.table.shape().cont_entries();
        match raw.is_contiguous() {
            true => (slot.index & !(entries - 1), entries),
            false => (slot.index, 1),
        }
    }

    /// Writes user memory of one page under the table lock, which is what makes it safe against
    /// write-protection and unmapping (law 17). `bytes` must not cross the page. How many bytes: fewer
    /// where a tag that is compared differs.
    ///
    /// # Errors
    /// The entry does not allow it: the fault path decides.
    pub fn write_user(&self, at: UserAddr, bytes: &[u8]) -> Result<usize, NotAllowed> {
        self.with_writable(at, bytes.len(), |frame, offset, reach| {
            frame.write(offset, &bytes[..reach]);
            reach
        })
    }

    /// As [`Self::write_user`], from a part of a page.
    ///
    /// # Errors
    /// As [`Self::write_user`].
    pub fn copy_user(&self, at: UserAddr, bytes: Bytes<'_>) -> Result<usize, NotAllowed> {
        self.with_writable(at, bytes.len, |frame, offset, len| {
            frame.copy_from(offset, Bytes { len, ..bytes });
            len
        })
    }

    /// Compare-and-exchange of a 32-bit word of user memory; the value found comes back. None: a tag
    /// differs.
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

    /// Accesses `len` bytes at `at`, which may be written: `access` has the page, the offset in it, and
    /// how many bytes the tag lets pass.
    fn with_writable<R>(
        &self,
        at: UserAddr,
        len: usize,
        access: impl FnOnce(&UserFrame, usize, usize) -> R,
    ) -> Result<R, NotAllowed> {
        let va = at.va();
        if self.mark_accessed(va, true) == Accessed::NotAllowed {
            return Err(NotAllowed);
        }
        let machine = self.space.machine();
        let raw = self.slot(va).raw();
        let pfn = machine.format().pa(raw, Level::L3).pfn();
        let frame = machine.frames().try_pin_user(pfn).ok_or(NotAllowed)?;
        let offset = (va & 0xfff) as usize;
        let reach = reach(&frame, raw.mem_type(), at.write_tag(), offset, len);
        Ok(access(&frame, offset, reach))
    }

    /// The indices of the part: the first, and the one behind.
    #[inline(always)]
    pub(crate) fn indices(&self) -> (usize, usize) {
        let first = self.table.index(self.from);
        (
            first,
            first + (self.to.wrapping_sub(self.from) / PAGE) as usize,
        )
    }

    /// The address of the entry `index`, which lies in the part or behind it.
    #[inline(always)]
    pub(crate) fn va_of(&self, index: usize) -> u64 {
        let first = self.table.index(self.from);
        (self.from & !(PAGE - 1)) + (index - first) as u64 * PAGE
    }

    /// Gives every mapped page of the part the rights `prot`; without any, the entry stays present
    /// to software only. Whole blocks stay folded, a block that is covered in part is unfolded
    /// first (law 5), and pages that became alike are folded. What is special or carries the
    /// userfaultfd mark does not become writable (law 10).
    pub fn protect(&self, prot: Prot, gather: &mut Gather) {
        self.protect_by(Rights::new(prot), gather);
    }

    pub(crate) fn protect_by(&self, rights: Rights, gather: &mut Gather) {
        match rights.are_restricted() {
            true => self.change_each(gather, |pte| rights.apply(pte)),
            false => self.change_each(gather, |pte| rights.apply_to_any(pte)),
        }
    }

    /// Takes the right to write from every page of the part; what is dirty stays dirty.
    pub fn write_protect(&self, gather: &mut Gather) {
        self.change_each(gather, Pte::wrprotect);
    }

    #[inline(always)]
    fn change_each(&self, gather: &mut Gather, change_to: impl Fn(Pte) -> Pte) {
        let flush = self.write(|change| self.change_mapped(change, change_to));
        flush.tell(gather, |index| self.va_of(index));
    }

    /// Changes what refers to a frame; what that makes to be flushed.
    #[inline(always)]
    pub(crate) fn change_mapped(
        &self,
        change: &Change<'_, '_, M>,
        change_to: impl Fn(Pte) -> Pte,
    ) -> Flush {
        let mut flush = Flush::NOTHING;
        let mut known = change.nothing_known();
        let (mut i, end) = self.indices();
        while i < end {
            let group = change.group_end(i, end);
            let raw = change.words().raw(i);
            let whole = raw.is_contiguous()
                && (change.is_whole(i, end)
                    || change.run(i, end - i, self.va_of(i), Fault::ProtectWithoutUnfold) != 1);
            let new = change_to(raw);
            if whole && !new.is_valid() {
                // An invalid entry is in no block: what one entry recorded for the others is
                // spread over them (XC-02). Nothing is made in place of what is broken, so that it
                // owes one flush, at the end, like any entry that becomes invalid.
                change.invalidate_block(i, &change_to);
                flush.add(i, group - i);
                i = group;
                continue;
            }
            let changed = match whole {
                true => change.change_block(i, raw, new, &change_to),
                false => change.change_alike(i, group, &change_to, &mut known),
            };
            if changed {
                flush.add(i, group - i);
            }
            if !whole {
                change.try_fold(group - 1, self.va_of(group - 1));
            }
            i = group;
        }
        flush
    }

    /// Clears the accessed flag of every page of the part, of a contiguous block's always as a
    /// whole; whether one was set.
    pub fn clear_young(&self, gather: &mut Gather) -> bool {
        let start = self.table.index(self.from);
        let flush = self.write(|change| {
            let mut flush = Flush::NOTHING;
            let (mut i, end) = self.indices();
            let cells = change.words();
            let block = self.table.shape().cont_entries();
            while i < end {
                // Only a group that is covered in part matters as to whether it is folded.
                if block == BLOCK && i & (BLOCK - 1) == 0 {
                    // In one go while there are whole ones.
                    while end - i >= BLOCK {
                        if clear_young_block(cells, i) {
                            flush.add(i, BLOCK);
                        }
                        i += BLOCK;
                    }
                    if i == end {
                        break;
                    }
                }
                let (first, behind) = match cells.raw(i).is_contiguous() {
                    true => (i & !(block - 1), change.group_end(i, self.table.entries())),
                    false => (i, change.group_end(i, end)),
                };
                if clear_young_each(cells, first..behind) {
                    flush.add(first, behind - first);
                }
                i = behind;
            }
            flush
        });
        // A block may begin before the part.
        let va_of = |index: usize| match index < start {
            true => (self.from & !(PAGE - 1)) - (start - index) as u64 * PAGE,
            false => self.va_of(index),
        };
        flush.tell(gather, va_of)
    }

    /// Takes the entry of `va` out as it is, for [`Self::put_moved`] elsewhere in the same space.
    pub fn take_moved(&self, va: u64, gather: &mut Gather) -> Option<Moved<PageLevel>> {
        let slot = self.slot(va);
        if slot.raw().is_none() {
            return None;
        }
        let pte = self.write(|change| {
            change.unfold(slot.index, va);
            slot.take(change.writer)
        });
        self.add_entries(-1);
        // As in `take_pages`.
        if pte.maps_frame(Level::L3) {
            gather.changed(va, va + PAGE, Level::L3);
        }
        Some(Moved(pte, PhantomData))
    }

    /// Puts a moved entry into the empty slot of `va`.
    ///
    /// # Errors
    /// It comes back if the slot is not none.
    pub fn put_moved(&self, va: u64, moved: Moved<PageLevel>) -> Result<(), Moved<PageLevel>> {
        let slot = self.slot(va);
        if !slot.raw().is_none() {
            return Err(moved);
        }
        self.write(|change| {
            slot.put(change.writer, moved.0);
            change.try_fold(slot.index, va);
        });
        self.add_entries(1);
        self.space.machine().publish(SpaceKind::User);
        Ok(())
    }
}

/// Makes a group of entries old; whether one was young. Most groups that are
/// looked at are old, and of most others one page is young: they are read in quarters first.
#[inline(always)]
fn clear_young_block<M: Machine>(cells: Cells<'_, M>, first: usize) -> bool {
    const QUARTER: usize = BLOCK / 4;
    let quarter = |q: usize| {
        let start = first + q * QUARTER;
        (1..QUARTER).fold(cells.raw(start), |all, i| all.or(cells.raw(start + i)))
    };
    let quarters = [quarter(0), quarter(1), quarter(2), quarter(3)];
    let [a, b, c, d] = quarters;
    if !a.or(b).or(c.or(d)).young() {
        return false;
    }
    let mut any = false;
    for (q, together) in quarters.into_iter().enumerate() {
        let start = first + q * QUARTER;
        any |= together.young() && clear_young_each(cells, start..start + QUARTER);
    }
    any
}

#[inline(always)]
fn clear_young_each<M: Machine>(cells: Cells<'_, M>, indices: Range<usize>) -> bool {
    let mut any = false;
    for i in indices {
        let pte = cells.raw(i);
        if pte.young() && pte.is_leaf(Level::L3) {
            cells.make_old(i);
            any = true;
        }
    }
    any
}

/// Level of pages, for entries on their way.
#[derive(Debug)]
pub enum PageLevel {}
/// Level of 2 MiB blocks, for entries on their way.
#[derive(Debug)]
pub enum BlockLevel {}

/// An entry on its way from one address to another, of a level that its type says (PTE-21): it
/// still owns its references.
#[must_use = "a moved entry owns references to its frames"]
#[derive(Debug)]
pub struct Moved<L>(pub(crate) Pte, pub(crate) PhantomData<L>);
