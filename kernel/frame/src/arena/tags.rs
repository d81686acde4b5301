//! Allocation tags of host memory: in a table beside it, where a test finds what the allocator did.
//!
//! A page of which nobody has written the tags has [`STALE`] ones, as memory has after its last owner.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arm64::addr::PAGE_SIZE;

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
    block_taken: |_, _| {},
    block_free: |_, _| {},
    matching,
};

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
