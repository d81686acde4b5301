//! `brk`: the result is the break afterwards, the old one where the request cannot be met.

use arm64::attrs::Prot;

use super::{round_up, unmap};
use crate::change::{Change, Work};
use crate::error::MmError;
use crate::space::Map;
use crate::vma::{Backing, Vma, VmaFlags};

pub(crate) fn begin(
    map: &mut Map,
    new: u64,
    limit: u64,
    reach: impl Fn(u64) -> Result<(), MmError>,
) -> Result<Change, MmError> {
    let unchanged = Ok(Change::new(Work::Finish, map.brk));
    let (Some(old_end), Some(new_end)) = (round_up(map.brk), round_up(new)) else {
        return unchanged;
    };
    if new < map.brk_start || map.brk_start == 0 || new_end > map.task_size {
        return unchanged;
    }
    if new_end > old_end {
        let too_much = (new_end - old_end) >> 12 > limit || !map.areas.may_map();
        if too_much || !map.areas.is_free(old_end, new_end) || reach(new_end).is_err() {
            return unchanged;
        }
        map.areas.insert(Vma {
            start: old_end,
            end: new_end,
            prot: Prot::RW,
            flags: VmaFlags::HEAP | VmaFlags::ACCOUNT,
            backing: Backing::ANON,
        });
    }
    map.brk = new;
    match new_end < old_end {
        true => Ok(unmap::removal(map, new_end, old_end, new)),
        false => Ok(Change::new(Work::Finish, new)),
    }
}
