//! `mprotect`.

use arm64::addr::PAGE_SIZE;
use arm64::attrs::Prot;
use pgtable::{Gather, Machine, ReadSide};

use super::range_end;
use crate::change::{Change, Work, range};
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
    };
    let change = Change::new(work, 0);
    match covered == end {
        true => Ok(change),
        false => Ok(change.with_error(MmError::NoMemory)),
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
    let Some(range) = range(at, end) else {
        let mut map = space.map().lock();
        map.areas.change(start, end, |area| area.prot = prot);
        return Work::Finish;
    };
    let mut gather = Gather::new();
    let next = space.table().protect(range, prot, &mut gather, section);
    space.release(&mut gather);
    Work::Protect {
        start,
        at: next,
        end,
        prot,
    }
}
