//! `mmap`.

use arm64::addr::PAGE_SIZE;
use arm64::attrs::Prot;
use bitflags::bitflags;

use super::{round_up, unmap};
use crate::change::Change;
use crate::error::MmError;
use crate::layout::{DEFAULT_END, FRESH_END, MMAP_MIN_ADDR};
use crate::object::Room;
use crate::space::Map;
use crate::vma::{Backing, Vma, VmaFlags, rights};

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
        /// An object that must not be written through this mapping.
        const NEVER_WRITE = 1 << 6;
        /// An object that must not be executed through this mapping.
        const NEVER_EXEC = 1 << 7;
        /// `PROT_MTE`: with allocation tags.
        const MTE = 1 << 8;
    }
}

/// One mapping to be.
#[derive(Clone, Debug)]
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
    /// What the caller has found wrong with that, to be said after what is wrong with the place.
    pub refusal: Option<MmError>,
}

#[inline(always)]
pub(crate) fn begin(
    map: &mut Map,
    change: &mut Change,
    request: MapRequest,
    limit: impl Fn() -> u64,
    reach: impl Fn(u64) -> Result<(), MmError>,
) -> Result<(), MmError> {
    if request.len == 0 {
        return Err(MmError::Invalid);
    }
    let len = round_up(request.len)
        .filter(|&len| len <= map.task_size)
        .ok_or(MmError::NoMemory)?;
    let (start, is_hole) = place(map, &request, len)?;
    let end = start + len;
    if let Some(refusal) = request.refusal {
        return Err(refusal);
    }
    let accounted = request.prot.contains(Prot::WRITE)
        && !request
            .flags
            .intersects(MapFlags::NORESERVE | MapFlags::SHARED);
    if accounted && !request.flags.contains(MapFlags::STACK) && len >> 12 > limit() {
        return Err(MmError::NoMemory);
    }
    let (prot, unread) = rights(request.prot);
    let mut flags = area_flags(request.flags) | unread;
    flags.set(VmaFlags::ACCOUNT, accounted);
    if flags.contains(VmaFlags::MTE) && !request.backing.may_carry_tags() {
        return Err(MmError::Invalid);
    }
    if request.backing.is_device() {
        if !flags.contains(VmaFlags::SHARED) || flags.contains(VmaFlags::GROWSDOWN) {
            return Err(MmError::Invalid);
        }
        if prot.contains(Prot::EXEC) {
            return Err(MmError::Access);
        }
        flags |= VmaFlags::NEVER_EXEC;
    }
    let room = match &request.backing {
        Backing::Anon(_) | Backing::Device { .. } => None,
        Backing::Object { object, .. } => Some(Room::reserve(object, 1, flags.may_write_shared())?),
    };
    if !map.areas.has_room(len) {
        return Err(MmError::NoMemory);
    }
    if !map.areas.may_map() || !is_hole && !map.areas.may_remove(start, end) {
        return Err(MmError::NoMemory);
    }
    reach(end)?;
    let area = Vma {
        start,
        end,
        prot,
        flags,
        backing: request.backing,
    };
    change.answer(start);
    if is_hole {
        map.insert(area, room);
        return Ok(());
    }
    replace(map, change, area, room)
}

/// Plans to put `area` where there are others.
#[cold]
fn replace(
    map: &mut Map,
    change: &mut Change,
    area: Vma,
    room: Option<Room>,
) -> Result<(), MmError> {
    let range = (area.start, area.end);
    map.expect(area, room);
    unmap::removal(map, change, range, (0, 0), false)
}

/// Where the mapping is going to be, and whether nothing is there.
fn place(map: &mut Map, request: &MapRequest, len: u64) -> Result<(u64, bool), MmError> {
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
        let taken = !map.areas.is_hole(request.addr, end);
        return match flags.contains(MapFlags::NOREPLACE) && taken {
            true => Err(MmError::Exists),
            false => Ok((request.addr, !taken)),
        };
    }
    let high = is_high(request.addr);
    place_at_hint(map, request.addr, len)
        .or_else(|| {
            high.then(|| {
                let window = map.task_size;
                map.areas.find_between(DEFAULT_END, window, len)
            })
            .flatten()
        })
        .or_else(|| anywhere(map, len))
        .map(|start| (start, true))
        .ok_or(MmError::NoMemory)
}

/// Whether a hint is for addresses above the default window: only who asks for them gets them.
const fn is_high(hint: u64) -> bool {
    hint > DEFAULT_END
}

/// The place that is hinted at, if it is free. No hint is 0.
pub(crate) fn place_at_hint(map: &Map, hint: u64, len: u64) -> Option<u64> {
    let hint = match hint & !(PAGE_SIZE - 1) {
        0 => return None,
        hint => hint.max(MMAP_MIN_ADDR),
    };
    let window = match is_high(hint) {
        true => map.task_size,
        false => DEFAULT_END,
    };
    let end = hint.checked_add(len).filter(|&end| end <= window)?;
    map.areas.is_free(hint, end).then_some(hint)
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
        (MapFlags::NEVER_WRITE, VmaFlags::NEVER_WRITE),
        (MapFlags::NEVER_EXEC, VmaFlags::NEVER_EXEC),
        (MapFlags::MTE, VmaFlags::MTE),
    ];
    let set = pairs.into_iter().filter(|&(flag, _)| flags.contains(flag));
    set.fold(VmaFlags::empty(), |all, (_, flag)| all | flag)
}
