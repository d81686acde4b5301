//! Program images: objects whose bytes lie in the boot archive.

use arm64::addr::PAGE_SIZE;

/// A program image: bytes that never change, in the boot archive. A mapping of it is private;
/// its pages are filled on demand.
#[derive(Clone, Copy)]
pub struct ImageObject {
    bytes: &'static [u8],
}

impl ImageObject {
    /// An object over `bytes`.
    pub const fn new(bytes: &'static [u8]) -> Self {
        Self { bytes }
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether a page at `offset` holds any byte of the object. One beyond the end is a bus
    /// error to touch.
    pub fn covers(&self, offset: u64) -> bool {
        offset & !(PAGE_SIZE - 1) < self.len()
    }

    /// Fills a fresh, zeroed page with the bytes from `offset` on; the rest stays zero.
    pub fn fill(&self, offset: u64, page: &mut [u8]) {
        let Some(rest) = usize::try_from(offset)
            .ok()
            .and_then(|from| self.bytes.get(from..))
        else {
            return;
        };
        let count = rest.len().min(page.len());
        page[..count].copy_from_slice(&rest[..count]);
    }

    /// Whether both are the same object.
    pub fn is_same(&self, other: &Self) -> bool {
        core::ptr::eq(self.bytes, other.bytes)
    }
}

impl core::fmt::Debug for ImageObject {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ImageObject({} bytes)", self.bytes.len())
    }
}
