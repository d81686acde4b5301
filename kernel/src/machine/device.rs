//! Registers of devices, for programs that are their drivers (docs/decisions/0018).
//!
//! A range of registers is open once. What is mapped by its handle stays mapped until it is unmapped,
//! as with memory objects; the range is free for another driver when the last handle has gone.

use frame::Frames;
use frame::slab::{Cache, Ref};
use sync::{SpinLock, rank};

use crate::arch::start;
use crate::early::Region;
use crate::errno::Errno;

/// Ranges that can be open at once.
const OPEN: usize = 16;
/// Ranges are of whole pages.
const PAGE: u64 = arm64::addr::PAGE_SIZE;

static DEVICES: Cache<Device> = Cache::new("device");
static TAKEN: SpinLock<[Option<Region>; OPEN], rank::Leaf> = SpinLock::new([None; OPEN]);

/// Prepares the cache, once, at boot.
pub fn init(frames: &'static Frames) {
    DEVICES.init(frames);
}

/// An open range of registers. Its end makes it free for another.
#[derive(Debug)]
pub struct Device {
    range: Region,
}

impl Device {
    /// Opens `len` bytes of registers at the physical address `base`.
    ///
    /// # Errors
    /// `EINVAL` for what is not of whole pages, beyond the addresses of the CPUs, or memory; `EACCES`
    /// for registers that the kernel drives; `EBUSY` if a part is open, or too many are; `ENOMEM`.
    pub fn open(base: u64, len: u64) -> Result<Ref<Self>, Errno> {
        let end = base.checked_add(len).ok_or(Errno::EINVAL)?;
        if len == 0 || !base.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        let range = Region::new(base, end);
        match start::use_of(&range) {
            start::Use::Nothing => {}
            start::Use::Memory => return Err(Errno::EINVAL),
            start::Use::Kernel => return Err(Errno::EACCES),
        }
        {
            let mut taken = TAKEN.lock();
            if taken.iter().flatten().any(|other| other.overlaps(&range)) {
                return Err(Errno::EBUSY);
            }
            let free = taken.iter_mut().find(|place| place.is_none());
            *free.ok_or(Errno::EBUSY)? = Some(range);
        }
        // Should there be no memory, its drop makes the range free again.
        DEVICES.alloc_ref(Self { range }).map_err(|_| Errno::ENOMEM)
    }

    /// The physical address of `len` bytes from `offset` on.
    ///
    /// # Errors
    /// `EINVAL`: not in the range.
    pub fn part(&self, offset: u64, len: u64) -> Result<u64, Errno> {
        let end = offset.checked_add(len).ok_or(Errno::EINVAL)?;
        match end <= self.range.len() {
            true => Ok(self.range.start + offset),
            false => Err(Errno::EINVAL),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock();
        let mut places = taken.iter_mut();
        if let Some(place) = places.find(|place| **place == Some(self.range)) {
            *place = None;
        }
    }
}
