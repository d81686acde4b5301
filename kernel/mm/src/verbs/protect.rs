//! `mprotect`.

use arm64::addr::PAGE_SIZE;
use arm64::attrs::Prot;
use pgtable::{Gather, Machine, ReadSide};

use super::round_up;
use crate::change::{Change, Work, range};
use crate::error::MmError;
use crate::space::{AREAS_PER_STEP, Map, Space};
use crate::vma::{Vma, VmaFlags, entry_prot, rights};

/// Which bit came with the rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grows {
    /// `PROT_GROWSDOWN`: the change begins where the area does, which has to grow down.
    Down,
    /// `PROT_GROWSUP`: no area grows up.
    Up,
}

pub(crate) fn begin(
    map: &mut Map,
    addr: u64,
    len: u64,
    prot: Prot,
    grows: Option<Grows>,
) -> Result<Change, MmError> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(MmError::Invalid);
    }
    if len == 0 {
        return Ok(Change::new(Work::Finish, 0));
    }
    // An end beyond all addresses is no error of its own: there is a hole before it.
    let end = round_up(len).and_then(|len| addr.checked_add(len));
    let end = end.ok_or(MmError::NoMemory)?;
    let addr = first(map, addr, end, grows)?;
    // Up to the first hole, or the first area that must not get these rights, the change is made;
    // then that is reported, as on Linux.
    let covered = map.areas.covered_until(addr, end);
    let refusal = map
        .areas
        .overlapping(addr, covered)
        .find(|area| prot.contains(Prot::WRITE) && area.flags.contains(VmaFlags::NEVER_WRITE))
        .map(|area| area.start.max(addr));
    let (stop, error) = match refusal {
        Some(at) => (at, Some(MmError::Access)),
        None => (covered, (covered < end).then_some(MmError::NoMemory)),
    };
    if stop == addr {
        return Err(error.unwrap_or(MmError::NoMemory));
    }
    if !map.areas.may_cut(addr, stop) {
        return Err(MmError::NoMemory);
    }
    let work = Work::Protect {
        start: addr,
        at: addr,
        end: stop,
        prot,
    };
    let change = Change::new(work, 0).busy([(addr, stop), (0, 0)]);
    Ok(match error {
        None => change,
        Some(error) => change.with_error(error),
    })
}

/// Where the change begins.
fn first(map: &Map, start: u64, end: u64, grows: Option<Grows>) -> Result<u64, MmError> {
    let area = map.areas.overlapping(start, end).next();
    let area = area.ok_or(MmError::NoMemory)?;
    match grows {
        Some(Grows::Down) if area.flags.contains(VmaFlags::GROWSDOWN) => Ok(area.start),
        Some(Grows::Down) => Err(MmError::Invalid),
        _ if area.start > start => Err(MmError::NoMemory),
        Some(Grows::Up) => Err(MmError::Invalid),
        None => Ok(start),
    }
}

/// Changes and flushes the entries of one table, or passes a range without tables.
pub(crate) fn step<M: Machine>(
    space: &Space<M>,
    start: u64,
    at: u64,
    end: u64,
    prot: Prot,
    section: &ReadSide<'_>,
) -> Work {
    let Some((stop, entries)) = part(space, at, end, prot) else {
        return publish(space, start, end, prot);
    };
    let reached = stop.min(space.end());
    let mut next = stop;
    if let Some(range) = range(at, reached) {
        let mut gather = Gather::new();
        let done = space.table().protect(range, entries, &mut gather, section);
        space.release(&mut gather);
        if done < reached {
            next = done;
        }
    }
    Work::Protect {
        start,
        at: next,
        end,
        prot,
    }
}

/// The entries have their rights: so do the areas from `start` on, a bounded number at a time.
fn publish<M: Machine>(space: &Space<M>, start: u64, end: u64, prot: Prot) -> Work {
    let mut map = space.map().lock();
    let stop = map.areas.step_end(start, end, AREAS_PER_STEP);
    map.areas.change(start, stop, |area| set(area, prot));
    match stop == end {
        true => Work::Finish,
        false => Work::Protect {
            start: stop,
            at: end,
            end,
            prot,
        },
    }
}

/// The part of `[at, end)` that lies in one area, and what its entries get.
fn part<M: Machine>(space: &Space<M>, at: u64, end: u64, prot: Prot) -> Option<(u64, Prot)> {
    if at >= end {
        return None;
    }
    let map = space.map().lock();
    let area = map.areas.find(at)?;
    let (prot, _) = rights(prot);
    let prot = entry_prot(prot, area.flags, &area.backing);
    Some((area.end.min(end), prot))
}

/// The area as it is afterwards. What was promised when it became writable stays promised, unless
/// it has never been touched.
fn set(area: &mut Vma, prot: Prot) {
    let shared = VmaFlags::SHARED | VmaFlags::NORESERVE;
    let was_writable = area.prot.contains(Prot::WRITE);
    if prot.contains(Prot::WRITE) {
        if !was_writable && !area.flags.intersects(shared) {
            area.flags.insert(VmaFlags::ACCOUNT);
        }
    } else if area.backing.is_anon() && area.backing.origin().id == 0 {
        area.flags.remove(VmaFlags::ACCOUNT);
    }
    let (prot, unread) = rights(prot);
    area.flags.remove(VmaFlags::UNREAD);
    area.flags.insert(unread);
    area.prot = prot;
}
