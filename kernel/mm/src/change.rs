//! Changes of a map as stepped operations (D3): begun with everything checked and allocated,
//! carried on a bounded piece at a time, and over only when all is zapped and flushed.

use arm64::addr::{VaRange, VirtAddr};
use arm64::attrs::Prot;
use pgtable::{Gather, Machine, ReadSide, Zap, ZapReason};

use crate::error::MmError;
use crate::space::Space;
use crate::trace::Kind;
use crate::verbs::map::MapRequest;
use crate::verbs::remap::{Move, RemapFlags};
use crate::verbs::{brk, dontneed, map, protect, remap, unmap};
use crate::vma::{Backing, Vma};

/// What a program (or the loader) asks of a map.
#[derive(Clone, Copy, Debug)]
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
}

/// What moving a page costs, in pages of other work: it finds and locks two tables.
const MOVE_COST: u32 = 4;

/// What is left to do of a change. The map is owned until it is done.
#[derive(Debug)]
#[must_use = "a change owns the map until it has been stepped to its end"]
pub struct Change {
    work: Work,
    result: Result<u64, MmError>,
}

/// The pieces that changes are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Nothing is left but to let the map go.
    Finish,
    /// Take `[at, end)` out of the tables, then do `then`.
    Zap { at: u64, end: u64, then: After },
    /// Give `[at, end)` of the tables the rights, then publish them.
    Protect {
        start: u64,
        at: u64,
        end: u64,
        prot: Prot,
    },
    /// Move entries.
    Move(Move),
}

/// What to publish when a range has been zapped and flushed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum After {
    /// The areas stay (DONTNEED).
    Keep,
    /// The areas of the range go.
    Remove { start: u64 },
    /// The areas of the range go, and this one comes.
    Insert(Vma),
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
        }
    }

    /// A change whose rest is done but which still answers `error`.
    pub(crate) fn with_error(self, error: MmError) -> Self {
        Self {
            result: Err(error),
            ..self
        }
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
            self.work = match self.work {
                Work::Finish => {
                    space.let_go();
                    return Some(self.result);
                }
                Work::Zap { at, end, then } => {
                    left = left.saturating_sub(64);
                    self.zap(space, at, end, then, &section)
                }
                Work::Protect {
                    start,
                    at,
                    end,
                    prot,
                } => {
                    left = left.saturating_sub(64);
                    protect::step(space, start, at, end, prot, &section)
                }
                Work::Move(state) => {
                    left = left.saturating_sub(MOVE_COST - 1);
                    match remap::step(space, state, &section) {
                        Ok(work) => work,
                        Err(error) => {
                            self.result = Err(error);
                            Work::Finish
                        }
                    }
                }
            };
        }
        None
    }

    fn zap<M: Machine>(
        &self,
        space: &Space<M>,
        at: u64,
        end: u64,
        then: After,
        section: &ReadSide<'_>,
    ) -> Work {
        // Nothing is mapped above what the tables reach.
        let stop = end.min(space.end());
        let (zap, piece) = why(space, at, stop, then);
        let Some(range) = range(at, piece) else {
            return after(space, end, then);
        };
        let mut gather = Gather::new();
        let from = at;
        let at = space.table().zap(range, zap, &mut gather, section);
        space.tell(Kind::Zap, from, gather.page_count());
        space.release(&mut gather);
        match at < stop {
            true => Work::Zap { at, end, then },
            false => after(space, end, then),
        }
    }
}

/// Why the range is zapped (law 9), and up to where that is so of areas of one kind.
fn why<M: Machine>(space: &Space<M>, at: u64, stop: u64, then: After) -> (Zap, u64) {
    match then {
        After::Keep => {}
        After::Remove { .. } | After::Insert(_) | After::Move(_) => {
            return (Zap::REGION_GONE, stop);
        }
        After::Teardown => return (Zap::anonymous(ZapReason::Exit), stop),
    }
    let map = space.map().lock();
    let (object_backed, end) = match map.areas.overlapping(at, stop).first() {
        Some(area) if area.start <= at => (!matches!(area.backing, Backing::Anon), area.end),
        Some(area) => (false, area.start),
        None => (false, stop),
    };
    let zap = Zap {
        reason: ZapReason::DontNeed,
        object_backed,
    };
    (zap, end.min(stop))
}

/// `[at, end)`, unless it is empty.
pub(crate) fn range(at: u64, end: u64) -> Option<VaRange> {
    VaRange::new(VirtAddr::new(at), VirtAddr::new(end)).filter(|range| !range.is_empty())
}

/// The range is zapped and flushed up to `end`: publish.
fn after<M: Machine>(space: &Space<M>, end: u64, then: After) -> Work {
    let mut map = space.map().lock();
    match then {
        After::Keep => {}
        After::Remove { start } => map.areas.remove(start, end),
        After::Insert(area) => {
            map.areas.remove(area.start, area.end);
            map.areas.insert(area);
        }
        After::Move(state) => {
            map.areas.remove(state.to, end);
            return Work::Move(state);
        }
        After::Teardown => map.areas.remove(0, end),
    }
    Work::Finish
}

impl<M: Machine> Space<M> {
    /// Begins a change: checks it, allocates what may fail, and takes the map.
    ///
    /// # Errors
    /// [`MmError::Busy`] while another change owns the map; else Linux's answer to the request.
    /// Nothing was changed.
    pub fn begin(&self, verb: Verb) -> Result<Change, MmError> {
        let mut map = self.map().lock();
        if map.owned {
            return Err(MmError::Busy);
        }
        map.areas.reserve()?;
        let reach = |end| self.reach(end);
        let limit = self.context().promise_limit();
        let change = match verb {
            Verb::Map(request) => map::begin(&mut map, request, limit, reach),
            Verb::Unmap { addr, len } => unmap::begin(&mut map, addr, len),
            Verb::Protect { addr, len, prot } => protect::begin(&mut map, addr, len, prot),
            Verb::Brk { new } => brk::begin(&mut map, new, limit, reach),
            Verb::Remap {
                old,
                old_len,
                new_len,
                flags,
                new,
            } => remap::begin(
                &mut map,
                remap::Request {
                    old,
                    old_len,
                    new_len,
                    flags,
                    new,
                },
                reach,
            ),
            Verb::DontNeed { addr, len } => dontneed::begin(&mut map, addr, len),
        }?;
        map.owned = true;
        self.retire_plans();
        self.counters().map_changes.bump();
        Ok(change)
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
        // Splitting at the ends of the space cuts nothing, so this needs no reservation.
        map.owned = true;
        self.retire_plans();
        Ok(Change::new(
            Work::Zap {
                at: 0,
                end: map.task_size,
                then: After::Teardown,
            },
            0,
        ))
    }

    fn let_go(&self) {
        self.map().lock().owned = false;
    }
}
