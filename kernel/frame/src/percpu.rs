//! What each CPU keeps for itself: a short list of single free frames, and its share of the counts.
//!
//! Only the CPU whose index this is writes here (the kernel is not preempted and does not migrate;
//! on the host an index is one thread's), so there are no read-modify-write operations: relaxed
//! atomics compile to plain loads and stores. Other CPUs read the counts for statistics.

use crate::meta::{CLASSES, Class};
use arm64::addr::Pfn;
use sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use sync::const_fn;

/// Frames a list can hold.
pub(crate) const CAPACITY: usize = if cfg!(loom) { 4 } else { 64 };
/// Frames moved between a list and the buddy lists at once.
pub(crate) const BATCH: usize = CAPACITY / 2;

#[repr(align(64))]
pub(crate) struct PerCpu {
    len: AtomicUsize,
    allocs: AtomicU64,
    frees: AtomicU64,
    /// Changes to the number of frames of each class, modulo 2^64: what one CPU allocates another
    /// may free, so only the sum over all CPUs means anything.
    classes: [AtomicU64; CLASSES],
    frames: [AtomicU64; CAPACITY],
    /// Free frames that are kept for memory with tags: the first, and how many. They have their tag
    /// storage in common.
    span: [AtomicU64; 2],
}

#[cfg(loom)]
fn zeroes<const N: usize>() -> [AtomicU64; N] {
    core::array::from_fn(|_| AtomicU64::new(0))
}

impl PerCpu {
    const_fn! {
        pub(crate) const fn new() -> Self {
            #[cfg(not(loom))]
            let (classes, frames) =
                ([const { AtomicU64::new(0) }; CLASSES], [const { AtomicU64::new(0) }; CAPACITY]);
            #[cfg(loom)]
            let (classes, frames) = (zeroes(), zeroes());
            Self {
                len: AtomicUsize::new(0),
                allocs: AtomicU64::new(0),
                frees: AtomicU64::new(0),
                classes,
                frames,
                span: [AtomicU64::new(0), AtomicU64::new(0)],
            }
        }
    }

    /// The frames kept for memory with tags.
    #[inline(always)]
    pub(crate) fn span(&self) -> (Pfn, u64) {
        let [first, count] = &self.span;
        (Pfn::new(first.load(Relaxed)), count.load(Relaxed))
    }

    #[inline(always)]
    pub(crate) fn set_span(&self, first: Pfn, count: u64) {
        self.span[0].store(first.raw(), Relaxed);
        self.span[1].store(count, Relaxed);
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// The frame put in last: the one most likely still in this CPU's cache.
    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<Pfn> {
        let rest = self.len().checked_sub(1)?;
        let pfn = self.frames.get(rest)?.load(Relaxed);
        self.len.store(rest, Relaxed);
        Some(Pfn::new(pfn))
    }

    /// Puts a frame in; false if the list is full.
    #[inline(always)]
    #[must_use]
    pub(crate) fn push(&self, pfn: Pfn) -> bool {
        let len = self.len();
        let Some(slot) = self.frames.get(len) else {
            return false;
        };
        slot.store(pfn.raw(), Relaxed);
        self.len.store(len + 1, Relaxed);
        true
    }

    /// Removes the `count` frames put in first, handing each to `take`.
    pub(crate) fn shift(&self, count: usize, mut take: impl FnMut(Pfn)) {
        let len = self.len();
        let count = count.min(len);
        for slot in &self.frames[..count] {
            take(Pfn::new(slot.load(Relaxed)));
        }
        for i in count..len {
            self.frames[i - count].store(self.frames[i].load(Relaxed), Relaxed);
        }
        self.len.store(len - count, Relaxed);
    }

    #[inline(always)]
    pub(crate) fn count_alloc(&self, class: Class, frames: u64) {
        bump(&self.allocs, 1);
        self.count(class, frames);
    }

    #[inline(always)]
    pub(crate) fn count_free(&self, class: Class, frames: u64) {
        self.count_frees(class, 1, frames);
    }

    /// The same for `blocks` blocks of so many frames together.
    #[inline(always)]
    pub(crate) fn count_frees(&self, class: Class, blocks: u64, frames: u64) {
        bump(&self.frees, blocks);
        self.count(class, frames.wrapping_neg());
    }

    /// Adds `change`, modulo 2^64, to the number of frames of `class`.
    #[inline(always)]
    pub(crate) fn count(&self, class: Class, change: u64) {
        bump(&self.classes[class as usize], change);
    }

    pub(crate) fn class_change(&self, class: usize) -> u64 {
        self.classes[class].load(Relaxed)
    }

    pub(crate) fn allocs(&self) -> u64 {
        self.allocs.load(Relaxed)
    }

    pub(crate) fn frees(&self) -> u64 {
        self.frees.load(Relaxed)
    }
}

#[inline(always)]
fn bump(counter: &AtomicU64, change: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(change), Relaxed);
}
