//! `madvise(MADV_DONTNEED)`: the pages go, the areas stay. Faults in the range go on meanwhile.

use pgtable::{Gather, Machine, ReadSide, Zap, ZapReason};

use super::advised;
use crate::change::{Change, Work, range};
use crate::error::MmError;
use crate::space::{Map, Space};
use crate::trace::Kind;

pub(crate) fn begin(
    map: &mut Map,
    change: &mut Change,
    addr: u64,
    len: u64,
) -> Result<(), MmError> {
    let Some((addr, end)) = advised(addr, len)? else {
        return Ok(());
    };
    // As far as registers of a device, which are no pages to be had again.
    let mut inside = map.areas.overlapping(addr, end);
    let device = inside.find(|area| area.backing.is_device());
    let stop = device.map_or(end, |area| area.start.max(addr));
    if stop == addr {
        return Err(MmError::Invalid);
    }
    change.carry(Work::Discard {
        at: addr,
        end: stop,
    });
    // What is mapped is dropped even when the range has holes, which are then reported.
    if stop < end {
        change.fail_with(MmError::Invalid);
    } else if map.areas.covered_until(addr, end) < end {
        change.fail_with(MmError::NoMemory);
    }
    Ok(())
}

/// Drops pages of the area at `place`, or passes the hole there. Whether it is over, and the map
/// let go.
pub(crate) fn step<M: Machine>(
    space: &Space<M>,
    place: &mut u64,
    end: u64,
    section: &ReadSide<'_>,
) -> Result<bool, MmError> {
    let at = *place;
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
        let zap = zap.recording(space.records_writes());
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
    *place = next;
    if next >= end {
        space.map().lock().let_go();
    }
    Ok(next >= end)
}
