//! Changes of a map as stepped operations (D3): begun with everything checked and allocated,
//! carried on a bounded piece at a time, and over only when all is zapped and flushed.
//!
//! The areas that a change is about are busy until then: a fault on one waits, faults elsewhere go
//! on (D5). One change at a time owns the map of a space.

use arm64::addr::{VaRange, VirtAddr};
use arm64::attrs::Prot;
use pgtable::{Gather, Machine, ReadSide, Zap, ZapReason};
use sync::planted::{self, Fault};

use crate::error::MmError;
use crate::space::{Map, Space};
use crate::trace::Kind;
use crate::verbs::advise::Advice;
use crate::verbs::collapse::Collapse;
use crate::verbs::map::MapRequest;
use crate::verbs::protect::{Grows, Protecting, Wish};
use crate::verbs::remap::{Move, RemapFlags};
use crate::verbs::{advise, brk, collapse, discard, map, protect, remap, unmap};

/// What a program (or the loader) asks of a map.
#[derive(Clone, Debug)]
pub enum Verb {
    /// `mmap`.
    Map(MapRequest),
    /// `munmap`.
    Unmap {
        /// First byte.
        addr: u64,
        /// Bytes.
        len: u64,
    },
    /// `mprotect`.
    Protect {
        /// First byte.
        addr: u64,
        /// Bytes.
        len: u64,
        /// The new rights.
        prot: Prot,
    },
    /// `mprotect` with `PROT_MTE`: the memory carries allocation tags from then on.
    Tag {
        /// First byte.
        addr: u64,
        /// Bytes.
        len: u64,
        /// The new rights.
        prot: Prot,
        /// Which bit for areas that grow came along.
        grows: Option<Grows>,
    },
    /// `mprotect` with one of the bits for areas that grow.
    ProtectGrowing {
        /// First byte.
        addr: u64,
        /// Bytes.
        len: u64,
        /// The new rights.
        prot: Prot,
        /// Which bit.
        grows: Grows,
    },
    /// `brk`; the result is the break afterwards.
    Brk {
        /// The break wanted.
        new: u64,
    },
    /// `mremap`.
    Remap {
        /// First byte of the old mapping.
        old: u64,
        /// Its length.
        old_len: u64,
        /// The length wanted.
        new_len: u64,
        /// How.
        flags: RemapFlags,
        /// Where to, with [`RemapFlags::FIXED`].
        new: u64,
    },
    /// `madvise(MADV_DONTNEED)`.
    DontNeed {
        /// First byte.
        addr: u64,
        /// Bytes.
        len: u64,
    },
    /// `madvise` of a kind that is remembered with the areas.
    Advise {
        /// First byte.
        addr: u64,
        /// Bytes.
        len: u64,
        /// What.
        advice: Advice,
    },
    /// `madvise(MADV_COLLAPSE)`.
    Collapse {
        /// First byte.
        addr: u64,
        /// Bytes.
        len: u64,
    },
}

/// What a visit of a table costs, in pages.
pub(crate) const VISIT_COST: u32 = 64;
/// What a visit of [`FEW_PAGES`] or less costs in that measure.
const SMALL_VISIT_COST: u32 = 16;
/// What it costs to publish the areas of a step.
const PUBLISH_COST: u32 = 24;
/// Bytes of a visit that is small.
const FEW_PAGES: u64 = 16 << 12;

/// What the next piece costs of work on the tables in `[at, end)` and then on the areas.
#[inline(always)]
pub(crate) fn cost_of_part(at: u64, end: u64) -> u32 {
    match end.saturating_sub(at) {
        0 => PUBLISH_COST,
        1..=FEW_PAGES => SMALL_VISIT_COST,
        _ => VISIT_COST,
    }
}

/// What is left to do of a change. The map is owned until it is done.
#[derive(Debug)]
#[must_use = "a change owns the map until it has been stepped to its end"]
pub struct Change {
    work: Work,
    result: Result<u64, MmError>,
}

/// What a change has become after its first step.
#[derive(Debug)]
#[must_use = "a change owns the map until it has been stepped to its end"]
pub enum Changed {
    /// It was complete when it was begun, with this result: it has not taken the map.
    AtOnce(u64),
    /// It is over, with this result, and the map is free again.
    Over(u64),
    /// There is more to do.
    Left(Change),
}

/// The pieces that changes are made of.
#[derive(Debug)]
pub(crate) enum Work {
    /// Nothing is left, and the map is not owned.
    Over,
    /// Take a range out of the tables, then its areas out of the map.
    Zap(Zapping),
    /// Drop the pages of the areas in `[at, end)`, which stay.
    Discard { at: u64, end: u64 },
    /// Give the entries of a range other rights, then its areas.
    Protect(Protecting),
    /// Move entries.
    Move(Move),
    /// Put pages together.
    Collapse(Collapse),
}

impl Work {
    /// The ranges that it is about.
    #[inline(always)]
    fn ranges(&self) -> [(u64, u64); 2] {
        const NONE: (u64, u64) = (0, 0);
        match self {
            Self::Over => [NONE; 2],
            Self::Zap(zapping) => [(zapping.start, zapping.end), zapping.next],
            Self::Discard { at, end } => [(*at, *end), NONE],
            Self::Protect(protecting) => [protecting.range(), NONE],
            Self::Move(state) => state.ranges(),
            Self::Collapse(collapse) => [collapse.range(), NONE],
        }
    }

    /// What the next piece costs at most, in pages.
    #[inline(always)]
    fn cost(&self) -> u32 {
        match self {
            Self::Over => 0,
            Self::Zap(zapping) => cost_of_part(zapping.at, zapping.end),
            Self::Protect(protecting) => protecting.cost(),
            Self::Move(state) => state.cost(),
            Self::Discard { .. } | Self::Collapse(_) => VISIT_COST,
        }
    }

    /// Whether the areas of these are busy meanwhile. Those whose pages are given up stay as they
    /// are.
    #[inline(always)]
    fn makes_busy(&self) -> bool {
        !matches!(self, Self::Discard { .. })
    }
}

impl Change {
    /// A change that is over when it is begun, as long as nothing is planned into it.
    #[inline(always)]
    pub(crate) const fn over(result: u64) -> Self {
        Self {
            work: Work::Over,
            result: Ok(result),
        }
    }

    /// Does `work`, which takes the map.
    #[inline(always)]
    pub(crate) fn carry(&mut self, work: Work) {
        self.work = work;
    }

    /// Answers `result` in the end.
    #[inline(always)]
    pub(crate) fn answer(&mut self, result: u64) {
        self.result = Ok(result);
    }

    /// Answers `error` in the end, whatever is done until then.
    #[inline(always)]
    pub(crate) fn fail_with(&mut self, error: MmError) {
        self.result = Err(error);
    }

    #[inline(always)]
    fn is_over(&self) -> bool {
        matches!(self.work, Work::Over)
    }

    /// Does a piece, and more as long as that is at most about `budget` pages together. None: there is
    /// more to do. The result comes once, and with it the map is free again: the caller wakes whoever
    /// parked on it.
    pub fn step<M: Machine>(
        &mut self,
        space: &Space<M>,
        budget: u32,
    ) -> Option<Result<u64, MmError>> {
        self.carry_on(space, budget)
    }

    /// As [`Self::step`], made for what is known of the work.
    #[inline(always)]
    fn carry_on<M: Machine>(
        &mut self,
        space: &Space<M>,
        budget: u32,
    ) -> Option<Result<u64, MmError>> {
        let stay = ();
        let section = space.machine().read_side(&stay);
        let mut left = budget;
        loop {
            let cost = self.work.cost();
            let over = match &mut self.work {
                Work::Over => return Some(self.result),
                Work::Zap(zapping) => Ok(zapping.step(space, &section)),
                Work::Discard { at, end } => discard::step(space, at, *end, &section),
                Work::Protect(protecting) => Ok(protecting.step(space, &section)),
                Work::Move(state) => remap::step(space, state, &section),
                Work::Collapse(state) => collapse::step(space, state, &section),
            };
            match over {
                Ok(false) => {
                    left = left.saturating_sub(cost);
                    if self.work.cost() > left {
                        return None;
                    }
                }
                Ok(true) => {
                    self.work = Work::Over;
                    return Some(self.result);
                }
                Err(error) => {
                    // Nothing was changed yet: the areas are as they were.
                    space.map().lock().let_go();
                    self.work = Work::Over;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// A range that is emptied and whose areas go. What is to come instead waits in the map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zapping {
    start: u64,
    /// How far the tables are empty.
    at: u64,
    end: u64,
    /// A range to be treated alike afterwards, if it is not empty.
    next: (u64, u64),
    reason: ZapReason,
}

impl Zapping {
    #[inline(always)]
    pub(crate) const fn new((start, end): (u64, u64), next: (u64, u64)) -> Self {
        Self {
            start,
            at: start,
            end,
            next,
            reason: ZapReason::RegionGone,
        }
    }

    /// Empties some tables or, when all are empty and flushed, publishes a bounded number of areas.
    /// Whether it is over, and the map let go.
    #[inline(always)]
    fn step<M: Machine>(&mut self, space: &Space<M>, section: &ReadSide<'_>) -> bool {
        if self.at < self.end {
            self.at = clear(space, self.at, self.end, self.reason, section);
            return false;
        }
        let mut map = space.map().lock();
        if !map.remove_some(self.start, self.end) {
            return false;
        }
        if self.next.0 < self.next.1 {
            *self = Self::new(self.next, (0, 0));
            return false;
        }
        map.bring_in();
        map.let_go();
        true
    }
}

/// Takes some of `[from, end)` out of the tables and flushes it; where to go on.
pub(crate) fn clear<M: Machine>(
    space: &Space<M>,
    from: u64,
    end: u64,
    reason: ZapReason,
    section: &ReadSide<'_>,
) -> u64 {
    // Nothing is mapped above what the tables reach.
    let stop = end.min(space.end());
    let Some(range) = range(from, stop) else {
        return end;
    };
    if planted::is(Fault::PublishEarly) {
        space.map().lock().busy = [(0, 0); 2];
    }
    let mut gather = Gather::new();
    let why = Zap::anonymous(reason).recording(space.records_writes());
    let at = space.table().zap(range, why, &mut gather, section);
    space.tell(Kind::Zap, from, gather.page_count());
    space.release(&mut gather);
    if planted::is(Fault::RetireLate) {
        space.epochs().retire(from, end);
    }
    match at < stop {
        true => at,
        false => end,
    }
}

/// `[at, end)`, unless it is empty.
#[inline]
pub(crate) fn range(at: u64, end: u64) -> Option<VaRange> {
    VaRange::new(VirtAddr::new(at), VirtAddr::new(end)).filter(|range| !range.is_empty())
}

impl<M: Machine> Space<M> {
    /// Begins a change: checks it, allocates what may fail, takes the map, and makes the areas that
    /// it is about busy. One that is complete with that does not own the map.
    ///
    /// # Errors
    /// [`MmError::Busy`] while another change owns the map; else Linux's answer to the request.
    /// Nothing was changed.
    pub fn begin(&self, verb: Verb) -> Result<Change, MmError> {
        let mut change = Change::over(0);
        self.begin_in(&mut change, verb)?;
        Ok(change)
    }

    /// Begins a change and does its first step, of at most about `budget` pages. What is left is to
    /// be stepped on; when it is over the caller wakes whoever parked on the map.
    ///
    /// # Errors
    /// As [`Self::begin`], and what the first step comes to if it is the last one.
    #[inline(always)]
    pub fn change(&self, verb: Verb, budget: u32) -> Result<Changed, MmError> {
        let mut change = Change::over(0);
        self.begin_in(&mut change, verb)?;
        if change.is_over() {
            return change.result.map(Changed::AtOnce);
        }
        match change.carry_on(self, budget) {
            Some(result) => result.map(Changed::Over),
            None => Ok(Changed::Left(change)),
        }
    }

    /// Begins a change into `change`, which is over: what is rare is large, and is not moved about.
    #[inline(always)]
    fn begin_in(&self, change: &mut Change, verb: Verb) -> Result<(), MmError> {
        let reach = |end| self.reach(end);
        let limit = || self.context().promise_limit();
        match verb {
            Verb::Map(request) => self.begin_with(change, 3, |map, change| {
                map::begin(map, change, request, limit, reach)
            }),
            Verb::Unmap { addr, len } => self.begin_with(change, 2, |map, change| {
                unmap::begin(map, change, addr, len)
            }),
            Verb::Protect { addr, len, prot } => self.begin_with(change, 2, |map, change| {
                protect::begin(map, change, (addr, len), Wish::rights(prot), None)
            }),
            Verb::Tag {
                addr,
                len,
                prot,
                grows,
            } => self.begin_with(change, 2, |map, change| {
                protect::begin(map, change, (addr, len), Wish::tags(prot), grows)
            }),
            Verb::ProtectGrowing {
                addr,
                len,
                prot,
                grows,
            } => self.begin_with(change, 2, |map, change| {
                protect::begin(map, change, (addr, len), Wish::rights(prot), Some(grows))
            }),
            Verb::Brk { new } => self.begin_with(change, 3, |map, change| {
                brk::begin(map, change, new, limit, reach)
            }),
            Verb::Remap {
                old,
                old_len,
                new_len,
                flags,
                new,
            } => {
                let request = remap::Request {
                    old,
                    old_len,
                    new_len,
                    flags,
                    new,
                };
                // Two ranges, the old one and the new one.
                self.begin_with(change, 5, |map, change| {
                    remap::begin(map, change, request, limit, reach)
                })
            }
            Verb::DontNeed { addr, len } => self.begin_with(change, 0, |map, change| {
                discard::begin(map, change, addr, len)
            }),
            Verb::Advise { addr, len, advice } => self.begin_with(change, 2, |map, change| {
                advise::begin(map, change, (addr, len), advice)
            }),
            Verb::Collapse { addr, len } => {
                let small_only = self.small_pages_only();
                self.begin_with(change, 0, |map, change| {
                    collapse::begin(map, change, (addr, len), small_only)
                })
            }
        }
    }

    /// Begins what `plan` plans, which adds or cuts off at most so many areas: two where it cuts a
    /// range out, one for what is mapped.
    #[inline(always)]
    fn begin_with(
        &self,
        change: &mut Change,
        areas: usize,
        plan: impl FnOnce(&mut Map, &mut Change) -> Result<(), MmError>,
    ) -> Result<(), MmError> {
        let mut map = self.map().lock();
        if map.owned {
            return Err(MmError::Busy);
        }
        if areas > 0 {
            map.areas.reserve(areas)?;
        }
        let begun = plan(&mut map, change).and_then(|()| match change.is_over() {
            true => Ok(()),
            false => self.occupy(&mut map, &change.work),
        });
        if let Err(error) = begun {
            map.let_go();
            return Err(error);
        }
        if map.shows_paged {
            self.record_writes();
        }
        self.counters().map_changes.bump();
        Ok(())
    }

    /// Takes the map for `work`: makes its areas busy, retires what faults were planned from them,
    /// and splits the blocks that it would cut: all before its first lock of a visit (D5).
    #[inline(always)]
    fn occupy(&self, map: &mut Map, work: &Work) -> Result<(), MmError> {
        let ranges = work.ranges();
        map.busy = match work.makes_busy() && !planted::is(Fault::LeaveUnbusy) {
            true => ranges,
            false => [(0, 0); 2],
        };
        let ranges = ranges.into_iter().filter(|(start, end)| start < end);
        if work.makes_busy() && !planted::is(Fault::RetireLate) {
            for (start, end) in ranges.clone() {
                self.epochs().retire(start, end);
            }
        }
        let stay = ();
        let section = self.machine().read_side(&stay);
        for (start, end) in ranges.clone() {
            if let Some(range) = range(start, end.min(self.end())) {
                self.table().split_ends(range, &section)?;
            }
        }
        if work.makes_busy() && planted::is(Fault::ForgetEarly) {
            ranges.for_each(|(start, end)| map.forget(start, end));
        }
        map.owned = true;
        Ok(())
    }

    /// Begins the end of the space: everything is unmapped, all tables but the root are freed.
    ///
    /// # Errors
    /// [`MmError::Busy`].
    pub fn begin_teardown(&self) -> Result<Change, MmError> {
        let mut map = self.map().lock();
        if map.owned {
            return Err(MmError::Busy);
        }
        // Nothing is cut at the ends of the space, so this needs no reservation.
        map.owned = true;
        let end = map.task_size;
        map.busy = [(0, end), (0, 0)];
        self.epochs().retire(0, end);
        drop(map);
        self.drop_pending();
        let mut change = Change::over(0);
        change.work = Work::Zap(Zapping {
            reason: ZapReason::Exit,
            ..Zapping::new((0, end), (0, 0))
        });
        Ok(change)
    }
}
