//! What a change of tables owes: invalidations, and what may be freed after them (law 12).

use arm64::addr::Pfn;
use arm64::geometry::{CONT_ENTRIES, Level};
use arrayvec::ArrayVec;
use frame::{Frames, FreshFrame, TableFrame, UserFrame};
use sync::planted::{self, Fault};

use crate::machine::{Invalidation, Machine, Pause};
use crate::space::{PageTable, User};
use crate::table::Graveyard;

/// Proof that the translations of one space (or of the kernel's range) that were torn out before
/// are in no TLB any more. Made only by [`Gather::flush`] and by
/// changes of kernel ranges.
#[derive(Debug)]
#[must_use = "what was torn out stays allocated until it is released with this token"]
pub struct Flushed {
    _made_by_flush: (),
}

/// Invalidates a range of kernel translations on all CPUs, waits, and hands out the proof.
pub(crate) fn flush_kernel<M: Machine>(machine: &M, start: u64, end: u64) -> Flushed {
    machine.before_invalidate();
    machine.invalidate(Invalidation::Kernel { start, end });
    Flushed { _made_by_flush: () }
}

/// Most runs of user frames that one step tears out.
pub const TORN_RUNS: usize = 96;
/// Pages after which no further group is torn out in a step: freeing them, and flushing them one by
/// one where there are no range operations, has to stay within one stay in the kernel (law 16).
const TORN_PAGES: u64 = 512;
/// Most tables one step tears out.
pub const TORN_TABLES: usize = 8;
/// Separate ranges that are flushed apart; more are joined.
const RANGES: usize = 4;

/// References to the frames of one folio that entries gave up, from a frame on.
#[derive(Clone, Copy, Debug)]
struct Run {
    pfn: Pfn,
    count: u64,
}

/// Entries of one level that were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
    level: Level,
}

/// The entries of one table that a batch changed, by their indices: one range, from the first to
/// the last.
#[derive(Clone, Copy)]
pub(crate) struct Flush {
    from: usize,
    to: usize,
}

impl Flush {
    pub(crate) const NOTHING: Self = Self {
        from: usize::MAX,
        to: 0,
    };

    /// `count` entries from `index` on, behind all that were added before.
    #[inline(always)]
    pub(crate) fn add(&mut self, index: usize, count: usize) {
        self.from = self.from.min(index);
        self.to = index + count;
    }

    /// Adds the range to `gather`; whether there is one.
    #[inline(always)]
    pub(crate) fn tell(self, gather: &mut Gather, va_of: impl Fn(usize) -> u64) -> bool {
        let any = self.to != 0;
        if any {
            gather.changed(va_of(self.from), va_of(self.to), Level::L3);
        }
        any
    }
}

/// Changes of one space that still have to be flushed, and frames and tables that wait for it.
///
/// Steps of one operation add to it; neighbouring ranges become one invalidation.
#[must_use = "torn-out frames leak, and old translations stay, unless it is flushed and released"]
#[derive(Debug)]
pub struct Gather {
    ranges: ArrayVec<Range, RANGES>,
    runs: ArrayVec<Run, TORN_RUNS>,
    pages: u64,
    tables: ArrayVec<TableFrame, TORN_TABLES>,
    /// Everything of the identifier has to go.
    whole: bool,
}

impl Gather {
    /// Nothing changed yet.
    pub const fn new() -> Self {
        Self {
            ranges: ArrayVec::new_const(),
            runs: ArrayVec::new_const(),
            pages: 0,
            tables: ArrayVec::new_const(),
            whole: false,
        }
    }

    /// Whether nothing has to be flushed or released.
    pub fn is_empty(&self) -> bool {
        !self.needs_flush() && self.runs.is_empty() && self.tables.is_empty()
    }

    /// Whether some CPU may hold a translation that was taken away.
    pub fn needs_flush(&self) -> bool {
        !self.ranges.is_empty() || self.whole
    }

    /// How many references to user pages are in it.
    pub fn page_count(&self) -> u64 {
        self.pages
    }

    /// Room for the frames of another group of entries.
    #[inline(always)]
    pub(crate) fn has_frame_room(&self) -> bool {
        self.runs.remaining_capacity() >= CONT_ENTRIES as usize && self.pages < TORN_PAGES
    }

    /// Room for another chain of tables.
    pub(crate) fn has_table_room(&self) -> bool {
        self.tables.remaining_capacity() >= 5
    }

    /// Entries of `level` that translate `[start, end)` were changed so that old translations of
    /// them must go.
    #[inline(always)]
    pub(crate) fn changed(&mut self, start: u64, end: u64, level: Level) {
        if let Some(last) = self.ranges.last_mut()
            && last.level == level
            && last.end == start
        {
            last.end = end;
            return;
        }
        self.add_range(Range { start, end, level });
    }

    #[inline(never)]
    fn add_range(&mut self, range: Range) {
        let touching = |other: &&mut Range| {
            other.level == range.level && range.start <= other.end && other.start <= range.end
        };
        if let Some(known) = self.ranges.iter_mut().find(touching) {
            known.start = known.start.min(range.start);
            known.end = known.end.max(range.end);
        } else if self.ranges.try_push(range).is_err() {
            self.whole = true;
        }
    }

    /// Entries gave up their references to these frames; at most as many as [`Self::has_frame_room`]
    /// has promised room for.
    ///
    /// # Panics
    /// Without room (law 12: nothing torn out is forgotten).
    #[inline(always)]
    pub(crate) fn tear_pages(&mut self, pages: impl Iterator<Item = Pfn>) {
        let before = self.runs.len();
        self.runs.extend(pages.map(|pfn| Run { pfn, count: 1 }));
        self.pages += (self.runs.len() - before) as u64;
    }

    /// `count` entries gave up their references to frames of one folio, from `pfn` on.
    #[inline(always)]
    pub(crate) fn tear_folio(&mut self, pfn: Pfn, count: u32) {
        self.runs.push(Run {
            pfn,
            count: count.into(),
        });
        self.pages += u64::from(count);
    }

    /// A table was unlinked that translated `[start, end)`, by an entry of `level`: whatever CPUs
    /// keep of the way through it must go too.
    pub(crate) fn tear_table(&mut self, table: TableFrame) {
        self.tables.push(table);
    }

    /// Everything of the space is to be invalidated, walk caches included.
    pub fn drop_all(&mut self) {
        self.whole = true;
    }

    /// Invalidates what has to be, on all CPUs, and hands out the proof.
    pub fn flush<M: Machine>(&mut self, space: &PageTable<User, M>) -> Flushed {
        let machine = space.machine();
        machine.pause(Pause::BeforeFlush);
        if self.needs_flush() && !planted::is(Fault::SkipFlush) {
            machine.before_invalidate();
            // After the barrier: whoever runs under a later identifier walks the new tables.
            self.invalidate(space, space.asid());
        }
        self.ranges.clear();
        self.whole = false;
        Flushed { _made_by_flush: () }
    }

    fn invalidate<M: Machine>(&self, space: &PageTable<User, M>, asid: u16) {
        let machine = space.machine();
        let entries: u64 = self
            .ranges
            .iter()
            .map(|range| (range.end - range.start) / range.level.size())
            .sum();
        let whole = self.whole || entries > machine.flush_limit();
        space.stats().count_flush(whole);
        if whole {
            return machine.invalidate(Invalidation::Asid(asid));
        }
        let tables = !self.tables.is_empty() && !planted::is(Fault::KeepWalkCache);
        for &Range { start, end, level } in &self.ranges {
            let level = match level.coarser() {
                Some(wrong) if planted::is(Fault::WrongLevelHint) => wrong,
                _ => level,
            };
            let end = match planted::is(Fault::NarrowFlush) {
                true => start + level.size(),
                false => end,
            };
            machine.invalidate(Invalidation::Range {
                asid,
                start,
                end,
                level,
                tables,
            });
        }
    }

    /// Drops the references and buries the tables, which now wait for a grace period. Afterwards
    /// nothing is torn out any more.
    ///
    /// # Panics
    /// If something was changed since the flush.
    pub fn release<M: Machine>(&mut self, machine: &M, graveyard: &Graveyard, _flushed: &Flushed) {
        assert!(!self.needs_flush(), "law 12: released with an older flush");
        let torn = self.runs.iter().map(|run| {
            for page in 0..run.count {
                machine.released(run.pfn.add(page));
            }
            (run.pfn, run.count as u32)
        });
        // SAFETY: the references were the entries'; the entries are gone and flushed (law 12), so
        // they are ours to drop, once.
        unsafe { machine.frames().drop_all_entries(torn) };
        self.runs.clear();
        self.pages = 0;
        for table in self.tables.drain(..) {
            match planted::is(Fault::DestructBeforeGrace) {
                true => crate::table::destruct(machine, table),
                false => graveyard.bury(table),
            }
        }
    }
}

impl Gather {
    /// As [`Self::release`] for pages that go to another owner instead of being freed (D17); there are
    /// no tables among them. A block to which the entries had all references comes as memory that
    /// nobody else knows; of any other, the pages come one by one, as references.
    ///
    /// # Panics
    /// As [`Self::release`].
    pub fn hand_over<M: Machine>(
        &mut self,
        machine: &M,
        _flushed: &Flushed,
        mut to: impl FnMut(Result<FreshFrame, UserFrame>),
    ) {
        assert!(
            !self.needs_flush() && self.tables.is_empty(),
            "law 12: handed over with an older flush"
        );
        let frames = machine.frames();
        let mut next = 0;
        while let Some((run, behind)) = self.whole_block(frames, next) {
            next = behind;
            let pages = || (0..run.count).map(|page| run.pfn.add(page));
            pages().for_each(|page| machine.released(page));
            // SAFETY: the references were the entries'; the entries are gone and flushed (law 12).
            match unsafe { frames.claim_entries(run.pfn, run.count as u32) } {
                Some(block) => to(Ok(block)),
                // SAFETY: as above; each reference is taken over once.
                None => pages().for_each(|page| to(Err(unsafe { frames.from_entry(page) }))),
            }
        }
        self.runs.clear();
        self.pages = 0;
    }

    /// The run at `index`, with those behind it that are the rest of its block; and what comes then.
    fn whole_block(&self, frames: &'static Frames, index: usize) -> Option<(Run, usize)> {
        let mut run = *self.runs.get(index)?;
        let held = frames.held(run.pfn).filter(|held| held.first == run.pfn);
        let block = held.map_or(1, |held| 1 << held.order);
        let mut behind = index + 1;
        while run.count < block
            && let Some(more) = self.runs.get(behind)
            && more.pfn == run.pfn.add(run.count)
        {
            run.count += more.count;
            behind += 1;
        }
        Some((run, behind))
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        debug_assert!(
            self.is_empty() || sync::panicking(),
            "law 12: changed or torn out, never flushed and released"
        );
    }
}

impl Default for Gather {
    fn default() -> Self {
        Self::new()
    }
}
