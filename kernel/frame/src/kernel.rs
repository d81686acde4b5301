//! Frames for the kernel's own use.

use crate::frames::Frames;
use crate::meta::Class;
use crate::stats::OutOfMemory;
use arm64::addr::{PAGE_SIZE, Pfn};
use core::ptr::NonNull;

impl Frames {
    /// Allocates 2^`order` contiguous frames for the kernel: a stack, heap, slabs, frame records.
    /// Their contents are arbitrary.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    ///
    /// # Panics
    /// If `class` is not one of slab, stack, heap, memmap and kernel.
    #[inline]
    pub fn alloc_kernel(
        &'static self,
        order: u8,
        class: Class,
    ) -> Result<KernelFrame, OutOfMemory> {
        assert!(
            matches!(
                class,
                Class::Slab | Class::Stack | Class::KernelHeap | Class::MemMap | Class::Kernel
            ),
            "{} is no class for kernel frames",
            class.name()
        );
        let pfn = self.take(order, class)?;
        Ok(KernelFrame {
            frames: self,
            pfn,
            order,
            class,
        })
    }
}

/// A block of frames of the kernel's own; dropping it frees it.
#[must_use]
pub struct KernelFrame {
    frames: &'static Frames,
    pfn: Pfn,
    order: u8,
    class: Class,
}

impl KernelFrame {
    /// The first frame.
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// log2 of the number of frames.
    pub fn order(&self) -> u8 {
        self.order
    }

    /// Bytes in the block.
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub fn len(&self) -> usize {
        (PAGE_SIZE as usize) << self.order
    }

    /// Where the window shows the block.
    #[inline(always)]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.frames.window().virt(self.pfn.start())
    }

    /// Clears the block.
    pub fn zero(&mut self) {
        let at = self.frames.window().virt(self.pfn.start());
        // SAFETY: all pages are ours, in one piece in the window; `self` is borrowed exclusively.
        unsafe { (self.frames.page_ops().zero_pages)(at.as_ptr(), 1 << self.order) }
    }

    /// Keeps the block for good; its number is all that is left.
    pub fn leak(self) -> Pfn {
        let pfn = self.pfn;
        core::mem::forget(self);
        pfn
    }
}

impl Drop for KernelFrame {
    fn drop(&mut self) {
        self.frames.give_back(self.pfn, self.order, self.class);
    }
}

impl core::fmt::Debug for KernelFrame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "KernelFrame({:#x}, order {}, {})",
            self.pfn.raw(),
            self.order,
            self.class.name()
        )
    }
}
