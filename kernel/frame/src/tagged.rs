//! Pages with allocation tags (MTE): who has cleared them, and the proof that it was done (TAG-07,
//! TAG-24, law 13).
//!
//! | state | record | meaning |
//! |---|---|---|
//! | untagged | no bit | the tags are anybody's; no mapping may show them |
//! | initialising | `INITIALISING` | one holder is about to make them what they shall be |
//! | tagged | `TAGGED` | tags are the program's; a mapping may show them |
//!
//! The states follow each other in this order, and the last one stays until the frame is freed. It is
//! published after the tags are written (TAG-27): who sees it sees them.

use crate::frames::Frames;
use crate::fresh::{Folio, FreshFrame};
use crate::storage::Reservation;
use crate::user::UserFrame;
use arm64::addr::{PAGE_SIZE, Pfn};
use arm64::attrs::MemType;

/// Bytes of the tags of a page: 4 bits for each 16 bytes.
pub const TAG_BYTES: usize = PAGE_SIZE as usize / 32;

/// The tags of a page, two in a byte, the lower address in the lower half.
pub type PageTags = [u8; TAG_BYTES];

/// How tags are reached. The addresses are those of whole pages in the window, which has to show them
/// as tagged memory.
#[derive(Clone, Copy, Debug)]
pub struct TagOps {
    /// Clears so many pages from this address on, contents and tags. They are the caller's alone.
    pub zero_pages: unsafe fn(*mut u8, usize),
    /// Makes all tags of the page 0.
    pub clear: unsafe fn(*mut u8),
    /// Makes the tags of one page (to) those of another (from).
    pub copy: unsafe fn(*mut u8, *const u8),
    /// Stores the tags of the page.
    pub save: unsafe fn(*const u8, &mut PageTags),
    /// Sets the tags of the page.
    pub load: unsafe fn(*mut u8, &PageTags),
    /// A block of tag storage, of so many frames, holds tags from now on and is nobody's memory; the
    /// other way about. Neither takes a lock that may be held.
    pub block_taken: fn(Pfn, u32),
    /// See `block_taken`.
    pub block_free: fn(Pfn, u32),
    /// How many bytes from this address on, within a page and of so many, have the tag: all of those
    /// in the granules before the first that has another.
    pub matching: unsafe fn(*const u8, usize, u8) -> usize,
}

/// The proof that every page of a frame, or of a block that nobody has seen, may be shown with its
/// tags: a tagged mapping is not to be had without it (TAG-24).
#[must_use]
pub struct TagBacked<F>(F);

impl<F> TagBacked<F> {
    /// The frame without the proof.
    pub fn into_inner(self) -> F {
        self.0
    }

    /// The frame.
    pub fn frame(&self) -> &F {
        &self.0
    }
}

impl<F: Folio> Folio for TagBacked<F> {
    const MEM: MemType = MemType::Tagged;

    #[inline(always)]
    fn into_entries(self, count: u32) -> Pfn {
        self.0.into_entries(count)
    }

    #[inline(always)]
    fn into_entry(self) -> Pfn {
        self.0.into_entry()
    }

    fn first(&self) -> Pfn {
        self.0.first()
    }

    fn block_order(&self) -> u8 {
        self.0.block_order()
    }
}

impl TagBacked<FreshFrame> {
    /// Makes it a user frame, with one reference.
    #[inline(always)]
    pub fn into_user(self) -> TagBacked<UserFrame> {
        TagBacked(self.0.into_user())
    }

    /// As [`Self::into_user`], for the pages of memory object `number`.
    pub fn into_object(self, number: u32) -> TagBacked<UserFrame> {
        TagBacked(self.0.into_object(number))
    }
}

impl Frames {
    /// How tags are reached; none where there are none.
    #[inline(always)]
    pub fn tag_ops(&self) -> Option<&TagOps> {
        self.page_ops().tags.as_ref()
    }

    /// Whether the page of the user frame `pfn` may be shown with its tags. For who holds a reference,
    /// or has seen an entry that does and keeps it in place: the answer yes stays true as long.
    #[inline]
    pub fn is_tagged(&self, pfn: Pfn) -> bool {
        self.meta(pfn).is_some_and(|meta| meta.is_tagged())
    }
}

impl FreshFrame {
    /// Clears `pages` frames of the block from `first` on, contents and tags.
    ///
    /// # Panics
    /// If the block has not so many.
    #[inline]
    pub fn zero_tagged_pages(&mut self, first: usize, pages: usize) {
        if pages == 0 {
            return;
        }
        assert!(
            first + pages <= 1 << self.order(),
            "the block has no such frame"
        );
        let to = self.page_address(first);
        match self.frames().tag_ops() {
            // SAFETY: whole pages of ours, as in `bytes_mut`.
            Some(ops) => unsafe { (ops.zero_pages)(to, pages) },
            // SAFETY: as above.
            None => unsafe { (self.frames().page_ops().zero_pages)(to, pages) },
        }
    }

    /// The block with the proof: its storage is `reserved`, and its holder has written all of its tags by
    /// [`Self::zero_tagged_pages`] or [`Self::copy_tagged_page`].
    ///
    /// # Panics
    /// If the storage is that of other pages.
    #[inline]
    pub fn into_tagged(self, reserved: Reservation) -> TagBacked<Self> {
        reserved.give_to(self.pfn(), 1 << self.order());
        // SAFETY: a block lies in banks with all of its frames.
        let records = unsafe { self.frames().records(self.pfn(), 1 << self.order()) };
        records.iter().for_each(|meta| meta.set_fresh_tagged());
        TagBacked(self)
    }

    /// The block with the proof, if all of its pages had tags when others held them.
    ///
    /// # Errors
    /// The block as it is.
    pub fn still_tagged(self) -> Result<TagBacked<Self>, Self> {
        // SAFETY: a block lies in banks with all of its frames.
        let records = unsafe { self.frames().records(self.pfn(), 1 << self.order()) };
        match records.iter().all(|meta| meta.is_tagged()) {
            true => Ok(TagBacked(self)),
            false => Err(self),
        }
    }

    /// Copies a page of user memory into frame `page` of the block with its tags; without any, if that
    /// page has none.
    ///
    /// # Panics
    /// If the block has no such frame.
    pub fn copy_tagged_page(&mut self, page: usize, from: &UserFrame) {
        self.copy_page(page, from);
        let Some(ops) = self.frames().tag_ops() else {
            return;
        };
        let to = self.page_address(page);
        match from.is_tagged() {
            // SAFETY: a whole page of ours, and one that the reference keeps.
            true => unsafe { (ops.copy)(to, from.address()) },
            // SAFETY: a whole page of ours.
            false => unsafe { (ops.clear)(to) },
        }
    }
}

/// What became of the wish to initialise the tags of a page.
pub enum TagInit<'a> {
    /// They are to be made by the caller.
    Ours(Initialising<'a>),
    /// They are there.
    Done(TagBacked<UserFrame>),
    /// Somebody else is making them.
    Busy,
}

/// The right of one holder to make the tags of a page (TAG-07). Dropped, nothing has happened.
#[must_use]
pub struct Initialising<'a>(&'a UserFrame);

impl UserFrame {
    /// Whether the page may be shown with its tags.
    #[inline]
    pub fn is_tagged(&self) -> bool {
        self.meta().is_tagged()
    }

    /// The reference with the proof, if the page may be shown with its tags.
    ///
    /// # Errors
    /// The reference without.
    #[inline]
    pub fn tag_backed(self) -> Result<TagBacked<Self>, Self> {
        match self.is_tagged() {
            true => Ok(TagBacked(self)),
            false => Err(self),
        }
    }

    /// Asks for the right to make the page's tags.
    pub fn init_tags(&self) -> TagInit<'_> {
        if self.is_tagged() {
            TagInit::Done(TagBacked(self.clone()))
        } else if self.meta().begin_tags() {
            TagInit::Ours(Initialising(self))
        } else if self.is_tagged() {
            TagInit::Done(TagBacked(self.clone()))
        } else {
            TagInit::Busy
        }
    }

    /// The page's tags, for who looks at it from outside (TAG-30): zeros where it has none, which
    /// gives it none either.
    pub fn peek_tags(&self) -> PageTags {
        let mut tags = [0; TAG_BYTES];
        if let Some(ops) = self.frames().tag_ops().filter(|_| self.is_tagged()) {
            // SAFETY: a whole page that this reference keeps.
            unsafe { (ops.save)(self.address(), &mut tags) };
        }
        tags
    }
}

impl Initialising<'_> {
    /// The page.
    pub fn page(&self) -> &UserFrame {
        self.0
    }

    /// Makes all tags 0 and lets everybody see them; their storage is `reserved`.
    pub fn clear(self, reserved: Reservation) -> TagBacked<UserFrame> {
        if let Some(ops) = self.0.frames().tag_ops() {
            // SAFETY: a whole page that the reference keeps.
            unsafe { (ops.clear)(self.0.address()) };
        }
        self.finish(reserved)
    }

    /// Restores tags that were parked (TAG-26) and lets everybody see them.
    pub fn restore(self, tags: &PageTags, reserved: Reservation) -> TagBacked<UserFrame> {
        if let Some(ops) = self.0.frames().tag_ops() {
            // SAFETY: a whole page that the reference keeps.
            unsafe { (ops.load)(self.0.address(), tags) };
        }
        self.finish(reserved)
    }

    fn finish(self, reserved: Reservation) -> TagBacked<UserFrame> {
        reserved.give_to(self.0.pfn(), 1);
        self.0.meta().set_tagged();
        TagBacked(self.0.clone())
    }
}

impl Drop for Initialising<'_> {
    fn drop(&mut self) {
        self.0.meta().end_tags();
    }
}
