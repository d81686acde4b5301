//! Frames that go from one owner to another without a copy (D17), and what is remembered of writes
//! to them meanwhile.

use crate::frames::Frames;
use crate::fresh::FreshFrame;
use crate::meta::{Class, FrameMeta};
use crate::pins::FramePins;
use crate::user::UserFrame;
use arm64::addr::Pfn;

/// What a block of user memory is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its first frame.
    pub first: Pfn,
    /// log2 of its frames.
    pub order: u8,
    /// References to it.
    pub references: u32,
    /// The number of the object whose pages they are; 0: none.
    pub owner: u32,
}

impl Frames {
    /// The block of the user frame `pfn`, for who has seen an entry that owns a reference and keeps
    /// it in place. None where there is no such frame.
    #[inline]
    pub fn held(&'static self, pfn: Pfn) -> Option<Held> {
        let meta = self.meta(pfn)?;
        if !meta.is_user() {
            return None;
        }
        let first = Pfn::new(pfn.raw() - meta.head_offset());
        // SAFETY: law 12: the reference that the entry owns keeps the block, which lies in a bank.
        let head = unsafe { self.record(first) };
        Some(Held {
            first,
            order: meta.order(),
            references: head.references(),
            owner: head.owner(),
        })
    }

    /// Whether the user frame `pfn` is a block by itself, of no object, and the entry for it has the only
    /// reference.
    ///
    /// # Safety
    /// An entry for it owns a reference and is kept in place meanwhile.
    #[inline(always)]
    pub unsafe fn is_entrys_alone(&'static self, pfn: Pfn) -> bool {
        // SAFETY: an entry that owns a reference names a frame in a bank.
        let meta = unsafe { self.record(pfn) };
        meta.is_single(Class::User) && meta.references() == 1 && meta.owner() == 0
    }

    /// Ends the `count` references that entries for the frames of one block owned, the first of them
    /// for its first frame, if these were all that there are: the block is the caller's alone then,
    /// with what it holds. Else nothing happens, and the caller stands for the references still.
    ///
    /// # Safety
    /// As [`Self::from_entry`], for each of them; and no CPU translates to the block any more (law 12).
    pub unsafe fn claim_entries(&'static self, pfn: Pfn, count: u32) -> Option<FreshFrame> {
        // SAFETY: an entry that owns a reference names a frame in a bank.
        let meta = unsafe { self.record(pfn) };
        let order = meta.order();
        let whole = meta.is(Class::User) && meta.head_offset() == 0 && count == 1 << order;
        if !whole || !meta.refs.end(count) {
            return None;
        }
        meta.set_object(0);
        // SAFETY: a block of user frames lies in banks with all of its frames.
        let records = unsafe { self.records(pfn, count as usize) };
        records.iter().for_each(drop_written);
        Some(FreshFrame::claimed(self, pfn, order))
    }

    /// Remembers that the user frame `pfn` was written: by an entry, dirty, that was just taken away
    /// and whose reference the caller still stands for.
    #[inline]
    pub fn set_written(&'static self, pfn: Pfn) {
        if let Some(meta) = self.meta(pfn).filter(|meta| meta.is_user()) {
            meta.set_written();
        }
    }
}

fn drop_written(meta: &FrameMeta) {
    let _forgotten = meta.take_written();
}

impl UserFrame {
    /// Remembers that the page was written.
    #[inline]
    pub fn set_written(&self) {
        self.meta().set_written();
    }

    /// Whether it is remembered that the page was written, by an entry that is gone or without one.
    #[inline]
    pub fn is_written(&self) -> bool {
        self.meta().is_written()
    }

    /// Forgets that; whether it was remembered.
    #[inline]
    pub fn take_written(&self) -> bool {
        self.meta().take_written()
    }
}

impl FreshFrame {
    /// Whether it is remembered of one of the frames that it was written while it had references.
    pub fn is_written(&self) -> bool {
        // SAFETY: a block lies in banks with all of its frames.
        let records = unsafe { self.frames().records(self.pfn(), 1 << self.order()) };
        records.iter().any(FrameMeta::is_written)
    }
}

impl FramePins {
    /// The block whose frames these are, as memory that is the caller's alone: if they are all of its
    /// frames, in their order, and there is no other reference to it. An entry gives its reference up
    /// after it was flushed (law 12), so no CPU translates to the block either.
    ///
    /// None: the references stay as they are.
    pub fn claim(&mut self) -> Option<FreshFrame> {
        let count = self.held().count_ones();
        let pfn = self.run(count as usize)?;
        let frames = self.frames();
        // SAFETY: a reference names a frame in a bank.
        let meta = unsafe { frames.record(pfn) };
        let order = meta.order();
        let whole = meta.is_user() && meta.head_offset() == 0 && count == 1 << order;
        if !whole || !meta.refs.end(count) {
            return None;
        }
        meta.set_object(0);
        // The references are over.
        self.hand_over(|_, _| {});
        Some(FreshFrame::claimed(frames, pfn, order))
    }

    /// Makes the frames pages of memory object `number` which are blocks by themselves and have no other
    /// reference; the places of these.
    ///
    /// # Safety
    /// No CPU translates to any of them (law 12).
    #[inline]
    pub unsafe fn give_to(&mut self, number: u32) -> u32 {
        let (frames, held) = (self.frames(), self.held());
        let mut given = 0;
        for place in (0..Self::PLACES).filter(|place| held >> place & 1 != 0) {
            let Some(pfn) = self.pfn(place) else { continue };
            // SAFETY: a reference names a frame in a bank.
            let meta = unsafe { frames.record(pfn) };
            if meta.is_single(Class::User) && meta.refs.end(1) {
                meta.set_object(number);
                drop_written(meta);
                meta.refs.publish();
                given |= 1 << place;
            }
        }
        given
    }

    /// The reference at `place`, which has none then.
    #[inline]
    pub fn take(&mut self, place: usize) -> Option<UserFrame> {
        let pfn = self.forget(place)?;
        // SAFETY: the place owned the reference, and has it no longer.
        Some(unsafe { self.frames().from_entry(pfn) })
    }
}
