//! `munmap`.

use super::range_end;
use crate::change::{Change, Work, Zapping};
use crate::error::MmError;
use crate::space::Map;

#[inline(always)]
pub(crate) fn begin(
    map: &mut Map,
    change: &mut Change,
    addr: u64,
    len: u64,
) -> Result<(), MmError> {
    let end = range_end(map, addr, len)?;
    remove(map, change, (addr, end), 0)
}

/// Takes out what is in a range, which may be empty, answering `result`.
///
/// # Errors
/// [`MmError::NoMemory`]: too many areas.
#[inline(always)]
pub(crate) fn remove(
    map: &mut Map,
    change: &mut Change,
    (start, end): (u64, u64),
    result: u64,
) -> Result<(), MmError> {
    change.answer(result);
    if start >= end {
        return Ok(());
    }
    let (_, Some(first)) = map.areas.find_above(start) else {
        return Ok(());
    };
    if first.start >= end {
        return Ok(());
    }
    // Only what leaves a part on either side adds one.
    let cuts = first.start < start && end < first.end;
    if !map.areas.may_add(cuts.into()) {
        return Err(MmError::NoMemory);
    }
    let is_anon = first.backing.is_anon();
    removal(map, change, (start, end), (0, 0), is_anon)
}

/// Plans to take out what is in a range, and then in another one, if that is not empty. `is_anon`:
/// there is no object where the first one begins, and no second one.
#[inline(always)]
pub(crate) fn removal(
    map: &mut Map,
    change: &mut Change,
    range: (u64, u64),
    next: (u64, u64),
    is_anon: bool,
) -> Result<(), MmError> {
    if !is_anon {
        map.reserve_rooms([range, next])?;
    }
    change.carry(Work::Zap(Zapping::new(range, next)));
    Ok(())
}
