//! Host memory that plays a bank of RAM, for tests of this and the crates above.
//!
//! An arena lives until the test program ends: typed frames refer to their allocator for good, as
//! they do in the kernel. Make one per test.

pub mod tags;

use crate::frames::Frames;
use crate::meta::FrameMeta;
use crate::storage::{PAGES_PER_TAG_PAGE, TagRegion};
use crate::window::{PageOps, Window};
use arm64::addr::{PAGE_SIZE, Pfn, PhysAddr};
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::boxed::Box;
use std::sync::{Mutex, PoisonError};
use std::vec::Vec;

/// Where arenas begin, as a physical address: where RAM begins on QEMU's `virt` machine.
pub const BASE: PhysAddr = PhysAddr::new(0x4000_0000);

/// The largest block is aligned in physical memory; let it be so in host memory.
const ALIGN: usize = 4 << 20;

/// What a leaked allocator points to, kept reachable so that leak checkers know it is meant.
struct Kept(
    #[expect(dead_code, reason = "held, not read")] (*mut u8, *mut FrameMeta, &'static Frames),
);

// SAFETY: the pointers are only stored.
unsafe impl Send for Kept {}

static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// The frames of an arena of `pages` pages.
pub const fn range(pages: u64) -> core::ops::Range<Pfn> {
    BASE.pfn()..BASE.pfn().add(pages)
}

/// An allocator over `pages` pages of zeroed memory, with records, that knows no bank yet.
pub fn offline(pages: u64) -> &'static Frames {
    keep(make(pages))
}

/// An allocator over `pages` pages of zeroed memory, all of it free.
pub fn frames(pages: u64) -> &'static Frames {
    online(offline(pages), pages)
}

/// Like [`frames`], with tables of `entries` entries each: loom's atomics are made one by one
/// ([`Frames::cells`]), and a model that has few of them is explored sooner.
#[cfg(loom)]
pub fn frames_with_tables(pages: u64, entries: usize) -> &'static Frames {
    let mut made = make(pages);
    made.frames.table_cells = crate::cells::Cells::new(BASE.pfn(), pages, entries);
    online(keep(made), pages)
}

/// Like [`frames`], with tag storage at the end of the arena for all of it: blocks of `block_pages`
/// frames, a thirty-second of the arena in all.
pub fn frames_with_tag_storage(pages: u64, block_pages: u32) -> &'static Frames {
    let made = offline(pages);
    let block = u64::from(block_pages);
    let storage = (pages.div_ceil(PAGES_PER_TAG_PAGE)).next_multiple_of(block);
    let all = range(pages);
    let region = TagRegion {
        storage: Pfn::new(all.end.raw() - storage)..all.end,
        tagged: all.clone(),
        block_pages,
    };
    // SAFETY: the records exist, zeroed, and nothing uses the memory.
    unsafe {
        made.add_bank(all.clone()).expect("the first bank");
        made.release(all.start..region.storage.start);
        made.add_tag_regions(core::iter::once(region));
    }
    made
}

/// An allocator, and what it was made from.
struct Made {
    frames: Frames,
    memory: *mut u8,
    first: *mut FrameMeta,
}

fn make(pages: u64) -> Made {
    let bytes = pages * PAGE_SIZE;
    let memory = ram(bytes as usize);
    let records: Box<[FrameMeta]> = (0..pages).map(|_| FrameMeta::absent()).collect();
    let first = Box::into_raw(records).cast::<FrameMeta>();
    let frame_zero = first.wrapping_sub(BASE.pfn().raw() as usize);
    let frame_zero = NonNull::new(frame_zero).expect("records are not at frame 0's address");
    let window = Window {
        virt_base: memory,
        phys_base: BASE.raw(),
        len: bytes,
    };
    let ops = PageOps {
        tags: Some(tags::OPS),
        ..PageOps::PORTABLE
    };
    // SAFETY: the memory and the records are never given back.
    let frames = unsafe { Frames::new(window, frame_zero, ops) };
    Made {
        frames,
        memory,
        first,
    }
}

/// Zeroed memory that is never given back.
fn ram(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, ALIGN).expect("an arena that fits");
    #[cfg(loom)]
    if let Some(memory) = of_the_last_execution(bytes) {
        return memory;
    }
    // SAFETY: an arena has at least one page.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    #[cfg(loom)]
    LAST.set((bytes, memory));
    memory
}

#[cfg(loom)]
std::thread_local! {
    /// The memory made last. A model is executed many thousand times, one after another and all by
    /// one thread of the test program, and each execution makes one arena.
    static LAST: std::cell::Cell<(usize, *mut u8)> =
        const { std::cell::Cell::new((0, core::ptr::null_mut())) };
}

/// The memory of the execution before, cleared.
#[cfg(loom)]
fn of_the_last_execution(bytes: usize) -> Option<*mut u8> {
    let (size, memory) = LAST.get();
    if size != bytes {
        return None;
    }
    // SAFETY: it is of that size, and whoever used it is gone.
    unsafe { memory.write_bytes(0, size) };
    Some(memory)
}

fn keep(made: Made) -> &'static Frames {
    let frames: &'static Frames = Box::leak(Box::new(made.frames));
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push(Kept((made.memory, made.first, frames)));
    frames
}

fn online(frames: &'static Frames, pages: u64) -> &'static Frames {
    // SAFETY: the records exist, zeroed, and nothing uses the memory.
    unsafe {
        frames.add_bank(range(pages)).expect("the first bank");
        frames.release(range(pages));
    }
    frames
}
