//! Contiguous blocks: sixteen entries that the hardware may hold as one translation (law 6).
//!
//! Contiguity is a cache of facts, never a fact: callers change single pages and ranges, and the
//! functions here fold sixteen entries when they happen to fit and unfold them before a part of
//! them changes. What the hardware records per entry (accessed, dirty) belongs to the whole block
//! while it is folded: it may spread over the block, and is never lost.
//!
//! Only tables of user spaces come here (XC-13): repainting a block makes its entries invalid for a
//! moment, and only faults of EL0 wait for the table's lock.
//! [Arm ARM D8.6.1 “The Contiguous bit”; requirements B.1]

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::{CONT_ENTRIES, Level};
use arm64::pte::Pte;
use sync::atomic::fence;
use sync::planted::{self, Fault};

use crate::asid::AsidCell;
use crate::cells::Cells;
use crate::lock::Guard;
use crate::machine::{Conversion, Invalidation, Machine, Pause};
use crate::slot::{Loaded, TableRef};
use crate::stats::TableStats;
use crate::value::Value;
use crate::writer::Writer;

/// How often a lockless read starts over before it answers "none", which is what the entries of a
/// block that is being repainted are for a moment. Models try every outcome of every try.
const LOCKLESS_TRIES: u32 = if cfg!(loom) { 3 } else { 64 };

/// A table with what it takes to change it.
pub(crate) struct Change<'a, 't, M: Machine> {
    pub(crate) table: TableRef<'t>,
    /// The table's serialiser is held as long as this is borrowed from who holds it (CTOR-09).
    pub(crate) held: PhantomData<&'a Guard<'t>>,
    pub(crate) writer: &'a Writer<'a, M>,
    pub(crate) stats: &'a TableStats,
    /// The number of the space, and the first address that the table translates: to tell of blocks.
    pub(crate) space: u32,
    pub(crate) base: u64,
    /// The identifier of the space, read after the stores are complete.
    pub(crate) asid: &'a AsidCell,
}

/// The word of the entry `by` entries behind `pte` in one block: the address is that much further.
/// A block is aligned, so nothing carries beyond the low address bits.
#[inline(always)]
fn further(table: &TableRef<'_>, pte: Pte, by: usize) -> Pte {
    pte.further(table.level().size().wrapping_mul(by as u64))
}

/// The first index of the block around `index`.
#[inline(always)]
fn first_of(table: &TableRef<'_>, index: usize) -> usize {
    index & !(table.shape().cont_entries() - 1)
}

/// `pte` with the accessed and dirty state of all entries of its block. The lock is held.
#[inline(never)]
pub(crate) fn get_locked(table: TableRef<'_>, index: usize) -> Value {
    let mut pte = table.load(index, Ordering::Relaxed);
    if !pte.is_contiguous() {
        return Value::new(pte);
    }
    let first = first_of(&table, index);
    if !planted::is(Fault::SkipGather) {
        for i in first..first + table.shape().cont_entries() {
            pte = with_ad_of(pte, table.load(i, Ordering::Relaxed));
        }
    }
    Value::new(pte.with_contiguous(false))
}

/// The entry at `index` with the accessed and dirty state of its block, of one moment: all entries
/// valid, contiguous, consecutive and equal otherwise; else the read starts over. It ends after a
/// bounded number of tries (XC-04).
#[inline(never)]
pub(crate) fn get_lockless(table: TableRef<'_>, index: usize) -> Loaded {
    let first = first_of(&table, index);
    for _ in 0..LOCKLESS_TRIES {
        let pte = table.load(index, Ordering::Acquire);
        if !pte.is_contiguous() {
            return Loaded {
                value: Value::new(pte),
                contiguous: false,
            };
        }
        if pte.young() && pte.dirty() {
            // The others have nothing to add.
            return Loaded {
                value: Value::new(pte.with_contiguous(false)),
                contiguous: true,
            };
        }
        let start = further(&table, pte.without_ad(), first.wrapping_sub(index));
        let mut whole = pte;
        let consistent = (0..table.shape().cont_entries()).all(|i| {
            let entry = table.load(first + i, Ordering::Relaxed);
            whole = with_ad_of(whole, entry);
            entry.without_ad() == further(&table, start, i) || planted::is(Fault::SkipConsistency)
        });
        if consistent {
            return Loaded {
                value: Value::new(whole.with_contiguous(false)),
                contiguous: true,
            };
        }
        sync::relax();
    }
    Loaded::NONE
}

/// Whether `pte` at `index` is what the last entry of a block is: aligned like its frame.
#[inline(always)]
pub(crate) fn ends_block(table: &TableRef<'_>, index: usize, pte: Pte) -> bool {
    let last = table.shape().cont_entries() - 1;
    // The address bits of the frame that count within a block are those of its number.
    let ends = (pte.raw() >> table.level().shift()) as usize & last == last;
    index & last == last && ends || planted::is(Fault::FoldMisaligned)
}

/// `pte`, accessed and dirty if `other` is.
#[inline(always)]
pub(crate) fn with_ad_of(pte: Pte, other: Pte) -> Pte {
    let pte = if other.young() { pte.mkyoung() } else { pte };
    if other.dirty() { pte.mkdirty() } else { pte }
}

/// What a change does to an entry.
#[derive(Clone, Copy)]
enum How {
    Leave,
    Flip,
    Update,
}

/// What a change does to the entry that it came to last, and to all that differ from it by the
/// address only: neighbours mostly do.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    /// All bits but those of the address.
    mask: u64,
    rest: u64,
    flips: u64,
    how: How,
    flushes: bool,
}

impl Known {
    #[inline(always)]
    fn look_at(&mut self, pte: Pte, rest: u64, level: Level, change_to: &impl Fn(Pte) -> Pte) {
        self.rest = rest;
        self.flips = change_to(pte).raw() ^ pte.raw();
        debug_assert_eq!(self.flips & !self.mask, 0, "a change of where the frame is");
        let leaves = self.flips == 0 || !pte.maps_frame(level);
        self.flushes = !leaves && pte.is_valid();
        self.how = match pte.may_become_dirty() || planted::is(Fault::StoreOverLive) {
            _ if leaves => How::Leave,
            true => How::Update,
            false => How::Flip,
        };
    }
}

impl<M: Machine> Change<'_, '_, M> {
    /// The entries, for loops.
    #[inline(always)]
    pub(crate) fn words(&self) -> Cells<'_, M> {
        // SAFETY: CTOR-09: the table's serialiser is held, see `held`.
        unsafe { self.table.words(self.writer) }
    }

    #[inline(always)]
    pub(crate) fn block(&self) -> usize {
        self.table.shape().cont_entries()
    }

    /// Takes the block around `index` apart if it is folded: for a change of a part of it (XC-01).
    #[inline(always)]
    pub(crate) fn unfold(&self, index: usize, va: u64) {
        if self.words().raw(index).is_contiguous() {
            self.convert(index, va, false);
            self.converted(Conversion::Unfold, index);
        }
    }

    /// Folds the block whose last entry, at `index`, has just been written, if it fits: aligned
    /// address and frame, one folio, sixteen valid entries that differ by accessed and dirty only.
    /// Whether it did.
    #[inline(always)]
    pub(crate) fn try_fold(&self, index: usize, va: u64) -> bool {
        ends_block(&self.table, index, self.words().raw(index)) && self.try_fold_block(index, va)
    }

    /// [`Self::try_fold`] where [`ends_block`] says so.
    #[inline(never)]
    pub(crate) fn try_fold_block(&self, index: usize, va: u64) -> bool {
        let fits = self.fits(index);
        if fits {
            self.convert(index, va, true);
            self.converted(Conversion::Fold, index);
        }
        fits
    }

    /// Counts and tells of the block around `index`.
    #[inline(always)]
    pub(crate) fn converted(&self, what: Conversion, index: usize) {
        match what {
            Conversion::Unfold => self.stats.count_unfold(),
            _ => self.stats.count_fold(),
        }
        let size = self.table.level().size();
        let va = self.base + first_of(&self.table, index) as u64 * size;
        let bytes = self.block() as u64 * size;
        self.writer.machine().converted(what, self.space, va, bytes);
    }

    fn fits(&self, index: usize) -> bool {
        let cells = self.words();
        let block = self.block();
        if index + 1 < block {
            return false;
        }
        let first = index + 1 - block;
        let (pte, level) = (cells.raw(first), self.table.level());
        let pa = self.writer.machine().format().pa(pte, level);
        let aligned =
            pa.is_aligned(level.size() * block as u64) || planted::is(Fault::FoldMisaligned);
        let foldable =
            pte.is_leaf(level) && pte.user() && !pte.is_contiguous() && !pte.special() && aligned;
        if !foldable || !self.is_one_folio(pa.pfn().raw(), block) {
            return false;
        }
        let start = pte.without_ad();
        (1..block).all(|i| {
            let entry = cells.raw(first + i);
            let wanted = further(&self.table, start, i);
            entry.without_ad() == wanted
                || planted::is(Fault::FoldMixedAttributes)
                    && entry.is_leaf(level)
                    && !entry.is_contiguous()
        })
    }

    /// Whether the frames from `pfn` on belong to one folio: a reference to one keeps all.
    pub(crate) fn is_one_folio(&self, pfn: u64, block: usize) -> bool {
        let meta = self.table.frames().meta(arm64::addr::Pfn::new(pfn));
        planted::is(Fault::FoldAcrossFolios)
            || meta.is_some_and(|meta| {
                meta.is_user() && 1u64 << meta.order() >= meta.head_offset() + block as u64
            })
    }

    /// Breaks the block, invalidates, makes it again with or without the contiguous bit. Between
    /// break and make hardware cannot change an entry, and what it had recorded was taken out.
    #[inline(never)]
    fn convert(&self, index: usize, va: u64, contiguous: bool) {
        let cells = self.words();
        let first = match contiguous {
            true => index + 1 - self.block(),
            false => first_of(&self.table, index),
        };
        let into = (index - first) as u64;
        let start = (va & !(self.table.level().size() - 1)) - into * self.table.level().size();
        let (mut new, wrong) = match planted::is(Fault::MakeWithoutBreak) {
            true => (cells.raw(first), true),
            false => (self.take_block(first), false),
        };
        self.writer.machine().pause(Pause::Repaint);
        if !wrong {
            self.flush_block(start, va, contiguous);
        }
        new = new.with_contiguous(contiguous);
        for i in 0..self.block() {
            let entry = further(&self.table, new, i);
            match wrong {
                true => cells.update(first + i, |_| Some(entry)),
                false => cells.put(first + i, entry),
            }
        }
    }

    /// Takes the block that begins at `first` apart into entries that `change_to` makes invalid.
    pub(crate) fn invalidate_block(&self, first: usize, change_to: &impl Fn(Pte) -> Pte) {
        let whole = self.take_block(first).with_contiguous(false);
        let cells = self.words();
        for i in 0..self.block() {
            let new = change_to(further(&self.table, whole, i));
            debug_assert!(!new.is_valid(), "made without a flush after the break");
            cells.put(first + i, new);
        }
        self.converted(Conversion::Unfold, first);
    }

    /// Empties the block; the first entry with the accessed and dirty state of all.
    fn take_block(&self, first: usize) -> Pte {
        let cells = self.words();
        let mut new = cells.take(first);
        for i in 1..self.block() {
            let old = cells.take(first + i);
            if old.young() && !planted::is(Fault::ConvertLosesYoung) {
                new = new.mkyoung();
            }
            if old.dirty() && !planted::is(Fault::ConvertLosesDirty) {
                new = new.mkdirty();
            }
        }
        new
    }

    fn flush_block(&self, start: u64, va: u64, folding: bool) {
        let machine = self.writer.machine();
        if machine.repaints_without_flush() || planted::is(Fault::BreakWithoutFlush) {
            return;
        }
        let size = self.table.level().size();
        let mut range = (start, start + size * self.block() as u64);
        if planted::is(Fault::UnfoldFlushesOnePage) && !folding {
            range = (va & !(size - 1), (va & !(size - 1)) + size);
        }
        self.flush(range);
    }

    /// Invalidates the page around `va`, whatever conversions need.
    pub(crate) fn flush_page(&self, va: u64) {
        let size = self.table.level().size();
        let start = va & !(size - 1);
        self.flush((start, start + size));
    }

    fn flush(&self, (start, end): (u64, u64)) {
        let machine = self.writer.machine();
        machine.before_invalidate();
        machine.invalidate(Invalidation::Range {
            asid: self.asid.current(),
            start,
            end,
            level: self.table.level(),
            tables: false,
        });
    }

    /// Writes `count` entries from `index` on, all of them empty, mapping memory from what `first`
    /// maps on; aligned blocks come out folded. With `touched`, only that entry is born accessed
    /// (and dirty, if `first` is).
    #[inline(always)]
    pub(crate) fn set_batch(&self, index: usize, count: usize, first: Pte, touched: Option<usize>) {
        let rest = match touched {
            Some(_) => first.without_ad(),
            None => first,
        };
        // What the frames hold is seen by whoever sees an entry.
        fence(Ordering::Release);
        match count == self.block() && self.is_aligned(index, rest) {
            true => self.set_block(index, rest),
            false => self.set_pieces(index, count, rest),
        }
        if let Some(touched) = touched {
            self.words().update(index + touched, |pte| {
                let pte = if first.young() { pte.mkyoung() } else { pte };
                Some(if first.dirty() { pte.mkdirty() } else { pte })
            });
        }
    }

    /// Whether `pte` may begin a block at `index`.
    #[inline(always)]
    fn is_aligned(&self, index: usize, pte: Pte) -> bool {
        let (last, level) = (self.block() - 1, self.table.level());
        // The address bits of the frame that count within a block are those of its number.
        (pte.raw() >> level.shift()) as usize & last == 0 && index & last == 0
    }

    #[inline(never)]
    fn set_pieces(&self, index: usize, count: usize, first: Pte) {
        let (cells, block) = (self.words(), self.block());
        let mut i = 0;
        while i < count {
            let entry = further(&self.table, first, i);
            if count - i >= block && self.is_aligned(index + i, entry) {
                self.set_block(index + i, entry);
                i += block;
            } else {
                cells.put_relaxed(index + i, entry);
                i += 1;
            }
        }
    }

    /// Stores a whole block, folded.
    #[inline(always)]
    fn set_block(&self, index: usize, first: Pte) {
        if !first.is_valid() {
            // What lacks tag storage is in no block (XC-03).
            return self.set_run(index, self.block(), first);
        }
        self.set_run(index, self.block(), first.with_contiguous(true));
        self.converted(Conversion::Fold, index);
    }

    #[inline(always)]
    fn set_run(&self, index: usize, count: usize, first: Pte) {
        let cells = self.words();
        let (mut entry, step) = (first, self.table.level().size());
        each_of_block(count, |i| {
            cells.put_relaxed(index + i, entry);
            entry = entry.further(step);
        });
    }

    /// The end of the aligned group of entries around `index`, at most `end`: it is a folded block as
    /// a whole, or none of its entries is contiguous (law 6).
    #[inline(always)]
    pub(crate) fn group_end(&self, index: usize, end: usize) -> usize {
        let block = self.block();
        ((index | (block - 1)) + 1).min(end)
    }

    /// Changes the entries `[first, end)` alike, which are a whole block or not contiguous; whether
    /// one of them was valid and is different now. What `change_to` changes does not depend on the
    /// address in the entry.
    #[inline(always)]
    pub(crate) fn change_alike(
        &self,
        first: usize,
        end: usize,
        change_to: &impl Fn(Pte) -> Pte,
        known: &mut Known,
    ) -> bool {
        let cells = self.words();
        let mut any = false;
        for i in first..end {
            let pte = cells.raw(i);
            let rest = pte.raw() & known.mask;
            if rest != known.rest {
                known.look_at(pte, rest, self.table.level(), change_to);
            }
            // What the hardware may change by itself has to be looked at in the same step.
            match known.how {
                How::Leave => {}
                How::Flip => cells.flip(i, known.flips),
                How::Update => cells.update(i, |pte| Some(change_to(pte))),
            }
            any |= known.flushes;
        }
        any
    }

    /// Nothing is known of any entry.
    #[inline(always)]
    pub(crate) fn nothing_known(&self) -> Known {
        Known {
            mask: !self.writer.machine().format().address_mask(),
            rest: u64::MAX,
            flips: 0,
            how: How::Leave,
            flushes: false,
        }
    }

    /// The same for a folded block, whose first entry is `pte` and becomes `new`. Where its entries
    /// differ by the access flag at most, and the hardware can change nothing else, the same bits
    /// are flipped in all of them.
    #[inline(always)]
    pub(crate) fn change_block(
        &self,
        first: usize,
        pte: Pte,
        new: Pte,
        change_to: &impl Fn(Pte) -> Pte,
    ) -> bool {
        let (cells, block) = (self.words(), self.block());
        let size = self.table.level().size();
        let mut differ = 0;
        each_of_block(block, |i| differ |= cells.raw(first + i).raw() ^ pte.raw());
        // The address counts up within the block (law 6).
        let counted = (block as u64 - 1) * size;
        let alike = differ & Pte::OLD & !counted == 0;
        if !alike || pte.may_become_dirty() || planted::is(Fault::StoreOverLive) {
            let known = &mut self.nothing_known();
            return self.change_alike(first, first + block, change_to, known);
        }
        let flips = new.raw() ^ pte.raw();
        debug_assert_eq!(flips & !Pte::OLD, 0, "the access flag is not changed alike");
        if flips != 0 {
            each_of_block(block, |i| cells.flip(first + i, flips));
        }
        flips != 0
    }

    /// Whether the group that begins at `index` is covered as a whole by a change up to `end`.
    #[inline(always)]
    pub(crate) fn is_whole(&self, index: usize, end: usize) -> bool {
        let block = self.block();
        index & (block - 1) == 0 && end - index >= block
    }

    /// How many entries from `index` on, of at most `count`, a uniform change may treat alike: the
    /// whole of a folded block that is covered. One that is covered in part is unfolded here.
    #[inline(never)]
    pub(crate) fn run(&self, index: usize, count: usize, va: u64, planted_fault: Fault) -> usize {
        if self.is_whole(index, index + count) {
            return self.block();
        }
        if !planted::is(planted_fault) {
            self.unfold(index, va);
        }
        1
    }
}

/// Does `act` for the entries of a block; the hardware's size is laid out at once.
#[inline(always)]
pub(crate) fn each_of_block(block: usize, mut act: impl FnMut(usize)) {
    if block == CONT_ENTRIES as usize {
        for i in 0..CONT_ENTRIES as usize {
            act(i);
        }
    } else {
        (0..block).for_each(act);
    }
}

/// The word for a page of `attrs`; never contiguous by itself, and not writable with a mark (law 10).
#[inline(always)]
pub(crate) fn page<M: Machine>(
    machine: &M,
    pa: arm64::addr::PhysAddr,
    attrs: Attrs,
    is: MemType,
) -> Pte {
    let attrs = match attrs.uffd_wp {
        true => attrs.with_prot(attrs.prot.difference(Prot::WRITE)),
        false => attrs,
    };
    leaf(machine, pa, attrs.with_contiguous(false), is, Level::L3)
}

/// The entry for memory that is wanted as `attrs` say. Where that is tagged and `is` does not say that
/// it may be, there is no access until it may (law 13, `PAGE_FAULT_ON_ACCESS`); memory that may be is
/// not shown so where nobody wants it.
pub(crate) fn leaf<M: Machine>(
    machine: &M,
    pa: arm64::addr::PhysAddr,
    attrs: Attrs,
    is: MemType,
    level: Level,
) -> Pte {
    let lacks = attrs.mem == MemType::Tagged
        && is != MemType::Tagged
        && !planted::is(Fault::TagWithoutStorage);
    match lacks {
        false => machine.format().leaf(pa, attrs, level),
        true => machine.format().leaf_without_tag_storage(pa, attrs, level),
    }
}
