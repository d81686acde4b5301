//! Changes of a map as stepped operations (D3): begun with everything checked and allocated,
//! carried on a bounded piece at a time, and over only when all is zapped and flushed.
//!
//! The areas that a change is about are busy until then: a fault on one waits, faults elsewhere go
//! on (D5). One change at a time owns the map of a space.

use core::mem;

use arm64::addr::{VaRange, VirtAddr};
use arm64::attrs::Prot;
use pgtable::{Gather, Machine, ReadSide, Zap, ZapReason};
use sync::planted::{self, Fault};

use crate::error::MmError;
use crate::object::Room;
use crate::space::{Map, Space};
use crate::trace::Kind;
use crate::verbs::advise::Advice;
use crate::verbs::collapse::Collapse;
use crate::verbs::map::MapRequest;
use crate::verbs::protect::Grows;
use crate::verbs::remap::{Move, RemapFlags};
use crate::verbs::{advise, brk, collapse, discard, map, protect, remap, unmap};
use crate::vma::Vma;

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

impl Verb {
    /// Most areas that it adds or cuts off: two where it cuts a range out, one for what is mapped.
    fn added_areas(&self) -> usize {
        match self {
            // Two ranges, the old one and the new one.
            Self::Remap { .. } => 5,
            Self::Map(_) | Self::Brk { .. } => 3,
            _ => 2,
        }
    }
}

/// What moving a page costs, in pages of other work: it finds and locks two tables.
const MOVE_COST: u32 = 7;
/// What one look at a table costs in that measure.
const VISIT_COST: u32 = 64;

/// What is left to do of a change. The map is owned until it is done.
#[derive(Debug)]
#[must_use = "a change owns the map until it has been stepped to its end"]
pub struct Change {
    work: Work,
    result: Result<u64, MmError>,
    /// The ranges whose areas are busy.
    busy: [(u64, u64); 2],
    /// A range whose blocks are split at its ends although its areas are not busy.
    cuts: (u64, u64),
    /// Places in the reverse maps of the objects that a removal may cut in two.
    rooms: [Option<Room>; 2],
}

/// The pieces that changes are made of.
#[derive(Debug)]
pub(crate) enum Work {
    /// Nothing is left but to let the map go.
    Finish,
    /// Take `[at, end)` out of the tables, then do `then`.
    Zap { at: u64, end: u64, then: After },
    /// Drop the pages of the areas in `[at, end)`, which stay.
    Discard { at: u64, end: u64 },
    /// Give `[at, end)` of the tables the rights of their areas to be, then publish these.
    Protect {
        start: u64,
        at: u64,
        end: u64,
        prot: Prot,
    },
    /// Move entries.
    Move(Move),
    /// Put pages together.
    Collapse(Collapse),
}

/// What to publish when a range has been zapped and flushed.
#[derive(Debug)]
pub(crate) enum After {
    /// The areas of the range go, and then those of another one, if that is not empty.
    Remove { start: u64, next: (u64, u64) },
    /// The areas of the range go, and this one comes.
    Insert(Vma, Option<Room>),
    /// The areas of the range go, then entries are moved into it.
    Move(Move),
    /// Everything goes, and nothing may come again.
    Teardown,
}

impl Change {
    pub(crate) fn new(work: Work, result: u64) -> Self {
        Self {
            work,
            result: Ok(result),
            busy: [(0, 0); 2],
            cuts: (0, 0),
            rooms: [None, None],
        }
    }

    /// A change about the areas in `[start, end)`, and those of a second range if there is one.
    pub(crate) fn busy(self, busy: [(u64, u64); 2]) -> Self {
        Self { busy, ..self }
    }

    /// A change that leaves the areas in `[start, end)` alone but takes pages out of them.
    pub(crate) fn cuts(self, start: u64, end: u64) -> Self {
        let cuts = (start, end);
        Self { cuts, ..self }
    }

    /// A change whose rest is done but which still answers `error`.
    pub(crate) fn with_error(self, error: MmError) -> Self {
        Self {
            result: Err(error),
            ..self
        }
    }

    fn busy_ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.busy.into_iter().filter(|(start, end)| start < end)
    }

    /// Does a piece: at most about `budget` pages. None: there is more to do. The result comes
    /// once, and with it the map is free again: the caller wakes whoever parked on it.
    pub fn step<M: Machine>(
        &mut self,
        space: &Space<M>,
        budget: u32,
    ) -> Option<Result<u64, MmError>> {
        let stay = ();
        let section = space.machine().read_side(&stay);
        let mut left = budget.max(1);
        while left > 0 {
            left -= 1;
            self.work = match mem::replace(&mut self.work, Work::Finish) {
                Work::Finish => {
                    space.let_go();
                    return Some(self.result);
                }
                Work::Zap { at, end, then } => {
                    left = left.saturating_sub(VISIT_COST);
                    zap(space, at, end, then, &section)
                }
                Work::Discard { at, end } => {
                    left = left.saturating_sub(VISIT_COST);
                    match discard::step(space, at, end, &section) {
                        Ok(work) => work,
                        Err(error) => self.give_up(error),
                    }
                }
                Work::Protect {
                    start,
                    at,
                    end,
                    prot,
                } => {
                    left = left.saturating_sub(VISIT_COST);
                    protect::step(space, start, at, end, prot, &section)
                }
                Work::Move(state) => {
                    left = left.saturating_sub(MOVE_COST - 1);
                    match remap::step(space, state, &section) {
                        Ok(work) => work,
                        Err(error) => self.give_up(error),
                    }
                }
                Work::Collapse(state) => {
                    left = left.saturating_sub(VISIT_COST);
                    match collapse::step(space, state, &section) {
                        Ok(work) => work,
                        Err(error) => self.give_up(error),
                    }
                }
            };
        }
        None
    }

    /// What was begun cannot go on, and nothing was changed yet: the areas are as they were.
    fn give_up(&mut self, error: MmError) -> Work {
        self.result = Err(error);
        Work::Finish
    }
}

fn zap<M: Machine>(
    space: &Space<M>,
    at: u64,
    end: u64,
    then: After,
    section: &ReadSide<'_>,
) -> Work {
    // Nothing is mapped above what the tables reach.
    let stop = end.min(space.end());
    let Some(range) = range(at, stop) else {
        return after(space, end, then);
    };
    let why = Zap::anonymous(match then {
        After::Teardown => ZapReason::Exit,
        _ => ZapReason::RegionGone,
    });
    let mut gather = Gather::new();
    let from = at;
    if planted::is(Fault::PublishEarly) {
        space.map().lock().busy = [(0, 0); 2];
    }
    let at = space.table().zap(range, why, &mut gather, section);
    space.tell(Kind::Zap, from, gather.page_count());
    space.release(&mut gather);
    if planted::is(Fault::RetireLate) {
        space.epochs().retire(from, end);
    }
    match at < stop {
        true => Work::Zap { at, end, then },
        false => after(space, end, then),
    }
}

/// `[at, end)`, unless it is empty.
pub(crate) fn range(at: u64, end: u64) -> Option<VaRange> {
    VaRange::new(VirtAddr::new(at), VirtAddr::new(end)).filter(|range| !range.is_empty())
}

/// The range is zapped and flushed up to `end`: publish, a bounded number of areas at a time.
fn after<M: Machine>(space: &Space<M>, end: u64, then: After) -> Work {
    let mut map = space.map().lock();
    let start = match &then {
        After::Remove { start, .. } => *start,
        After::Insert(area, _) => area.start,
        After::Move(state) => state.to,
        After::Teardown => 0,
    };
    if !map.remove_some(start, end) {
        return Work::Zap { at: end, end, then };
    }
    match then {
        After::Remove { next, .. } if next.0 < next.1 => {
            let ((at, end), none) = (next, (0, 0));
            let then = After::Remove {
                start: at,
                next: none,
            };
            Work::Zap { at, end, then }
        }
        After::Remove { .. } | After::Teardown => Work::Finish,
        After::Insert(area, room) => {
            map.insert(area, room);
            Work::Finish
        }
        After::Move(state) => Work::Move(state),
    }
}

impl<M: Machine> Space<M> {
    /// Begins a change: checks it, allocates what may fail, takes the map, and makes the areas that
    /// it is about busy.
    ///
    /// # Errors
    /// [`MmError::Busy`] while another change owns the map; else Linux's answer to the request.
    /// Nothing was changed.
    pub fn begin(&self, verb: Verb) -> Result<Change, MmError> {
        let mut map = self.map().lock();
        if map.owned {
            return Err(MmError::Busy);
        }
        map.areas.reserve(verb.added_areas())?;
        let mut change = self.plan_change(&mut map, verb)?;
        self.occupy(&mut map, &mut change)?;
        if planted::is(Fault::ForgetEarly) {
            for (start, end) in change.busy_ranges() {
                map.forget(start, end);
            }
        }
        map.owned = true;
        self.counters().map_changes.bump();
        Ok(change)
    }

    fn plan_change(&self, map: &mut Map, verb: Verb) -> Result<Change, MmError> {
        let reach = |end| self.reach(end);
        let limit = self.context().promise_limit();
        match verb {
            Verb::Map(request) => map::begin(map, request, limit, reach),
            Verb::Unmap { addr, len } => unmap::begin(map, addr, len),
            Verb::Protect { addr, len, prot } => protect::begin(map, addr, len, prot, None),
            Verb::ProtectGrowing {
                addr,
                len,
                prot,
                grows,
            } => protect::begin(map, addr, len, prot, Some(grows)),
            Verb::Brk { new } => brk::begin(map, new, limit, reach),
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
                remap::begin(map, request, limit, reach)
            }
            Verb::DontNeed { addr, len } => discard::begin(map, addr, len),
            Verb::Advise { addr, len, advice } => advise::begin(map, addr, len, advice),
            Verb::Collapse { addr, len } => {
                collapse::begin(map, addr, len, self.small_pages_only())
            }
        }
    }

    /// Makes the areas of a change busy, retires what faults were planned from them, and splits the
    /// blocks that it would cut: all before its first lock of a visit (D5).
    fn occupy(&self, map: &mut Map, change: &mut Change) -> Result<(), MmError> {
        for (room, (start, _)) in change.rooms.iter_mut().zip(change.busy) {
            *room = map.room_at(start)?;
        }
        if !planted::is(Fault::LeaveUnbusy) {
            map.busy = change.busy;
        }
        for (start, end) in change.busy_ranges() {
            if !planted::is(Fault::RetireLate) {
                self.epochs().retire(start, end);
            }
        }
        let stay = ();
        let section = self.machine().read_side(&stay);
        for (start, end) in change.busy_ranges().chain([change.cuts]) {
            if let Some(range) = range(start, end.min(self.end())) {
                self.table().split_ends(range, &section)?;
            }
        }
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
        Ok(Change::new(
            Work::Zap {
                at: 0,
                end,
                then: After::Teardown,
            },
            0,
        ))
    }

    fn let_go(&self) {
        self.map().lock().owned = false;
    }
}
