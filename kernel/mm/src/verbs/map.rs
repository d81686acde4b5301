//! `mmap`.

use arm64::addr::PAGE_SIZE;
use arm64::attrs::Prot;
use bitflags::bitflags;

use super::round_up;
use crate::change::{After, Change, Work};
use crate::error::MmError;
use crate::layout::{DEFAULT_END, FRESH_END, MMAP_MIN_ADDR};
use crate::space::Map;
use crate::vma::{Backing, Vma, VmaFlags};

bitflags! {
    /// How to place and treat a mapping.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MapFlags: u16 {
        /// Exactly at the address, replacing what is there.
        const FIXED = 1;
        /// With [`Self::FIXED`]: refuse where something is there.
        const NOREPLACE = 1 << 1;
        /// Grows down.
        const GROWSDOWN = 1 << 2;
        /// Promise more than there is.
        const NORESERVE = 1 << 3;
        /// Shared.
        const SHARED = 1 << 4;
        /// The main stack (loader).
        const STACK = 1 << 5;
    }
}

/// One mapping to be.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest {
    /// A hint, or the place.
    pub addr: u64,
    /// Bytes; rounded up to pages.
    pub len: u64,
    /// Rights.
    pub prot: Prot,
    /// How.
    pub flags: MapFlags,
    /// What fills it.
    pub backing: Backing,
}

pub(crate) fn begin(
    map: &mut Map,
    request: MapRequest,
    limit: u64,
    reach: impl Fn(u64) -> Result<(), MmError>,
) -> Result<Change, MmError> {
    if request.len == 0 {
        return Err(MmError::Invalid);
    }
    let len = round_up(request.len)
        .filter(|&len| len <= map.task_size)
        .ok_or(MmError::NoMemory)?;
    let promised = request.prot.contains(Prot::WRITE)
        && !request
            .flags
            .intersects(MapFlags::NORESERVE | MapFlags::STACK);
    if promised && len >> 12 > limit {
        return Err(MmError::NoMemory);
    }
    let start = place(map, &request, len)?;
    reach(start + len)?;
    let area = Vma {
        start,
        end: start + len,
        prot: request.prot,
        flags: area_flags(request.flags),
        backing: request.backing,
    };
    let work = match map.areas.overlapping(start, area.end).is_empty() {
        true => {
            map.areas.insert(area);
            Work::Finish
        }
        false => Work::Zap {
            at: start,
            end: area.end,
            then: After::Insert(area),
        },
    };
    Ok(Change::new(work, start))
}

fn place(map: &mut Map, request: &MapRequest, len: u64) -> Result<u64, MmError> {
    let flags = request.flags;
    if flags.intersects(MapFlags::FIXED | MapFlags::NOREPLACE) {
        let end = request
            .addr
            .checked_add(len)
            .filter(|&end| end <= map.task_size);
        let end = end.ok_or(MmError::NoMemory)?;
        if !request.addr.is_multiple_of(PAGE_SIZE) {
            return Err(MmError::Invalid);
        }
        if request.addr < MMAP_MIN_ADDR {
            return Err(MmError::NotPermitted);
        }
        let taken = !map.areas.overlapping(request.addr, end).is_empty();
        return match flags.contains(MapFlags::NOREPLACE) && taken {
            true => Err(MmError::Exists),
            false => Ok(request.addr),
        };
    }
    let hint = match request.addr & !(PAGE_SIZE - 1) {
        0 => None,
        hint => Some(hint.max(MMAP_MIN_ADDR)),
    };
    // Only who asks for something above the default window gets it.
    let high = hint.is_some_and(|hint| hint > DEFAULT_END);
    let window = if high { map.task_size } else { DEFAULT_END };
    let at_hint = hint.filter(|&hint| {
        hint.checked_add(len)
            .is_some_and(|end| end <= window && map.areas.is_free(hint, end))
    });
    at_hint
        .or_else(|| {
            high.then(|| map.areas.find_between(DEFAULT_END, window, len))
                .flatten()
        })
        .or_else(|| anywhere(map, len))
        .ok_or(MmError::NoMemory)
}

/// A free place for who has no wish: in a fresh space's range, else below the end of the default
/// window.
pub(crate) fn anywhere(map: &mut Map, len: u64) -> Option<u64> {
    let areas = &mut map.areas;
    areas
        .find_free(len)
        .or_else(|| areas.find_between(FRESH_END, DEFAULT_END, len))
}

fn area_flags(flags: MapFlags) -> VmaFlags {
    let pairs = [
        (MapFlags::GROWSDOWN, VmaFlags::GROWSDOWN),
        (MapFlags::NORESERVE, VmaFlags::NORESERVE),
        (MapFlags::SHARED, VmaFlags::SHARED),
        (MapFlags::STACK, VmaFlags::STACK),
    ];
    let set = pairs.into_iter().filter(|&(flag, _)| flags.contains(flag));
    set.fold(VmaFlags::empty(), |all, (_, flag)| all | flag)
}
