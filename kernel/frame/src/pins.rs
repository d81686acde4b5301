//! References for a group of table entries, taken in one go.

use crate::frames::Frames;
use crate::user::UserFrame;
use arm64::addr::Pfn;
use core::mem::MaybeUninit;

/// References to user frames by place: at most one for each of as many entries as a contiguous block
/// may have.
pub struct FramePins {
    frames: &'static Frames,
    /// The places that have one, and a number.
    held: u32,
    pfns: [MaybeUninit<Pfn>; Self::PLACES],
}

/// What becomes of a place.
pub(crate) enum Filled {
    /// It gets this reference, for which no value stands.
    Yes(Pfn),
    /// It gets none.
    No,
    /// The same, and it is the last.
    Stop,
}

impl FramePins {
    /// How many places there are.
    pub const PLACES: usize = 16;

    /// None, of frames of `frames`.
    #[inline(always)]
    pub fn new(frames: &'static Frames) -> Self {
        Self {
            frames,
            held: 0,
            pfns: [const { MaybeUninit::uninit() }; Self::PLACES],
        }
    }

    /// The places that have a reference, a bit for each.
    #[inline(always)]
    pub fn held(&self) -> u32 {
        self.held
    }

    /// The frame at `place`.
    #[inline(always)]
    pub fn pfn(&self, place: usize) -> Option<Pfn> {
        let held = self.held >> place & 1 != 0;
        // SAFETY: a place that has a reference has a number.
        held.then(|| unsafe { self.pfns[place].assume_init() })
    }

    /// Puts a reference to `place`.
    ///
    /// # Panics
    /// If it has one, there is no such place, or the frame is another machine's.
    #[inline(always)]
    pub fn put(&mut self, place: usize, frame: UserFrame) {
        assert!(
            core::ptr::eq(self.frames, frame.frames()),
            "a frame of another allocator"
        );
        assert!(self.held >> place & 1 == 0, "two references for one place");
        self.pfns[place].write(frame.into_entry());
        self.held |= 1 << place;
    }

    /// As [`Self::put`], for `count` places: for the frame, and for those behind it in its block.
    ///
    /// # Panics
    /// As [`Self::put`], and if the block has not so many.
    pub fn put_run(&mut self, place: usize, frame: UserFrame, count: usize) {
        assert!(
            core::ptr::eq(self.frames, frame.frames()),
            "a frame of another allocator"
        );
        assert!(place + count <= Self::PLACES, "more references than places");
        let held = ((1 << count) - 1) << place;
        assert!(self.held & held == 0, "two references for one place");
        let first = frame.into_entries(count as u32).raw();
        for (pfn, number) in self.pfns[place..place + count].iter_mut().zip(first..) {
            pfn.write(Pfn::new(number));
        }
        self.held |= held;
    }

    /// The frame at the first place, if it and `count` places in all have frames that follow each
    /// other.
    #[inline(always)]
    pub fn run(&self, count: usize) -> Option<Pfn> {
        let first = self.pfn(0)?;
        let all = u32::MAX >> (u32::BITS - count as u32);
        // SAFETY: places that have references have numbers.
        let number = |pfn: &MaybeUninit<Pfn>| unsafe { pfn.assume_init() }.raw();
        let run = self.held & all == all
            && (first.raw()..)
                .zip(&self.pfns[..count])
                .all(|(expected, pfn)| number(pfn) == expected);
        run.then_some(first)
    }

    /// Puts what `fill` says to `count` places from `place` on, up to the one where it stops; how many
    /// were before that.
    ///
    /// # Panics
    /// As [`Self::put`].
    #[inline(always)]
    pub(crate) fn fill(
        &mut self,
        place: usize,
        count: usize,
        mut fill: impl FnMut(usize) -> Filled,
    ) -> usize {
        let (mut held, mut at) = (0, 0);
        for pfn in &mut self.pfns[place..place + count] {
            match fill(at) {
                Filled::Yes(number) => {
                    pfn.write(number);
                    held |= 1 << at;
                }
                Filled::No => {}
                Filled::Stop => break,
            }
            at += 1;
        }
        assert!(
            self.held & held << place == 0,
            "two references for one place"
        );
        self.held |= held << place;
        at
    }

    /// The number at `place`, whose reference the caller stands for from now on.
    #[inline(always)]
    pub(crate) fn forget(&mut self, place: usize) -> Option<Pfn> {
        let pfn = self.pfn(place)?;
        self.held &= !(1 << place);
        Some(pfn)
    }

    #[cold]
    fn drop_one(&mut self, place: usize) {
        drop(self.take(place));
    }

    /// The allocator of the frames.
    #[inline(always)]
    pub fn frames(&self) -> &'static Frames {
        self.frames
    }

    /// Every reference becomes that of the table entry that `make` writes for its place.
    #[inline(always)]
    pub fn hand_over(&mut self, mut make: impl FnMut(usize, Pfn)) {
        let held = core::mem::take(&mut self.held);
        for (place, pfn) in self.pfns.iter().enumerate() {
            if held >> place & 1 != 0 {
                // SAFETY: a place that had a reference has a number.
                make(place, unsafe { pfn.assume_init() });
            }
        }
    }
}

impl Drop for FramePins {
    #[inline(always)]
    fn drop(&mut self) {
        if self.held != 0 {
            (0..Self::PLACES).for_each(|place| self.drop_one(place));
        }
    }
}

impl core::fmt::Debug for FramePins {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "FramePins({:#x})", self.held)
    }
}
