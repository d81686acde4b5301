//! `munmap`.

use super::range_end;
use crate::change::{After, Change, Work};
use crate::error::MmError;
use crate::space::Map;

pub(crate) fn begin(map: &mut Map, addr: u64, len: u64) -> Result<Change, MmError> {
    let end = range_end(map, addr, len)?;
    let work = match map.areas.overlapping(addr, end).is_empty() {
        true => Work::Finish,
        false => Work::Zap {
            at: addr,
            end,
            then: After::Remove { start: addr },
        },
    };
    Ok(Change::new(work, 0))
}
