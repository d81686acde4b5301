//! `mprotect`.

use arm64::addr::PAGE_SIZE;
use arm64::attrs::Prot;
use arm64::geometry::Level;
use pgtable::{Machine, ReadSide};

use super::range_end;
use crate::change::{Change, Work};
use crate::error::MmError;
use crate::space::{Map, Space};

pub(crate) fn begin(map: &mut Map, addr: u64, len: u64, prot: Prot) -> Result<Change, MmError> {
    if len == 0 && addr.is_multiple_of(PAGE_SIZE) {
        return Ok(Change::new(Work::Finish, 0));
    }
    let end = match range_end(map, addr, len) {
        Err(MmError::Invalid) if addr.is_multiple_of(PAGE_SIZE) => return Err(MmError::NoMemory),
        other => other?,
    };
    // Up to the first hole the change is made, then the hole is reported, as on Linux.
    let covered = map.areas.covered_until(addr, end);
    if covered == addr {
        return Err(MmError::NoMemory);
    }
    let work = Work::Protect {
        start: addr,
        at: addr,
        end: covered,
        prot,
        changed: false,
    };
    let change = Change::new(work, 0);
    match covered == end {
        true => Ok(change),
        false => Ok(change.with_error(MmError::NoMemory)),
    }
}

/// Changes the entries of one leaf table, or skips a range without tables.
pub(crate) fn step<M: Machine>(
    space: &Space<M>,
    start: u64,
    at: u64,
    end: u64,
    prot: Prot,
    changed: bool,
    section: &ReadSide<'_>,
) -> Work {
    if at < end {
        let (next, changed) = match space.table().lock_existing(at, section) {
            Ok(leaf) => {
                let next = leaf.end(at, end);
                (next, leaf.protect(at, next, prot) | changed)
            }
            Err(level) => (space.table().geometry().addr_end(at, end, level), changed),
        };
        debug_assert!(next > at && Level::L3.size() == PAGE_SIZE);
        return Work::Protect {
            start,
            at: next,
            end,
            prot,
            changed,
        };
    }
    if changed {
        // The flush frees nothing: its proof is not needed.
        let _flushed = space.flush();
    }
    space
        .map()
        .lock()
        .areas
        .change(start, end, |area| area.prot = prot);
    Work::Finish
}
