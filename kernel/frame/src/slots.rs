//! Places for user frames that are looked up without a lock: the leaves of a page cache.
//!
//! A slot owns one reference to the frame it holds. A lookup is the protocol of a lockless walk
//! (DESIGN §4): load the slot, take a reference if the frame has any, load the slot again; the same
//! number means that the reference is to the frame that is in the slot now, another means that it
//! came and went, and the lookup begins anew. `tests/loom.rs` runs it against [`PageSlots::take`]
//! and the frame's next life.

use crate::frames::Frames;
use crate::pins::{Filled, FramePins};
use crate::user::UserFrame;
use arm64::addr::Pfn;
use sync::atomic::{AtomicU64, Ordering};
use sync::planted::{self, Fault};

/// An empty slot. A full one has the frame's number plus one.
const EMPTY: u64 = 0;

/// A row of slots, each empty or with a user frame.
pub struct PageSlots {
    frames: &'static Frames,
    slots: [AtomicU64; Self::COUNT],
}

impl PageSlots {
    /// Slots in a row: 256 KiB of pages in 512 bytes. Under loom an atomic is an object, so there
    /// are few.
    pub const COUNT: usize = if cfg!(loom) { 2 } else { 64 };

    /// A row of empty slots for frames of `frames`.
    pub fn new(frames: &'static Frames) -> Self {
        Self {
            frames,
            slots: core::array::from_fn(|_| AtomicU64::new(EMPTY)),
        }
    }

    /// A reference to the frame in slot `index`. Takes no lock and waits for nobody: it begins anew
    /// only when the slot has changed meanwhile.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    pub fn pin(&self, index: usize) -> Option<UserFrame> {
        let slot = &self.slots[index];
        let mut seen = slot.load(Ordering::Acquire);
        while seen != EMPTY {
            let pfn = Pfn::new(seen - 1);
            // SAFETY: only numbers of user frames are put into slots; they are in banks.
            let meta = unsafe { self.frames.record(pfn) };
            let frame = self.frames.try_pin_record(pfn, meta);
            // The pin acquired what the frame's last holder released, and that came after `take`:
            // a reference to a later life of the frame finds the slot changed.
            let now = slot.load(Ordering::Acquire);
            if now == seen || planted::is(Fault::SlotWithoutRecheck) {
                // None: so many references that no more are given out.
                return frame;
            }
            seen = now;
        }
        None
    }

    /// References to the frames in the slots from `first` on, at most `count`, into the places of
    /// `pins` from `place` on that are in `wanted`: as [`Self::pin`] for each.
    ///
    /// # Panics
    /// If there are not so many slots or places, or a place has a reference.
    #[inline]
    pub fn pin_group(
        &self,
        first: usize,
        count: usize,
        place: usize,
        wanted: u32,
        pins: &mut FramePins,
    ) {
        assert!(
            core::ptr::eq(self.frames, pins.frames()),
            "frames of another allocator"
        );
        let mut at = 0;
        while at < count {
            at += self.pin_singles(first + at, count - at, place + at, wanted, pins);
            if at < count {
                at += self.pin_folio(first + at, count - at, place + at, wanted, pins);
            }
        }
    }

    /// As [`Self::pin_group`], up to the first frame that is not a block of its own: how many slots.
    #[inline(always)]
    fn pin_singles(
        &self,
        first: usize,
        count: usize,
        place: usize,
        wanted: u32,
        pins: &mut FramePins,
    ) -> usize {
        let slots = &self.slots[first..first + count];
        pins.fill(place, count, |at| {
            let slot = &slots[at];
            let seen = slot.load(Ordering::Acquire);
            if seen == EMPTY || wanted >> (place + at) & 1 == 0 {
                return Filled::No;
            }
            let pfn = Pfn::new(seen - 1);
            // SAFETY: as in `pin`.
            let meta = unsafe { self.frames.record(pfn) };
            if !self.frames.try_pin_single(pfn, meta) {
                return Filled::Stop;
            }
            // As in `pin`.
            if slot.load(Ordering::Acquire) == seen || planted::is(Fault::SlotWithoutRecheck) {
                return Filled::Yes(pfn);
            }
            // SAFETY: taken just now.
            drop(unsafe { self.frames.from_entry(pfn) });
            Filled::Stop
        })
    }

    /// As [`Self::pin_group`] for the slot `first` and those behind it, of `count`, that hold the
    /// frames which follow in its block: the one reference keeps them all, so that their slots are
    /// loaded only once, after it was taken. How many slots that were, at least one.
    #[inline(never)]
    fn pin_folio(
        &self,
        first: usize,
        count: usize,
        place: usize,
        wanted: u32,
        pins: &mut FramePins,
    ) -> usize {
        let Some(frame) = self.pin(first) else {
            return 1;
        };
        let left = usize::try_from(frame.frames_left()).unwrap_or(usize::MAX);
        let also_wanted = (!(wanted >> place)).trailing_zeros() as usize;
        let most = count.min(left).min(also_wanted.max(1));
        let full = frame.pfn().raw() + 1;
        let follows = |&(slot, full): &(&AtomicU64, u64)| slot.load(Ordering::Acquire) == full;
        let behind = self.slots[first + 1..first + most].iter().zip(full + 1..);
        let run = 1 + behind.take_while(follows).count();
        pins.put_run(place, frame, run);
        run
    }

    /// Whether slot `index` holds frame `pfn` at this moment.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    pub fn holds(&self, index: usize, pfn: Pfn) -> bool {
        self.slots[index].load(Ordering::Acquire) == pfn.raw() + 1
    }

    /// Whether slot `index` is empty at this moment.
    ///
    /// # Panics
    /// If there is no such slot.
    #[inline]
    pub fn is_empty(&self, index: usize) -> bool {
        self.slots[index].load(Ordering::Acquire) == EMPTY
    }

    /// Whether `count` slots from `first` on are empty at this moment.
    ///
    /// # Panics
    /// If there are not so many.
    #[inline]
    pub fn are_empty(&self, first: usize, count: usize) -> bool {
        let mut slots = self.slots[first..first + count].iter();
        slots.all(|slot| slot.load(Ordering::Acquire) == EMPTY)
    }

    /// Puts a frame into slot `index`, with the reference.
    ///
    /// # Errors
    /// The frame, if the slot is not empty.
    ///
    /// # Panics
    /// If there is no such slot, or the frame is another machine's.
    pub fn put(&self, index: usize, frame: UserFrame) -> Result<(), UserFrame> {
        assert!(
            core::ptr::eq(self.frames, frame.frames()),
            "a frame of another allocator"
        );
        let full = frame.pfn().raw() + 1;
        let slot = &self.slots[index];
        match slot.compare_exchange(EMPTY, full, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // The slot owns the reference now.
                let _ = frame.into_entry();
                Ok(())
            }
            Err(_) => Err(frame),
        }
    }

    /// Puts a frame, and those behind it in its block, into `count` slots from `first` on.
    ///
    /// # Errors
    /// The frame, if one of the slots is not empty.
    ///
    /// # Panics
    /// If there are no such slots or frames, the frame is another machine's, or somebody else fills
    /// one of the slots meanwhile.
    #[inline]
    pub fn put_run(&self, first: usize, frame: UserFrame, count: usize) -> Result<(), UserFrame> {
        if count == 1 {
            return self.put(first, frame);
        }
        assert!(
            core::ptr::eq(self.frames, frame.frames()),
            "a frame of another allocator"
        );
        if !self.are_empty(first, count) {
            return Err(frame);
        }
        let start = frame.into_entries(count as u32).raw() + 1;
        for (slot, number) in self.slots[first..first + count].iter().zip(start..) {
            let put = slot.compare_exchange(EMPTY, number, Ordering::AcqRel, Ordering::Acquire);
            assert!(put.is_ok(), "two fill a row of slots");
        }
        Ok(())
    }

    /// Puts the frames at the first `count` places into the slots from `first` on, with the references.
    ///
    /// # Panics
    /// If there are no such slots, one is not empty, or a place has no reference.
    #[inline]
    pub fn put_group(&self, first: usize, count: usize, pins: &mut FramePins) {
        assert!(
            core::ptr::eq(self.frames, pins.frames()),
            "frames of another allocator"
        );
        for (place, slot) in self.slots[first..first + count].iter().enumerate() {
            let full = pins.forget(place).map_or(EMPTY, |pfn| pfn.raw() + 1);
            let put = slot.compare_exchange(EMPTY, full, Ordering::AcqRel, Ordering::Acquire);
            assert!(put.is_ok() && full != EMPTY, "two fill a row of slots");
        }
    }

    /// Empties slot `index`: the reference that it owned.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn take(&self, index: usize) -> Option<UserFrame> {
        match self.slots[index].swap(EMPTY, Ordering::AcqRel) {
            EMPTY => None,
            // SAFETY: a full slot owns a reference, and this exchange has emptied it.
            full => Some(unsafe { self.frames.from_entry(Pfn::new(full - 1)) }),
        }
    }
}

impl Drop for PageSlots {
    fn drop(&mut self) {
        (0..Self::COUNT).for_each(|index| drop(self.take(index)));
    }
}

impl core::fmt::Debug for PageSlots {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let full = (0..Self::COUNT).filter(|&index| !self.is_empty(index));
        write!(f, "PageSlots({} of {})", full.count(), Self::COUNT)
    }
}
