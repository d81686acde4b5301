//! What a change of tables owes: invalidations, and what may be freed after them (law 12).

use arm64::addr::Pfn;
use arm64::geometry::{CONT_ENTRIES, Level};
use frame::TableFrame;
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
pub const TORN_RUNS: usize = 64;
/// Most tables one step tears out.
pub const TORN_TABLES: usize = 8;
/// Separate ranges that are flushed apart; more are joined.
const RANGES: usize = 4;
/// More entries than this are flushed by dropping the whole identifier.
const FLUSH_ALL_ENTRIES: u64 = 512;

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
    ranges: [Range; RANGES],
    range_count: usize,
    runs: [Run; TORN_RUNS],
    run_count: usize,
    tables: [Option<TableFrame>; TORN_TABLES],
    table_count: usize,
    /// Everything of the identifier has to go.
    whole: bool,
}

impl Gather {
    /// Nothing changed yet.
    pub const fn new() -> Self {
        const NO_RANGE: Range = Range {
            start: 0,
            end: 0,
            level: Level::L3,
        };
        const NO_RUN: Run = Run {
            pfn: Pfn::new(0),
            count: 0,
        };
        Self {
            ranges: [NO_RANGE; RANGES],
            range_count: 0,
            runs: [NO_RUN; TORN_RUNS],
            run_count: 0,
            tables: [const { None }; TORN_TABLES],
            table_count: 0,
            whole: false,
        }
    }

    /// Whether nothing has to be flushed or released.
    pub fn is_empty(&self) -> bool {
        !self.needs_flush() && self.run_count == 0 && self.table_count == 0
    }

    /// Whether some CPU may hold a translation that was taken away.
    pub fn needs_flush(&self) -> bool {
        self.range_count != 0 || self.whole
    }

    /// How many references to user pages are in it.
    pub fn page_count(&self) -> u64 {
        self.runs[..self.run_count]
            .iter()
            .map(|run| run.count)
            .sum()
    }

    /// Room for the frames of another group of entries.
    #[inline(always)]
    pub(crate) fn has_frame_room(&self) -> bool {
        self.run_count + CONT_ENTRIES as usize <= TORN_RUNS
    }

    /// Room for another chain of tables.
    pub(crate) fn has_table_room(&self) -> bool {
        self.table_count + 5 <= TORN_TABLES
    }

    /// Entries of `level` that translate `[start, end)` were changed so that old translations of
    /// them must go.
    #[inline(always)]
    pub(crate) fn changed(&mut self, start: u64, end: u64, level: Level) {
        if let Some(last) = self.ranges[..self.range_count].last_mut()
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
        let mut known = self.ranges[..self.range_count].iter_mut();
        if let Some(known) = known.find(touching) {
            known.start = known.start.min(range.start);
            known.end = known.end.max(range.end);
        } else if self.range_count < RANGES {
            self.ranges[self.range_count] = range;
            self.range_count += 1;
        } else {
            self.whole = true;
        }
    }

    /// A place for single frames that entries give up; as many as [`Self::has_frame_room`] has
    /// promised.
    #[inline(always)]
    pub(crate) fn pages(&mut self) -> Pages<'_> {
        let (_, free) = self.runs.split_at_mut(self.run_count);
        Pages {
            free: free.iter_mut(),
            count: &mut self.run_count,
            pushed: 0,
        }
    }

    /// `count` entries gave up their references to frames of one folio, from `pfn` on.
    #[inline(always)]
    pub(crate) fn tear_folio(&mut self, pfn: Pfn, count: u32) {
        self.runs[self.run_count] = Run {
            pfn,
            count: count.into(),
        };
        self.run_count += 1;
    }

    /// A table was unlinked that translated `[start, end)`, by an entry of `level`: whatever CPUs
    /// keep of the way through it must go too.
    pub(crate) fn tear_table(&mut self, table: TableFrame) {
        self.tables[self.table_count] = Some(table);
        self.table_count += 1;
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
        self.range_count = 0;
        self.whole = false;
        Flushed { _made_by_flush: () }
    }

    fn invalidate<M: Machine>(&self, space: &PageTable<User, M>, asid: u16) {
        let machine = space.machine();
        let ranges = &self.ranges[..self.range_count];
        let entries: u64 = ranges
            .iter()
            .map(|range| (range.end - range.start) / range.level.size())
            .sum();
        let whole = self.whole || entries > FLUSH_ALL_ENTRIES;
        space.stats().count_flush(whole);
        if whole {
            return machine.invalidate(Invalidation::Asid(asid));
        }
        let tables = self.table_count != 0 && !planted::is(Fault::KeepWalkCache);
        for &Range { start, end, level } in ranges {
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
        let frames = machine.frames();
        for run in &self.runs[..self.run_count] {
            for page in 0..run.count {
                machine.released(run.pfn.add(page));
            }
            // SAFETY: the references were the entries'; the entries are gone and flushed (law 12),
            // so they are ours to drop, once.
            unsafe { frames.drop_entries(run.pfn, run.count as u32) };
        }
        self.run_count = 0;
        for table in &mut self.tables[..self.table_count] {
            if let Some(table) = table.take() {
                match planted::is(Fault::DestructBeforeGrace) {
                    true => crate::table::destruct(machine, table),
                    false => graveyard.bury(table),
                }
            }
        }
        self.table_count = 0;
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

/// Where single frames are written down; counted when it is dropped.
pub(crate) struct Pages<'g> {
    free: core::slice::IterMut<'g, Run>,
    count: &'g mut usize,
    pushed: usize,
}

impl Pages<'_> {
    /// An entry gave up its reference to the frame `pfn`.
    ///
    /// # Panics
    /// Without room.
    #[inline(always)]
    pub(crate) fn push(&mut self, pfn: Pfn) {
        match self.free.next() {
            Some(run) => *run = Run { pfn, count: 1 },
            None => no_room(),
        }
        self.pushed += 1;
    }
}

impl Drop for Pages<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.count += self.pushed;
    }
}

#[cold]
fn no_room() -> ! {
    panic!("law 12: frames were torn out without room to remember them");
}

impl Default for Gather {
    fn default() -> Self {
        Self::new()
    }
}
