//! `brk`: the result is the break afterwards, the old one where the request cannot be met.

use arm64::attrs::Prot;

use super::{round_up, unmap};
use crate::change::Change;
use crate::error::MmError;
use crate::space::Map;
use crate::vma::{Backing, Vma, VmaFlags};

pub(crate) fn begin(
    map: &mut Map,
    change: &mut Change,
    new: u64,
    limit: impl Fn() -> u64,
    reach: impl Fn(u64) -> Result<(), MmError>,
) -> Result<(), MmError> {
    change.answer(map.brk);
    let (Some(old_end), Some(new_end)) = (round_up(map.brk), round_up(new)) else {
        return Ok(());
    };
    if new < map.brk_start || map.brk_start == 0 || new_end > map.task_size {
        return Ok(());
    }
    if new_end > old_end {
        let too_much = (new_end - old_end) >> 12 > limit()
            || !map.areas.may_map()
            || !map.areas.has_room(new_end - old_end);
        if too_much || !map.areas.is_free(old_end, new_end) || reach(new_end).is_err() {
            return Ok(());
        }
        map.areas.insert(Vma {
            start: old_end,
            end: new_end,
            prot: Prot::RW,
            flags: VmaFlags::HEAP | VmaFlags::ACCOUNT,
            backing: Backing::ANON,
        });
    }
    let old = map.brk;
    match unmap::remove(map, change, (new_end, old_end), new) {
        Ok(()) => map.brk = new,
        Err(_) => change.answer(old),
    }
    Ok(())
}
