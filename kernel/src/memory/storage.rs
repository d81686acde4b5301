//! Tag storage and the direct map: frames that hold tags are not seen there, so that a use of one as data
//! is a fault at once (law 13). QEMU keeps tags elsewhere; nothing else would show it.

use arm64::addr::{PAGE_SIZE, Pfn};

use super::init_mm;
use crate::arch::{frames as boot, tag_memory};

/// What frames hold when they are taken for tags, in checked builds: what is read of it later was never
/// written since.
const POISON: u8 = 0xdb;

/// A block of storage is taken for tags. What the caches have of its data is written back and dropped
/// first, so that it is not written over tags later.
pub fn hide(first: Pfn, pages: u32) {
    if cfg!(debug_assertions) {
        tag_memory::fill(first, pages, POISON);
    }
    tag_memory::drop_data(first, pages);
    set(first, pages, false);
}

/// A block of storage is given back. What the caches have of the tags in it is dropped first.
pub fn show(first: Pfn, pages: u32) {
    tag_memory::drop_tags(first, pages);
    set(first, pages, true);
}

/// # Panics
/// If the direct map does not show the block in pages: boot has mapped it so.
fn set(first: Pfn, pages: u32, access: bool) {
    let va = boot::DIRECT_MAP + first.raw() * PAGE_SIZE;
    let done = init_mm().set_accessible(va, pages.into(), access);
    assert!(
        done.is_ok(),
        "tag storage at {va:#x} is mapped in another way"
    );
}
