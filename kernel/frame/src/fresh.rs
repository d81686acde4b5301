//! Frames that nobody else has seen.

use crate::frames::Frames;
use crate::meta::Class;
use crate::stats::OutOfMemory;
use crate::tagged::TagBacked;
use crate::user::{Bytes, UserFrame};
use arm64::addr::{PAGE_SIZE, Pfn};
use arm64::attrs::MemType;

impl Frames {
    /// Allocates 2^`order` contiguous frames for user memory, cleared if `zeroed`.
    ///
    /// Clearing is one go: for a large block inside a bounded stay (D3), ask for it uncleared and
    /// use [`FreshFrame::zero_pages`] step by step.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    #[inline(always)]
    pub fn alloc_fresh(&'static self, order: u8, zeroed: bool) -> Result<FreshFrame, OutOfMemory> {
        let pfn = self.take(order, Class::User)?;
        let mut frame = FreshFrame {
            frames: self,
            pfn,
            order,
        };
        match (zeroed, order) {
            (false, _) => {}
            (true, 0) => frame.zero_page(0),
            (true, _) => frame.zero_pages(0, 1 << order),
        }
        Ok(frame)
    }
}

impl Frames {
    /// As [`Self::alloc_fresh`], uncleared, for memory with tags: preferably where the storage of the tags
    /// is reserved already.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn alloc_for_tags(&'static self, order: u8) -> Result<FreshFrame, OutOfMemory> {
        let pfn = self.take_tagged(order)?;
        Ok(FreshFrame {
            frames: self,
            pfn,
            order,
        })
    }
}

/// Frames of one block whose reference, or absence of any, can become those of table entries.
pub trait Folio {
    /// How a program's mapping of it behaves: tagged only with the proof that it may.
    const MEM: MemType;

    /// The references become those of the `count` entries that the caller writes, for the first frame
    /// and those behind it in the block.
    ///
    /// # Panics
    /// If the block has not so many.
    fn into_entries(self, count: u32) -> Pfn;

    /// The reference becomes that of one entry, for the frame that it is about.
    fn into_entry(self) -> Pfn;

    /// The frame that it is about, or the first.
    fn first(&self) -> Pfn;

    /// log2 of the frames of its block.
    fn block_order(&self) -> u8;
}

/// What is mapped for a program by itself: a user frame, with or without the proof that it has tags.
pub trait Page: Folio {}

impl Page for UserFrame {}

impl Page for TagBacked<UserFrame> {}

impl Folio for UserFrame {
    const MEM: MemType = MemType::Normal;

    #[inline(always)]
    fn into_entry(self) -> Pfn {
        Self::into_entry(self)
    }

    fn first(&self) -> Pfn {
        self.pfn()
    }

    fn block_order(&self) -> u8 {
        self.order()
    }

    #[inline(always)]
    fn into_entries(self, count: u32) -> Pfn {
        Self::into_entries(self, count)
    }
}

impl Folio for FreshFrame {
    const MEM: MemType = MemType::Normal;

    #[inline(always)]
    fn into_entry(self) -> Pfn {
        Self::into_entries(self, 1)
    }

    fn first(&self) -> Pfn {
        self.pfn()
    }

    fn block_order(&self) -> u8 {
        self.order()
    }

    #[inline(always)]
    fn into_entries(self, count: u32) -> Pfn {
        Self::into_entries(self, count)
    }
}

/// A block of frames that has never been mapped: its contents are the holder's alone.
///
/// It has no references yet, so a lockless walker that still knows the frame's number from an
/// earlier life cannot get one ([`Frames::try_pin_user`]). Dropping it frees it.
#[must_use]
pub struct FreshFrame {
    frames: &'static Frames,
    pfn: Pfn,
    order: u8,
}

impl FreshFrame {
    /// A block that had references and has none any more, and no translation.
    pub(crate) fn claimed(frames: &'static Frames, pfn: Pfn, order: u8) -> Self {
        Self { frames, pfn, order }
    }

    #[inline(always)]
    pub(crate) fn frames(&self) -> &'static Frames {
        self.frames
    }

    /// The first frame.
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Remembers which page of an object the frame of tag storage is going to be.
    pub fn set_index(&mut self, index: u64) {
        // SAFETY: the frame comes from a bank.
        unsafe { self.frames.record(self.pfn) }.set_index(index);
    }

    /// log2 of the number of frames.
    pub fn order(&self) -> u8 {
        self.order
    }

    /// The contents. Not cleared unless asked for: never show them to EL0 as they are.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let start = self.frames.window().virt(self.pfn.start());
        let len = (PAGE_SIZE as usize) << self.order;
        // SAFETY: the frames are RAM seen by the window, of one block, and nobody else's: no
        // references exist (see the type), and `self` is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    /// Clears frame `page` of the block, by the fastest means there is.
    ///
    /// # Panics
    /// If the block has no such frame.
    #[inline]
    pub fn zero_page(&mut self, page: usize) {
        let to = self.page_address(page);
        // SAFETY: a whole page of ours, as in `bytes_mut`.
        unsafe { (self.frames.page_ops().zero_page)(to) }
    }

    /// Clears `pages` frames of the block from `first` on: in one go, which is cheaper than one by
    /// one.
    ///
    /// # Panics
    /// If the block has not so many.
    #[inline]
    pub fn zero_pages(&mut self, first: usize, pages: usize) {
        if pages == 0 {
            return;
        }
        assert!(
            first + pages <= 1 << self.order,
            "the block has no such frame"
        );
        let to = self.page_address(first);
        // SAFETY: whole pages of ours, as in `bytes_mut`; the last is the block's, as was checked.
        unsafe { (self.frames.page_ops().zero_pages)(to, pages) }
    }

    /// Copies a user page into frame `page` of the block: the copy of copy-on-write.
    ///
    /// # Panics
    /// If the block has no such frame.
    #[inline]
    pub fn copy_page(&mut self, page: usize, from: &UserFrame) {
        let to = self.page_address(page);
        // SAFETY: a whole page of ours, borrowed exclusively with `self`.
        from.read(0, unsafe {
            core::slice::from_raw_parts_mut(to, PAGE_SIZE as usize)
        });
    }

    /// Copies a part of a user page into the first frame of the block, from byte `offset` on.
    ///
    /// # Panics
    /// If the range is not within a page.
    #[inline]
    pub fn copy_from(&mut self, offset: usize, bytes: Bytes<'_>) {
        // SAFETY: a page of ours, as in `bytes_mut`.
        unsafe { bytes.copy_to(self.page_address(0), offset) }
    }

    /// Makes it a user frame, with one reference. All that was written before is visible to
    /// whoever gets hold of it.
    #[inline]
    pub fn into_user(self) -> UserFrame {
        let (frames, pfn) = (self.frames, self.pfn);
        core::mem::forget(self);
        UserFrame::first(frames, pfn)
    }

    /// As [`Self::into_user`], with the references of `count` entries at once: for the first frame and
    /// those behind it.
    ///
    /// # Panics
    /// If the block has not so many frames.
    #[inline(always)]
    pub fn into_entries(self, count: u32) -> Pfn {
        assert!(
            count <= 1 << self.order,
            "{count} entries beyond the end of a block"
        );
        let (frames, pfn) = (self.frames, self.pfn);
        core::mem::forget(self);
        // SAFETY: the frame comes from a bank.
        unsafe { frames.record(pfn) }.refs.publish_many(count);
        pfn
    }

    /// As [`Self::into_user`], for the pages of memory object `number`.
    #[inline]
    pub fn into_object(self, number: u32) -> UserFrame {
        // SAFETY: the frame comes from a bank.
        unsafe { self.frames.record(self.pfn) }.set_object(number);
        self.into_user()
    }

    #[inline(always)]
    pub(crate) fn page_address(&mut self, page: usize) -> *mut u8 {
        assert!(
            page < 1 << self.order,
            "page {page} of a block of order {}",
            self.order
        );
        self.frames
            .window()
            .virt(self.pfn.add(page as u64).start())
            .as_ptr()
    }
}

impl Drop for FreshFrame {
    fn drop(&mut self) {
        // SAFETY: the frame comes from a bank.
        let untaggable = unsafe { self.frames.record(self.pfn) }.is(Class::Untaggable);
        let class = match untaggable {
            true => Class::Untaggable,
            false => Class::User,
        };
        self.frames.give_back(self.pfn, self.order, class);
    }
}

impl core::fmt::Debug for FreshFrame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "FreshFrame({:#x}, order {})", self.pfn.raw(), self.order)
    }
}
