//! Frames that EL0 may map: counted references.

use crate::frames::Frames;
use crate::meta::{Class, FrameMeta};
use crate::racy;
use crate::runs::FreeRun;
use arm64::addr::{PAGE_SIZE, Pfn};
use core::sync::atomic::{AtomicU32, Ordering};

const PAGE: usize = PAGE_SIZE as usize;

impl Frames {
    /// Takes over the reference that a table entry owned: the reverse of
    /// [`UserFrame::into_entry`].
    ///
    /// # Panics
    /// If the frame is not a user frame with a reference.
    ///
    /// # Safety
    /// The caller has just removed an entry for `pfn` that owned a reference (law 12 says when the
    /// result may be dropped), or otherwise owns one that no value stands for.
    #[inline]
    pub unsafe fn from_entry(&'static self, pfn: Pfn) -> UserFrame {
        // SAFETY: an entry that owns a reference names a frame in a bank.
        let meta = unsafe { self.record(pfn) };
        assert!(
            meta.is_user(),
            "an entry owned a {} frame",
            meta.class().name()
        );
        let frame = UserFrame { frames: self, pfn };
        debug_assert_ne!(
            frame.head().references(),
            0,
            "an entry owned a frame without references"
        );
        frame
    }

    /// Drops `count` references that entries for frames of one block owned; `pfn` is any frame of it.
    /// The last reference frees the block.
    ///
    /// # Panics
    /// If the frame is not a user frame with so many references.
    ///
    /// # Safety
    /// As [`Self::from_entry`], for each of them.
    #[inline]
    pub unsafe fn drop_entries(&'static self, pfn: Pfn, count: u32) {
        // SAFETY: passed on.
        let frame = unsafe { self.from_entry(pfn) };
        let head = frame.head();
        if count > 1 {
            // One is left for `frame` to drop.
            let last = head.refs.sub(count - 1);
            assert!(!last, "more references given back than taken");
        }
        drop(frame);
    }

    /// As [`Self::drop_entries`], for many blocks: a frame of one of them, and how many references.
    ///
    /// # Panics
    /// As [`Self::drop_entries`].
    ///
    /// # Safety
    /// As [`Self::from_entry`], for each of them.
    #[inline]
    pub unsafe fn drop_all_entries(&'static self, blocks: impl Iterator<Item = (Pfn, u32)>) {
        let mut run = FreeRun::new(self);
        for (pfn, count) in blocks {
            // SAFETY: an entry that owns a reference names a frame in a bank.
            let meta = unsafe { self.record(pfn) };
            if meta.is_single(Class::User) {
                if meta.refs.sub(count) {
                    meta.set_object(0);
                    run.add(pfn, meta);
                }
            } else if meta.is(Class::User) {
                self.drop_of_large(pfn, count, &mut run);
            } else {
                // SAFETY: passed on.
                unsafe { self.drop_entries(pfn, count) };
            }
        }
    }

    /// Drops references to a block of several frames.
    fn drop_of_large(&self, pfn: Pfn, count: u32, run: &mut FreeRun<'_>) {
        // SAFETY: a block of user frames is in banks, and so is its first frame.
        let head = unsafe { self.record(pfn) }.head_offset();
        let block = Pfn::new(pfn.raw() - head);
        // SAFETY: as above.
        let meta = unsafe { self.record(block) };
        if meta.refs.sub(count) {
            meta.set_object(0);
            // SAFETY: as above; a block has as many frames as its order says.
            run.add_large(block, unsafe { self.map.block(block, 1 << meta.order()) });
        }
    }

    /// Takes a reference to a frame seen in a table entry, if it has any: the walker then loads the
    /// entry again, and drops the reference if it has changed (DESIGN §4).
    #[inline]
    pub fn try_pin_user(&'static self, pfn: Pfn) -> Option<UserFrame> {
        let meta = self.meta(pfn)?;
        self.try_pin_record(pfn, meta)
    }

    /// As [`Self::try_pin_user`], with the record of the frame at hand.
    #[inline]
    pub(crate) fn try_pin_record(&'static self, pfn: Pfn, meta: &FrameMeta) -> Option<UserFrame> {
        let head = pfn.raw() - meta.head_offset();
        // SAFETY: a block does not leave its bank backwards: the offset was written for this frame
        // when a block of frames in banks was allocated.
        let counted = unsafe { self.record(Pfn::new(head)) };
        if !counted.refs.try_get() {
            return None;
        }
        let frame = UserFrame { frames: self, pfn };
        // The block may have been freed and allocated as another shape since the offset was read.
        if pfn.raw() - meta.head_offset() != head || !meta.is_user() {
            let wrong = UserFrame {
                frames: self,
                pfn: Pfn::new(head),
            };
            core::mem::forget(frame);
            drop(wrong);
            return None;
        }
        Some(frame)
    }

    /// As [`Self::try_pin_record`] for a frame that is a block of its own: false, and no reference was
    /// taken, where it is not, or has none.
    #[inline(always)]
    pub(crate) fn try_pin_single(&'static self, pfn: Pfn, meta: &FrameMeta) -> bool {
        // A frame inside of a larger block has no references of its own.
        if !meta.refs.try_get() {
            return false;
        }
        let single = meta.is_single(Class::User);
        if !single {
            self.drop_head(pfn);
        }
        single
    }

    #[cold]
    fn drop_head(&'static self, pfn: Pfn) {
        drop(UserFrame { frames: self, pfn });
    }

    /// The object that the user frame `pfn` is a page of, as [`UserFrame::owner`] says it, for who
    /// has seen an entry that owns a reference and keeps it in place. 0 where there is no such
    /// frame.
    pub fn owner_of(&'static self, pfn: Pfn) -> u32 {
        let Some(meta) = self.meta(pfn) else {
            return 0;
        };
        // SAFETY: as in `try_pin_record`: a block does not leave its bank backwards.
        unsafe { self.record(Pfn::new(pfn.raw() - meta.head_offset())) }.owner()
    }
}

/// A reference to one page of user memory.
///
/// The page may belong to a larger block (a folio); the block has one count. EL0 and other CPUs may
/// write the page at any time, so contents are copied in and out, never borrowed. The last
/// reference frees the block.
#[must_use]
pub struct UserFrame {
    frames: &'static Frames,
    pfn: Pfn,
}

impl UserFrame {
    /// The first reference to a block just allocated.
    pub(crate) fn first(frames: &'static Frames, pfn: Pfn) -> Self {
        let frame = Self { frames, pfn };
        frame.meta().refs.publish();
        frame
    }

    /// The page's frame.
    #[inline(always)]
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// log2 of the number of frames in the block the page belongs to.
    pub fn order(&self) -> u8 {
        self.meta().order()
    }

    /// The first frame of the block the page belongs to.
    pub fn block(&self) -> Pfn {
        Pfn::new(self.pfn.raw() - self.meta().head_offset())
    }

    /// Frames of the block from this one on: the reference keeps them all.
    pub(crate) fn frames_left(&self) -> u64 {
        let meta = self.meta();
        (1 << meta.order()) - meta.head_offset()
    }

    /// A reference to frame `page` of the block.
    ///
    /// # Panics
    /// If the block has no such frame.
    pub fn page(&self, page: u64) -> Self {
        assert!(
            page < 1 << self.order(),
            "page {page} of a block of order {}",
            self.order()
        );
        self.head().refs.inc();
        Self {
            frames: self.frames,
            pfn: self.block().add(page),
        }
    }

    /// The number of the memory object that the block's pages belong to; 0: they are anonymous.
    /// It is set when the block enters the object and stays until it is freed.
    #[inline]
    pub fn owner(&self) -> u32 {
        self.head().owner()
    }

    /// Which page of its object the page is, if it lies in tag storage.
    pub fn index(&self) -> u64 {
        self.meta().index()
    }

    /// Whether the page lies in tag storage, and can never have tags itself.
    #[inline]
    pub fn is_untaggable(&self) -> bool {
        self.meta().is(Class::Untaggable)
    }

    /// Whether this is the only reference at this moment. A walker may take another one at any
    /// time while an entry for the frame exists; without such an entry the answer stays true.
    pub fn is_unique(&self) -> bool {
        self.head().references() == 1
    }

    /// How many references there are at this moment.
    pub fn references(&self) -> u32 {
        self.head().references()
    }

    /// The reference becomes the table entry's that the caller writes.
    #[inline(always)]
    pub fn into_entry(self) -> Pfn {
        let pfn = self.pfn;
        core::mem::forget(self);
        pfn
    }

    /// As [`Self::into_entry`] for `count` entries, for this frame and those behind it in the block.
    ///
    /// # Panics
    /// If the block has not so many.
    #[inline]
    pub fn into_entries(self, count: u32) -> Pfn {
        let meta = self.meta();
        assert!(
            meta.head_offset() + u64::from(count) <= 1 << meta.order(),
            "{count} entries beyond the end of a block"
        );
        if count > 1 {
            self.head().refs.add(count - 1);
        }
        self.into_entry()
    }

    /// Copies out of the page, from byte `offset` on.
    ///
    /// # Panics
    /// If the range is not within the page.
    #[inline]
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        match self.frames.page_ops().copy_page {
            // SAFETY: whole pages, aligned; `to` is exclusive, so they do not overlap.
            Some(copy) if is_page(to) => unsafe { copy(to.as_mut_ptr(), from) },
            // SAFETY: the range is within a page of RAM that this reference keeps.
            _ => unsafe { racy::load(from, to) },
        }
    }

    /// Copies into the page, from byte `offset` on.
    ///
    /// # Panics
    /// If the range is not within the page.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        match self.frames.page_ops().copy_page {
            // SAFETY: whole pages, aligned; kernel memory and a user page do not overlap.
            Some(copy) if is_page(from) => unsafe { copy(to, from.as_ptr()) },
            // SAFETY: the range is within a page of RAM that this reference keeps.
            _ => unsafe { racy::store(to, from) },
        }
    }

    /// Copies a part of another page, or of this one, into the page, from byte `offset` on.
    ///
    /// # Panics
    /// If the range is not within the page.
    #[inline]
    pub fn copy_from(&self, offset: usize, bytes: Bytes<'_>) {
        // SAFETY: this reference keeps the page.
        unsafe { bytes.copy_to(self.address(), offset) }
    }

    /// Clears `len` bytes of the page from byte `offset` on.
    ///
    /// # Panics
    /// If the range is not within the page.
    pub fn clear(&self, offset: usize, len: usize) {
        // SAFETY: `at` has checked the range.
        unsafe { racy::clear(self.at(offset, len), len) }
    }

    /// How many of `len` bytes from byte `offset` of the page on an access with the allocation tag `tag`
    /// reaches: those in front of the first granule of 16 bytes that has another. For a page that is
    /// mapped tagged.
    ///
    /// # Panics
    /// If the range is not within the page.
    pub fn match_tags(&self, offset: usize, len: usize, tag: u8) -> usize {
        let at = self.at(offset, len);
        match self.frames.tag_ops() {
            // SAFETY: the range is within a page of RAM that this reference keeps; only tags are read.
            Some(ops) => unsafe { (ops.matching)(at, len, tag) },
            None => len,
        }
    }

    /// Loads the aligned word at byte `offset` (acquire).
    ///
    /// # Panics
    /// If there is no such word in the page.
    #[inline]
    pub fn load_u32(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Replaces the aligned word at byte `offset` by `new` if it is `old` (sequentially
    /// consistent). `Err` holds what it is instead.
    ///
    /// # Panics
    /// If there is no such word in the page.
    #[inline]
    pub fn cas_u32(&self, offset: usize, old: u32, new: u32) -> Result<u32, u32> {
        self.word(offset)
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
    }

    /// Where the kernel sees the page.
    #[inline(always)]
    pub(crate) fn address(&self) -> *mut u8 {
        self.frames.window().virt(self.pfn.start()).as_ptr()
    }

    #[inline]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        within(self.address(), offset, len)
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4), "word at odd offset {offset:#x}");
        let at = self.at(offset, 4).cast::<u32>();
        // SAFETY: aligned, within a page of RAM that `self` keeps, and only accessed as an atomic.
        unsafe { AtomicU32::from_ptr(at) }
    }

    #[inline(always)]
    pub(crate) fn frames(&self) -> &'static Frames {
        self.frames
    }

    #[inline(always)]
    pub(crate) fn meta(&self) -> &'static FrameMeta {
        // SAFETY: a user frame comes from a bank.
        unsafe { self.frames.record(self.pfn) }
    }

    /// The record with the count.
    #[inline(always)]
    fn head(&self) -> &'static FrameMeta {
        // SAFETY: the block of a user frame is in a bank.
        unsafe { self.frames.record(self.block()) }
    }
}

/// Bytes of a page of user memory that somebody holds: where a copy comes from.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    /// The page.
    pub page: &'a UserFrame,
    /// The first byte.
    pub start: usize,
    /// How many.
    pub len: usize,
}

impl Bytes<'_> {
    /// Copies them to the frame whose first byte is seen at `frame`, from byte `offset` on.
    ///
    /// # Safety
    /// The frame is one of user memory, a page of RAM, and is not given to anybody else meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn copy_to(self, frame: *mut u8, offset: usize) {
        let Self { page, start, len } = self;
        let (to, from) = (within(frame, offset, len), page.at(start, len));
        match page.frames.page_ops().copy_page {
            // Nothing to do, and nothing that a copy may be made of: they overlap.
            _ if to.cast_const() == from => {}
            // SAFETY: whole pages, which are aligned; they are two.
            Some(copy) if len == PAGE => unsafe { copy(to, from) },
            // SAFETY: the ranges are within pages of RAM: the caller's, and one that a reference
            // keeps.
            _ => unsafe { racy::copy(to, from, len) },
        }
    }
}

/// Byte `offset` of a page that is seen at `page`, from which `len` bytes are within it.
#[inline(always)]
fn within(page: *mut u8, offset: usize, len: usize) -> *mut u8 {
    let end = offset.checked_add(len);
    assert!(
        end.is_some_and(|end| end <= PAGE),
        "{len} bytes at {offset:#x} leave the page"
    );
    page.wrapping_add(offset)
}

/// Whether a page copy will do: a buffer of that size, aligned to words.
#[inline(always)]
fn is_page(buffer: &[u8]) -> bool {
    buffer.len() == PAGE && buffer.as_ptr().addr().is_multiple_of(8)
}

impl Clone for UserFrame {
    #[inline]
    fn clone(&self) -> Self {
        self.head().refs.inc();
        Self {
            frames: self.frames,
            pfn: self.pfn,
        }
    }
}

impl Drop for UserFrame {
    #[inline]
    fn drop(&mut self) {
        let head = self.head();
        if head.refs.dec() {
            head.set_object(0);
            let class = if head.is(Class::User) {
                Class::User
            } else {
                Class::Untaggable
            };
            self.frames.give_back(self.block(), head.order(), class);
        }
    }
}

impl core::fmt::Debug for UserFrame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "UserFrame({:#x}, {:?} references)",
            self.pfn.raw(),
            self.head().refs
        )
    }
}
