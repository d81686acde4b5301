//! Allocation tags of host memory: in a table beside it, where a test finds what the allocator did.
//!
//! A page of which nobody has written the tags has [`STALE`] ones, as memory has after its last owner.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arm64::addr::{PAGE_SIZE, Pfn};

use crate::tagged::{PageTags, TAG_BYTES, TagOps};

/// What tags are before anybody writes them.
pub const STALE: PageTags = [0xa5; TAG_BYTES];

const PAGE: usize = PAGE_SIZE as usize;
const GRANULE: usize = 16;

static TAGS: Mutex<BTreeMap<usize, PageTags>> = Mutex::new(BTreeMap::new());

/// The operations.
pub const OPS: TagOps = TagOps {
    zero_pages,
    clear,
    copy,
    save,
    load,
    block_taken,
    block_free,
    matching,
};

#[cfg(not(loom))]
fn block_taken(_first: Pfn, _pages: u32) {}

#[cfg(not(loom))]
fn block_free(_first: Pfn, _pages: u32) {}

#[cfg(loom)]
fn block_taken(_first: Pfn, _pages: u32) {
    BLOCK.write();
}

#[cfg(loom)]
fn block_free(_first: Pfn, _pages: u32) {
    BLOCK.write();
}

/// Under loom: stands for what is in the one block of storage of a model. Who makes it one for tags, or
/// for data again, has it alone.
#[cfg(loom)]
#[derive(Debug)]
pub struct Block(loom::cell::UnsafeCell<u32>);

#[cfg(loom)]
loom::lazy_static! {
    /// The block.
    pub static ref BLOCK: Block = Block(loom::cell::UnsafeCell::new(0));
}

// SAFETY: loom checks every access.
#[cfg(loom)]
unsafe impl Sync for Block {}

#[cfg(loom)]
impl Block {
    /// Reads what is there.
    pub fn read(&self) {
        // SAFETY: loom checks that no mutable access is concurrent.
        self.0.with(|value| unsafe { value.read() });
    }

    /// Changes what is there.
    pub fn write(&self) {
        // SAFETY: loom checks that no other access is concurrent.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tags_at(page: usize) -> PageTags {
    held(&TAGS).get(&page).copied().unwrap_or(STALE)
}

/// # Safety
/// As [`TagOps::zero_pages`].
unsafe fn zero_pages(first: *mut u8, pages: usize) {
    // SAFETY: as the caller promises.
    unsafe { first.write_bytes(0, PAGE * pages) }
    for page in 0..pages {
        held(&TAGS).insert(first.addr() + page * PAGE, [0; TAG_BYTES]);
    }
}

/// # Safety
/// None: nothing is dereferenced.
unsafe fn clear(page: *mut u8) {
    held(&TAGS).insert(page.addr(), [0; TAG_BYTES]);
}

/// # Safety
/// None: nothing is dereferenced.
unsafe fn copy(to: *mut u8, from: *const u8) {
    let tags = tags_at(from.addr());
    held(&TAGS).insert(to.addr(), tags);
}

/// # Safety
/// None: nothing is dereferenced.
unsafe fn save(page: *const u8, tags: &mut PageTags) {
    *tags = tags_at(page.addr());
}

/// # Safety
/// None: nothing is dereferenced.
unsafe fn load(page: *mut u8, tags: &PageTags) {
    held(&TAGS).insert(page.addr(), *tags);
}

/// # Safety
/// None: nothing is dereferenced.
unsafe fn matching(at: *const u8, len: usize, tag: u8) -> usize {
    let (start, end) = (at.addr(), at.addr() + len);
    let tags = tags_at(start & !(PAGE - 1));
    let tag_of = |at: usize| tags[at % PAGE / (2 * GRANULE)] >> (at / GRANULE % 2 * 4) & 0xf;
    let first = start & !(GRANULE - 1);
    let other = (first..end)
        .step_by(GRANULE)
        .find(|&at| tag_of(at) != tag & 0xf);
    other.unwrap_or(end).clamp(start, end) - start
}
