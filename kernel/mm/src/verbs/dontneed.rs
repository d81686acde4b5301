//! `madvise(MADV_DONTNEED)`: the pages go, the areas stay.

use arm64::addr::PAGE_SIZE;

use super::range_end;
use crate::change::{After, Change, Work};
use crate::error::MmError;
use crate::space::Map;

pub(crate) fn begin(map: &mut Map, addr: u64, len: u64) -> Result<Change, MmError> {
    if len == 0 && addr.is_multiple_of(PAGE_SIZE) {
        return Ok(Change::new(Work::Finish, 0));
    }
    let end = range_end(map, addr, len)?;
    let change = Change::new(
        Work::Zap {
            at: addr,
            end,
            then: After::Keep,
        },
        0,
    );
    // What is mapped is dropped even when the range has holes, which are then reported.
    match map.areas.covered_until(addr, end) == end {
        true => Ok(change),
        false => Ok(change.with_error(MmError::NoMemory)),
    }
}
