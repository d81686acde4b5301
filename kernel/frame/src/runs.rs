//! Blocks that are freed one after the other: neighbours go to the buddy lists together.

use crate::frames::Frames;
use crate::meta::{Class, FrameMeta};
use crate::percpu::{BATCH, PerCpu};
use arm64::addr::Pfn;
use core::ops::Range;

/// Blocks of class user that nobody holds any more.
pub(crate) struct FreeRun<'f> {
    frames: &'f Frames,
    cpu: &'f PerCpu,
    /// Neighbours that have not been given back.
    run: Range<u64>,
    /// Whether a block of several frames is among them.
    has_large: bool,
    freed_blocks: u64,
    freed_frames: u64,
}

impl<'f> FreeRun<'f> {
    pub(crate) fn new(frames: &'f Frames) -> Self {
        Self {
            frames,
            cpu: frames.this_cpu(),
            run: 0..0,
            has_large: false,
            freed_blocks: 0,
            freed_frames: 0,
        }
    }

    /// Adds a block of one frame, whose record is `meta`.
    #[inline(always)]
    pub(crate) fn add(&mut self, pfn: Pfn, meta: &FrameMeta) {
        if meta.was_tagged() {
            self.frames.untag(pfn, meta);
        }
        meta.set_free(0, 0);
        self.extend(pfn.raw()..pfn.raw() + 1);
    }

    /// Adds a larger block, whose first frame is `pfn` and whose records are these.
    pub(crate) fn add_large(&mut self, pfn: Pfn, records: &[FrameMeta]) {
        self.frames.untag_all(pfn, records);
        // The compiler unrolls a loop over groups; one over single atomics it does not.
        let (groups, rest) = records.as_chunks::<4>();
        for group in groups {
            group.iter().for_each(|meta| meta.set_free(0, 0));
        }
        rest.iter().for_each(|meta| meta.set_free(0, 0));
        self.extend(pfn.raw()..pfn.raw() + records.len() as u64);
        self.has_large = true;
    }

    #[inline(always)]
    fn extend(&mut self, block: Range<u64>) {
        self.freed_blocks += 1;
        self.freed_frames += block.end - block.start;
        if block.start == self.run.end {
            self.run.end = block.end;
        } else if block.end == self.run.start {
            // What was taken from a list that had been filled upwards comes downwards.
            self.run.start = block.start;
        } else {
            self.give_back();
            self.run = block;
        }
    }

    /// As many as are moved to the buddy lists at once go there; fewer are kept for this CPU.
    #[inline(always)]
    fn give_back(&mut self) {
        let count = self.run.end - self.run.start;
        if count >= BATCH as u64 || self.has_large {
            self.has_large = false;
            return self.frames.free_run(&self.run);
        }
        for pfn in self.run.clone() {
            self.frames.keep(self.cpu, Pfn::new(pfn));
        }
    }
}

impl Drop for FreeRun<'_> {
    fn drop(&mut self) {
        self.give_back();
        self.cpu
            .count_frees(Class::User, self.freed_blocks, self.freed_frames);
    }
}
