//! `munmap`.

use super::range_end;
use crate::change::{After, Change, Work};
use crate::error::MmError;
use crate::space::Map;

pub(crate) fn begin(map: &mut Map, addr: u64, len: u64) -> Result<Change, MmError> {
    let end = range_end(map, addr, len)?;
    match map.areas.may_remove(addr, end) {
        true => Ok(removal(map, addr, end, 0)),
        false => Err(MmError::NoMemory),
    }
}

/// Takes out what is in `[start, end)`, which may be empty, answering `result`.
pub(crate) fn removal(map: &Map, start: u64, end: u64, result: u64) -> Change {
    if start >= end || map.areas.is_hole(start, end) {
        return Change::new(Work::Finish, result);
    }
    let then = After::Remove {
        start,
        next: (0, 0),
    };
    let at = start;
    Change::new(Work::Zap { at, end, then }, result).busy([(start, end), (0, 0)])
}
