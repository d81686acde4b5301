//! `mremap`: shrink, grow in place, move, copy the mapping of shared memory.

use arm64::addr::PAGE_SIZE;
use bitflags::bitflags;
use frame::slab::Ref;
use pgtable::{Gather, Machine, ReadSide, Visit, ZapReason};
use sync::planted::{self, Fault};
use sync::{SpinGuard, rank};

use super::map::{anywhere, place_at_hint};
use super::unmap::{removal, remove};
use crate::change::{Change, VISIT_COST, Work, clear, range};
use crate::error::MmError;
use crate::layout::MMAP_MIN_ADDR;
use crate::object::{MemObject, Room};
use crate::space::{Map, Space};
use crate::vma::{Backing, Vma, VmaFlags};

bitflags! {
    /// Linux's `MREMAP_*`, same bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RemapFlags: u32 {
        /// May move.
        const MAYMOVE = 1;
        /// Must move, to the given address.
        const FIXED = 2;
        /// Must move, and leave an empty mapping behind.
        const DONTUNMAP = 4;
    }
}

/// The arguments of a remap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub old: u64,
    pub old_len: u64,
    pub new_len: u64,
    pub flags: RemapFlags,
    pub new: u64,
}

/// Entries on their way from one range to another.
#[derive(Debug)]
pub(crate) struct Move {
    pub from: u64,
    pub to: u64,
    /// Bytes of the new range.
    new_len: u64,
    /// Bytes that move.
    len: u64,
    /// Bytes of the old range, all of which is unmapped behind.
    old_len: u64,
    /// Bytes handled so far in the present phase.
    done: u64,
    /// The old areas stay, without pages.
    keep_old: bool,
    /// The object whose reverse map the move must not outrun (D14).
    object: Option<Ref<MemObject>>,
    phase: Phase,
}

/// What is done to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What is at the new range goes.
    Clear,
    /// Its tables are made, so that nothing can fail once the first entry has left its place.
    Link,
    /// Its area is in the map: entries move.
    Carry,
    /// The old range, now empty, goes with its tables.
    Leave,
}

/// What moving a page costs, in pages of other work: it finds and locks two tables.
const MOVE_COST: u32 = 7;

impl Move {
    /// What the next step costs at most, in pages.
    pub(crate) const fn cost(&self) -> u32 {
        match self.phase {
            Phase::Clear | Phase::Leave => VISIT_COST,
            Phase::Link | Phase::Carry => MOVE_COST,
        }
    }

    /// The ranges that it is about.
    pub(crate) const fn ranges(&self) -> [(u64, u64); 2] {
        let (from, to) = (self.from, self.to);
        [(from, from + self.old_len), (to, to + self.new_len)]
    }

    fn enter(&mut self, phase: Phase) {
        (self.phase, self.done) = (phase, 0);
    }
}

/// Rounds up to whole pages as Linux does: what cannot be rounded is 0.
const fn rounded(len: u64) -> u64 {
    len.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1)
}

pub(crate) fn begin(
    map: &mut Map,
    change: &mut Change,
    mut request: Request,
    limit: impl Fn() -> u64,
    reach: impl Fn(u64) -> Result<(), MmError>,
) -> Result<(), MmError> {
    let Request { old, flags, .. } = request;
    let moves = flags.contains(RemapFlags::MAYMOVE);
    let keeps = flags.contains(RemapFlags::DONTUNMAP);
    if flags.contains(RemapFlags::FIXED) && !moves
        || keeps && (!moves || request.old_len != request.new_len)
        || !old.is_multiple_of(PAGE_SIZE)
    {
        return Err(MmError::Invalid);
    }
    request.old_len = rounded(request.old_len);
    request.new_len = rounded(request.new_len);
    if request.new_len == 0 {
        return Err(MmError::Invalid);
    }
    let area = map.areas.find(old).ok_or(MmError::BadAddress)?.clone();
    // What is behind the registers may be another's; a second mapping is asked for by the handle.
    if area.backing.is_device() && (keeps || request.old_len == 0) {
        return Err(MmError::Invalid);
    }
    let more = request.new_len.saturating_sub(request.old_len);
    if !map.areas.has_room(more) {
        return Err(MmError::NoMemory);
    }
    if flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP) {
        return to_place(map, change, &request, &area, limit, reach);
    }
    if request.new_len <= request.old_len {
        let (start, end) = excess(map, &request)?;
        return match start == end || map.areas.may_remove(start, end) {
            true => remove(map, change, (start, end), old),
            false => Err(MmError::NoMemory),
        };
    }
    resizable(&request, &area, limit())?;
    if let Some(grown) = room_behind(map, &request, &area) {
        reach(grown)?;
        let room = room_for(&area)?;
        let more = Vma {
            end: grown,
            ..area.behind()
        };
        map.insert(more, room);
        change.answer(old);
        return Ok(());
    }
    if !moves {
        return Err(MmError::NoMemory);
    }
    if !map.areas.may_move() {
        return Err(MmError::NoMemory);
    }
    let to = anywhere(map, request.new_len).ok_or(MmError::NoMemory)?;
    movement(map, change, &request, &area, to, reach)
}

/// What is left over of the old range, which may be empty.
fn excess(map: &Map, request: &Request) -> Result<(u64, u64), MmError> {
    let Request { old, new_len, .. } = *request;
    let more = request.old_len.saturating_sub(new_len);
    if more == 0 {
        return Ok((0, 0));
    }
    let start = old.checked_add(new_len);
    let end = start.and_then(|start| start.checked_add(more));
    let end = end.filter(|&end| end <= map.task_size);
    let end = end.ok_or(MmError::Invalid)?;
    Ok((end - more, end))
}

/// Whether the area at the old address can become a mapping of the new length.
fn resizable(request: &Request, area: &Vma, limit: u64) -> Result<(), MmError> {
    let Request {
        old,
        old_len,
        new_len,
        ..
    } = *request;
    if old_len == 0 && !area.is_shared() {
        return Err(MmError::Invalid);
    }
    if old_len > area.end - old || area.backing.is_device() && new_len > old_len {
        return Err(MmError::BadAddress);
    }
    let promised = area.flags.contains(VmaFlags::ACCOUNT);
    match promised && new_len.saturating_sub(old_len) >> 12 > limit {
        true => Err(MmError::NoMemory),
        false => Ok(()),
    }
}

/// The new end, if the mapping can grow where it is. The gap below a growing area is no obstacle.
fn room_behind(map: &Map, request: &Request, area: &Vma) -> Option<u64> {
    let grown = request.old.checked_add(request.new_len)?;
    let at_end = request.old_len == area.end - request.old;
    (at_end && grown <= map.task_size && map.areas.is_hole(area.end, grown)).then_some(grown)
}

/// `MREMAP_FIXED`, or `MREMAP_DONTUNMAP` to a place of the kernel's choice.
fn to_place(
    map: &mut Map,
    change: &mut Change,
    request: &Request,
    area: &Vma,
    limit: impl Fn() -> u64,
    reach: impl Fn(u64) -> Result<(), MmError>,
) -> Result<(), MmError> {
    let Request {
        old, new, new_len, ..
    } = *request;
    let new_end = new.checked_add(new_len);
    let new_end = new_end.filter(|&end| end <= map.task_size);
    let new_end = new_end.ok_or(MmError::Invalid)?;
    let old_end = old.wrapping_add(request.old_len);
    if !new.is_multiple_of(PAGE_SIZE) || new < old_end && old < new_end {
        return Err(MmError::Invalid);
    }
    let clipped = Request {
        old_len: request.old_len.min(new_len),
        ..*request
    };
    if !map.areas.may_move() {
        return Err(MmError::NoMemory);
    }
    if !request.flags.contains(RemapFlags::FIXED) {
        resizable(&clipped, area, limit())?;
        let to = place_at_hint(map, new, new_len)
            .or_else(|| anywhere(map, new_len))
            .ok_or(MmError::NoMemory)?;
        return movement(map, change, request, area, to, reach);
    }
    // What lies at the target and what is left over goes before the rest is looked at.
    let left = excess(map, request);
    let wrong = match left {
        Err(error) => Err(error),
        Ok(_) => resizable(&clipped, area, limit()),
    };
    let wrong = match wrong {
        Ok(()) if new < MMAP_MIN_ADDR => Err(MmError::NotPermitted),
        other => other,
    };
    match wrong {
        Ok(()) => movement(map, change, request, area, new, reach),
        Err(error) => {
            change.fail_with(error);
            removal(map, change, (new, new_end), left.unwrap_or((0, 0)), false)
        }
    }
}

/// A place in the reverse map of the area's object, for another mapping of it.
fn room_for(area: &Vma) -> Result<Option<Room>, MmError> {
    match &area.backing {
        Backing::Anon(_) | Backing::Device { .. } => Ok(None),
        Backing::Object { object, .. } => {
            let room = Room::reserve(object, 1, area.flags.may_write_shared())?;
            Ok(Some(room))
        }
    }
}

fn movement(
    map: &mut Map,
    change: &mut Change,
    request: &Request,
    area: &Vma,
    to: u64,
    reach: impl Fn(u64) -> Result<(), MmError>,
) -> Result<(), MmError> {
    let Request {
        old: from,
        old_len,
        new_len,
        ..
    } = *request;
    reach(to + new_len)?;
    let mut moved = Vma {
        end: to + new_len,
        ..area.from(from)
    };
    moved.start = to;
    if let Some(origin) = moved.backing.origin_mut() {
        origin.shift = match origin.id {
            // Nothing has been written yet: as if it had been mapped there.
            0 => 0,
            _ => origin.shift.wrapping_add(to).wrapping_sub(from),
        };
    }
    let room = room_for(area)?;
    let object = room.as_ref().map(|room| room.object().clone());
    let state = Move {
        from,
        to,
        new_len,
        len: old_len.min(new_len),
        old_len,
        done: 0,
        keep_old: request.flags.contains(RemapFlags::DONTUNMAP),
        object,
        phase: Phase::Clear,
    };
    map.expect(moved, room);
    map.reserve_rooms(state.ranges())?;
    change.answer(to);
    change.carry(Work::Move(state));
    Ok(())
}

/// A piece of a move. Whether it is over, and the map let go.
pub(crate) fn step<M: Machine>(
    space: &Space<M>,
    state: &mut Move,
    section: &ReadSide<'_>,
) -> Result<bool, MmError> {
    let [old, new] = state.ranges();
    match state.phase {
        Phase::Clear => {
            if vacate(space, &mut state.done, new, section).is_some() {
                state.enter(Phase::Link);
            }
            return Ok(false);
        }
        Phase::Leave => {
            // Zapping the old range takes its empty tables.
            let left = vacate(space, &mut state.done, old, section);
            return Ok(left.map(|mut map| map.let_go()).is_some());
        }
        Phase::Link | Phase::Carry => {}
    }
    let (from, to) = (state.from + state.done, state.to + state.done);
    let Some(range) = range(from, state.from + state.len) else {
        return Ok(next_phase(space, state));
    };
    let leaf = match space.table().cursor(range, section).visit() {
        Some(Visit::Table(leaf)) => leaf,
        Some(Visit::Absent(absent)) => {
            state.done = absent.to() - state.from;
            return Ok(false);
        }
        Some(Visit::Block(block)) => {
            // Pages move; before the first has, so that want of memory has no effect.
            drop(block);
            space.table().split_block(from, section)?;
            return Ok(false);
        }
        None => return Err(MmError::Invalid),
    };
    drop(leaf);
    if state.phase == Phase::Link {
        drop(space.table().lock_leaf(to, section, || true)?);
        if planted::is(Fault::MoveBeforeLink) {
            move_page(space, state, from, to, section);
        }
        // The table of the new range goes as far as that of this page, or less.
        let table = 1 << 21;
        let far = [from, to].map(|va| table - (va & (table - 1)));
        state.done += far[0].min(far[1]);
    } else if move_page(space, state, from, to, section) {
        state.done += PAGE_SIZE;
    }
    Ok(false)
}

/// Empties a bounded part of a range, `done` bytes of which are empty, and takes the areas out that
/// are in it. The map, still locked, when all are gone.
fn vacate<'s, M: Machine>(
    space: &'s Space<M>,
    done: &mut u64,
    (start, end): (u64, u64),
    section: &ReadSide<'_>,
) -> Option<SpinGuard<'s, Map, rank::MapOwner>> {
    let at = clear(space, start + *done, end, ZapReason::RegionGone, section);
    *done = at - start;
    let mut map = (at >= end).then(|| space.map().lock())?;
    map.remove_some(start, end).then_some(map)
}

/// Moves an entry while nobody visits the mappings of its object. False: the table of the new
/// place, which was there and empty, has been reclaimed meanwhile, and there is no memory for
/// another one: nothing was moved.
fn move_page<M: Machine>(
    space: &Space<M>,
    state: &Move,
    from: u64,
    to: u64,
    section: &ReadSide<'_>,
) -> bool {
    let object = state.object.as_ref();
    let object = object.filter(|_| !planted::is(Fault::MoveUnlocked));
    let _moving = object.map(|object| object.lock_for_move());
    if space.table().lock_leaf(to, section, || true).is_err() {
        return false;
    }
    let mut gather = Gather::new();
    let taken = space.table().lock_existing(from, section);
    let entry = taken.and_then(|leaf| leaf.take_moved(from, &mut gather));
    space.release(&mut gather);
    if let Some(entry) = entry {
        // The table is there: who reclaims one visits it as an owner of the map, or through the
        // object, which is held.
        if let Ok(target) = space.table().lock_leaf(to, section, || true) {
            let put = target.put_moved(to, entry);
            debug_assert!(put.is_ok(), "the target of a move was emptied and is owned");
            space.counters().pages_moved.bump();
        }
    }
    true
}

/// All of the range is through the present phase. Whether that was the last one.
fn next_phase<M: Machine>(space: &Space<M>, state: &mut Move) -> bool {
    let mut map = space.map().lock();
    if state.phase == Phase::Link {
        // In the map, and in the reverse map, before the first entry arrives (D14).
        map.bring_in();
        state.enter(Phase::Carry);
        return false;
    }
    let (start, end) = (state.from, state.from + state.old_len);
    if state.keep_old {
        let whole = |area: &Vma| area.start == start && area.end == end;
        map.areas.change(start, end, |area| {
            if whole(area) {
                area.backing.set_origin(0);
            }
        });
    } else if start != end {
        state.enter(Phase::Leave);
        return false;
    }
    // A second mapping has no old range.
    map.let_go();
    true
}
