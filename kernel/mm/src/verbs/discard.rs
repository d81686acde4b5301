//! `madvise(MADV_DONTNEED)`: the pages go, the areas stay. Faults in the range go on meanwhile.

use pgtable::{Gather, Machine, ReadSide, Zap, ZapReason};

use super::advised;
use crate::change::{Change, Work, range};
use crate::error::MmError;
use crate::space::{Map, Space};
use crate::trace::Kind;

pub(crate) fn begin(map: &mut Map, addr: u64, len: u64) -> Result<Change, MmError> {
    let Some((addr, end)) = advised(addr, len)? else {
        return Ok(Change::new(Work::Finish, 0));
    };
    let change = Change::new(Work::Discard { at: addr, end }, 0).cuts(addr, end);
    // What is mapped is dropped even when the range has holes, which are then reported.
    match map.areas.covered_until(addr, end) == end {
        true => Ok(change),
        false => Ok(change.with_error(MmError::NoMemory)),
    }
}

/// Drops pages of the area at `at`, or passes the hole there.
pub(crate) fn step<M: Machine>(
    space: &Space<M>,
    at: u64,
    end: u64,
    section: &ReadSide<'_>,
) -> Result<Work, MmError> {
    let (stop, anonymous) = {
        let map = space.map().lock();
        match map.areas.overlapping(at, end).next() {
            None => (end, None),
            Some(area) if area.start > at => (area.start, None),
            Some(area) => (area.end.min(end), Some(area.backing.is_anon())),
        }
    };
    let reached = stop.min(space.end());
    let mut next = stop;
    if let (Some(anonymous), Some(range)) = (anonymous, range(at, reached)) {
        let zap = match anonymous {
            true => Zap::anonymous(ZapReason::DontNeed),
            false => Zap::of_object(ZapReason::DontNeed),
        };
        let mut gather = Gather::new();
        let done = space.table().zap(range, zap, &mut gather, section);
        space.tell(Kind::Zap, at, gather.page_count());
        space.release(&mut gather);
        if done == at {
            // A block that a fault has mapped over the end since, and no memory to split it.
            return Err(MmError::NoMemory);
        }
        if done < reached {
            next = done;
        }
    }
    Ok(match next < end {
        true => Work::Discard { at: next, end },
        false => Work::Finish,
    })
}
