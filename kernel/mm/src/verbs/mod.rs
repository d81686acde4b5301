//! The verbs that change a map, one file each: what Linux checks, in Linux's order, and the work
//! that is left when the checks have passed.

pub mod advise;
pub mod arm;
pub mod brk;
pub mod collapse;
pub mod discard;
pub mod map;
pub mod mincore;
pub mod populate;
pub mod protect;
pub mod remap;
pub mod remove;
pub mod supply;
pub mod unmap;

use arm64::addr::PAGE_SIZE;

use crate::error::MmError;
use crate::space::Map;

/// Rounds a length up to whole pages; none if that overflows.
pub(crate) fn round_up(len: u64) -> Option<u64> {
    Some(len.checked_add(PAGE_SIZE - 1)? & !(PAGE_SIZE - 1))
}

/// The range of an advice: none if it is empty, and not beyond what the space can become, where
/// nothing is mapped.
pub(crate) fn advised(addr: u64, len: u64) -> Result<Option<(u64, u64)>, MmError> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(MmError::Invalid);
    }
    let len = round_up(len).ok_or(MmError::Invalid)?;
    let end = addr.checked_add(len).ok_or(MmError::Invalid)?;
    Ok((addr < end).then_some((addr, end)))
}

/// End of a page-aligned, non-empty range inside the largest that the space can become.
pub(crate) fn range_end(map: &Map, addr: u64, len: u64) -> Result<u64, MmError> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(MmError::Invalid);
    }
    let len = round_up(len)
        .filter(|&len| len != 0)
        .ok_or(MmError::Invalid)?;
    addr.checked_add(len)
        .filter(|&end| end <= map.task_size)
        .ok_or(MmError::Invalid)
}
