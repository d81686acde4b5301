//! The small kernel heap: `linked_list_allocator` over a mapped range, behind a spin lock.
//!
//! Hot objects come from slabs; what a user can cause asks with `try_reserve` and gets an error
//! when the heap is full. A full heap that an infallible allocation meets is a kernel bug.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use arm64::addr::VaRange;
use linked_list_allocator::Heap;
use sync::SpinLock;
use sync::rank;

struct KernelHeap(SpinLock<Heap, rank::Slab>);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(SpinLock::new(Heap::empty()));

/// Gives the heap its memory, once.
///
/// # Safety
/// `range` is mapped, writable and belongs to nobody else, for ever.
pub unsafe fn init(range: VaRange) {
    let start = ptr::with_exposed_provenance_mut(range.start().raw() as usize);
    // SAFETY: by this function's contract.
    unsafe { HEAP.0.lock().init(start, range.len() as usize) };
}

/// Bytes in use and bytes in all.
pub fn usage() -> (usize, usize) {
    let heap = HEAP.0.lock();
    (heap.used(), heap.size())
}

// SAFETY: `Heap` hands out disjoint, suitably aligned blocks of the range it was given, and the
// lock makes each operation exclusive.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.0.lock().allocate_first_fit(layout);
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got `block` from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(block, layout) };
        }
    }
}
