//! `mprotect`.

use arm64::addr::PAGE_SIZE;
use arm64::attrs::Prot;
use pgtable::{Gather, Machine, ReadSide};

use super::range_end;
use crate::change::{Change, Work, range};
use crate::error::MmError;
use crate::space::{AREAS_PER_STEP, Map, Space};
use crate::vma::{Vma, VmaFlags, entry_prot};

pub(crate) fn begin(map: &mut Map, addr: u64, len: u64, prot: Prot) -> Result<Change, MmError> {
    if len == 0 && addr.is_multiple_of(PAGE_SIZE) {
        return Ok(Change::new(Work::Finish, 0));
    }
    let end = match range_end(map, addr, len) {
        Err(MmError::Invalid) if addr.is_multiple_of(PAGE_SIZE) => return Err(MmError::NoMemory),
        other => other?,
    };
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

/// Changes and flushes the entries of one table, or passes a range without tables.
pub(crate) fn step<M: Machine>(
    space: &Space<M>,
    start: u64,
    at: u64,
    end: u64,
    prot: Prot,
    section: &ReadSide<'_>,
) -> Work {
    let Some((stop, rights)) = part(space, at, end, prot) else {
        return publish(space, start, end, prot);
    };
    let reached = stop.min(space.end());
    let mut next = stop;
    if let Some(range) = range(at, reached) {
        let mut gather = Gather::new();
        let done = space.table().protect(range, rights, &mut gather, section);
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
    let rights = entry_prot(prot, area.flags, &area.backing);
    Some((area.end.min(end), rights))
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
    area.prot = prot;
}
