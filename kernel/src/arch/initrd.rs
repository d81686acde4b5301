//! The initial RAM disk as bytes.

use core::slice;

use arm64::addr::PhysAddr;

use super::mmu;
use crate::memory;

/// The archive that the loader left in RAM; `None` without one.
pub fn bytes() -> Option<&'static [u8]> {
    let region = memory::boot_info().initrd?;
    let start = mmu::frames()
        .window()
        .virt(PhysAddr::new(region.start))
        .as_ptr();
    // SAFETY: boot found the region inside of RAM and mapped it in the direct map; its frames are
    // of class initrd, which nobody writes or frees.
    Some(unsafe { slice::from_raw_parts(start, region.len() as usize) })
}
