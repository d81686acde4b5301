//! Where physical memory can be reached, and how whole pages are cleared and copied.

use arm64::addr::{PAGE_SIZE, PhysAddr};
use core::ptr::NonNull;

use crate::tagged::TagOps;

/// A piece of the virtual space that shows physical memory at a constant distance.
///
/// The kernel's is the direct map; on the host it is an arena. It is one concrete type, so that the
/// engine above is one and the same machine code path for both (DESIGN D2).
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Where `phys_base` is seen.
    pub virt_base: *mut u8,
    /// The first physical address in the window.
    pub phys_base: u64,
    /// Bytes in the window.
    pub len: u64,
}

impl Window {
    /// Where `pa` is seen.
    ///
    /// # Panics
    /// If `pa` is outside the window: the caller has a physical address from nowhere.
    #[inline(always)]
    pub fn virt(&self, pa: PhysAddr) -> NonNull<u8> {
        let offset = pa.raw().wrapping_sub(self.phys_base);
        assert!(offset < self.len, "physical address outside of the window");
        let seen = self.virt_base.wrapping_add(offset as usize);
        // SAFETY: the window is a range of mapped addresses (contract of `Frames::new`), and no
        // mapped range contains address 0.
        unsafe { NonNull::new_unchecked(seen) }
    }

    /// Whether blocks aligned to `align` bytes in physical memory are so in the window.
    pub fn keeps_alignment(&self, align: u64) -> bool {
        (self.virt_base.addr() as u64 ^ self.phys_base) & (align - 1) == 0
    }
}

/// How to clear and copy whole pages: the kernel installs DC ZVA and paired loads and stores.
#[derive(Clone, Copy, Debug)]
pub struct PageOps {
    /// Clears the page at this page-aligned address. The page is the caller's alone.
    pub zero_page: unsafe fn(*mut u8),
    /// As `zero_page`, for so many pages from this address on.
    pub zero_pages: unsafe fn(*mut u8, usize),
    /// Copies a page (to, from); without it, pages are copied like any other range. The addresses
    /// are 8-byte aligned and do not overlap; either page may be written by EL0 meanwhile, so
    /// nothing may be assumed about reading a byte twice.
    pub copy_page: Option<unsafe fn(*mut u8, *const u8)>,
    /// How allocation tags are reached, where there are any.
    pub tags: Option<TagOps>,
}

impl PageOps {
    /// In portable Rust.
    pub const PORTABLE: Self = Self {
        zero_page,
        zero_pages,
        copy_page: None,
        tags: None,
    };
}

/// # Safety
/// `page` is the address of a page that the caller has to itself.
unsafe fn zero_page(page: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe { page.write_bytes(0, PAGE_SIZE as usize) }
}

/// # Safety
/// As [`zero_page`], for `pages` of them.
unsafe fn zero_pages(first: *mut u8, pages: usize) {
    // SAFETY: as the caller promises.
    unsafe { first.write_bytes(0, PAGE_SIZE as usize * pages) }
}
