//! `mremap`: shrink, grow in place, move.

use arm64::addr::PAGE_SIZE;
use bitflags::bitflags;
use pgtable::{Gather, Machine, ReadSide, Visit};

use super::map::anywhere;
use super::round_up;
use crate::change::{After, Change, Work, range};
use crate::error::MmError;
use crate::layout::MMAP_MIN_ADDR;
use crate::space::{Map, Space};
use crate::vma::{Backing, Vma};

bitflags! {
    /// Linux's `MREMAP_*`, same bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RemapFlags: u32 {
        /// May move.
        const MAYMOVE = 1;
        /// Must move, to the given address.
        const FIXED = 2;
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub from: u64,
    pub to: u64,
    /// Bytes that move.
    pub len: u64,
    /// Bytes of the old range, all of which is unmapped behind.
    pub old_len: u64,
    /// Bytes handled so far in the present phase.
    pub done: u64,
    /// The tables of the new range are all there: now entries move.
    pub tables_ready: bool,
    /// The area that the new range will be.
    pub area: Vma,
}

pub(crate) fn begin(
    map: &mut Map,
    request: Request,
    reach: impl Fn(u64) -> Result<(), MmError>,
) -> Result<Change, MmError> {
    let Request { old, flags, .. } = request;
    if !old.is_multiple_of(PAGE_SIZE)
        || flags.contains(RemapFlags::FIXED) && !flags.contains(RemapFlags::MAYMOVE)
    {
        return Err(MmError::Invalid);
    }
    let old_len = round_up(request.old_len).ok_or(MmError::Invalid)?;
    let new_len = round_up(request.new_len).ok_or(MmError::Invalid)?;
    if old_len == 0 || new_len == 0 || new_len > map.task_size {
        return Err(MmError::Invalid);
    }
    let old_end = old.checked_add(old_len);
    let old_end = old_end.filter(|&end| end <= map.task_size);
    let old_end = old_end.ok_or(MmError::Invalid)?;
    if flags.contains(RemapFlags::FIXED) {
        return fixed(map, &request, old_len, new_len, reach);
    }
    let area = *map.areas.find(old).ok_or(MmError::BadAddress)?;
    if new_len <= old_len {
        return Ok(shrink(map, old, old + new_len, old_end));
    }
    if area.end < old_end {
        return Err(MmError::BadAddress);
    }
    let grown = old + new_len;
    if area.end == old_end && grown <= map.task_size && map.areas.is_free(old_end, grown) {
        reach(grown)?;
        let backing = part(&area, old).backing;
        map.areas.remove(old, old_end);
        map.areas.insert(Vma {
            start: old,
            end: grown,
            backing,
            ..area
        });
        return Ok(Change::new(Work::Finish, old));
    }
    if !flags.contains(RemapFlags::MAYMOVE) {
        return Err(MmError::NoMemory);
    }
    let to = anywhere(map, new_len).ok_or(MmError::NoMemory)?;
    reach(to + new_len)?;
    let state = movement(&area, old, to, old_len, new_len);
    Ok(Change::new(Work::Move(state), to))
}

fn shrink(map: &Map, old: u64, from: u64, end: u64) -> Change {
    let work = match from == end || map.areas.overlapping(from, end).is_empty() {
        true => Work::Finish,
        false => Work::Zap {
            at: from,
            end,
            then: After::Remove { start: from },
        },
    };
    Change::new(work, old)
}

fn fixed(
    map: &Map,
    request: &Request,
    old_len: u64,
    new_len: u64,
    reach: impl Fn(u64) -> Result<(), MmError>,
) -> Result<Change, MmError> {
    let Request { old, new, .. } = *request;
    let new_end = new.checked_add(new_len);
    let new_end = new_end.filter(|&end| end <= map.task_size);
    let new_end = new_end.ok_or(MmError::Invalid)?;
    if !new.is_multiple_of(PAGE_SIZE) || new < old + old_len && old < new_end {
        return Err(MmError::Invalid);
    }
    if new < MMAP_MIN_ADDR {
        return Err(MmError::NotPermitted);
    }
    let area = map.areas.find(old).filter(|area| area.end >= old + old_len);
    let area = area.ok_or(MmError::BadAddress)?;
    reach(new_end)?;
    let state = movement(area, old, new, old_len, new_len);
    let then = After::Move(state);
    Ok(Change::new(
        Work::Zap {
            at: new,
            end: new_end,
            then,
        },
        new,
    ))
}

/// The part of an area from `start` on.
fn part(area: &Vma, start: u64) -> Vma {
    let backing = match area.backing {
        Backing::Anon => Backing::Anon,
        Backing::Image { object, offset } => Backing::Image {
            object,
            offset: offset + (start - area.start),
        },
    };
    Vma {
        start,
        backing,
        ..*area
    }
}

fn movement(area: &Vma, from: u64, to: u64, old_len: u64, new_len: u64) -> Move {
    let area = Vma {
        start: to,
        end: to + new_len,
        ..part(area, from)
    };
    Move {
        from,
        to,
        len: old_len.min(new_len),
        old_len,
        done: 0,
        tables_ready: false,
        area,
    }
}

/// One page of a move: first all tables are made, so that nothing can fail once the first entry
/// has left its place.
pub(crate) fn step<M: Machine>(
    space: &Space<M>,
    mut state: Move,
    section: &ReadSide<'_>,
) -> Result<Work, MmError> {
    if state.done >= state.len {
        return Ok(next_phase(space, state));
    }
    let (from, to) = (state.from + state.done, state.to + state.done);
    let Some(range) = range(from, state.from + state.len) else {
        return Ok(next_phase(space, state));
    };
    let leaf = match space.table().cursor(range, section).visit() {
        Some(Visit::Table(leaf)) => leaf,
        Some(Visit::Absent(absent)) => {
            state.done = absent.to() - state.from;
            return Ok(Work::Move(state));
        }
        Some(Visit::Block(_)) | None => return Err(MmError::Invalid),
    };
    if state.tables_ready {
        let mut gather = Gather::new();
        let entry = leaf.take_moved(from, &mut gather);
        drop(leaf);
        space.release(&mut gather);
        if let Some(entry) = entry {
            let target = space.table().lock_leaf(to, section, || true)?;
            let put = target.put_moved(to, entry);
            debug_assert!(put.is_ok(), "the target of a move was emptied and is owned");
            space.counters().pages_moved.bump();
        }
    } else {
        drop(leaf);
        drop(space.table().lock_leaf(to, section, || true)?);
    }
    state.done += PAGE_SIZE;
    Ok(Work::Move(state))
}

fn next_phase<M: Machine>(space: &Space<M>, state: Move) -> Work {
    if !state.tables_ready {
        return Work::Move(Move {
            done: 0,
            tables_ready: true,
            ..state
        });
    }
    // Zapping the old range, now empty, takes its empty tables.
    space.map().lock().areas.insert(state.area);
    let end = state.from + state.old_len;
    Work::Zap {
        at: state.from,
        end,
        then: After::Remove { start: state.from },
    }
}
