//! Fault-around: the resident neighbours of a page, mapped where nothing is.

use core::ops::Range;

use arm64::addr::{Pfn, PhysAddr};
use arm64::attrs::{Attrs, MemType};
use arm64::geometry::Level;
use arm64::pte::{Format, Pte};
use frame::{FramePins, Frames};

use crate::contpte::{Change, page};
use crate::leaf::{Leaf, PAGE};
use crate::machine::{Conversion, Machine};
use crate::space::{SpaceKind, User};
use crate::tags::settle;

/// What a batch around a fault did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Around {
    /// Pages that are mapped now and were not before.
    pub mapped: usize,
    /// Groups of them that came out contiguous.
    pub folded: usize,
}

/// How pages are born.
#[derive(Clone, Copy)]
struct Born {
    neighbour: Pte,
    /// The entry of the page that was touched.
    touched: usize,
    attrs: Attrs,
}

impl Born {
    /// Whether pages that lie together are a block for certain: each of them is mapped as it is wanted.
    fn may_fold(&self) -> bool {
        self.neighbour.is_valid()
    }

    /// The entry `index`, which maps `frame`.
    #[inline(always)]
    fn entry(&self, format: Format, frames: &Frames, index: usize, frame: Pfn) -> Pte {
        let pte = format.with_pa(self.neighbour, frame.start(), Level::L3);
        let pte = settle(frames, pte, frame);
        if index != self.touched {
            return pte;
        }
        let pte = if self.attrs.young { pte.mkyoung() } else { pte };
        if self.attrs.dirty { pte.mkdirty() } else { pte }
    }
}

impl<M: Machine> Leaf<'_, User, M> {
    /// Maps what `find` finds for pages of `[from, to)` that lie in the table and whose entries are
    /// none, in one batch. Any other entry, be it a marker, is left alone, and `find` is not asked
    /// about it (UF-01: nothing but absent entries is added to). The page of `touched` is born as
    /// `attrs` say; its neighbours too, but old and clean where the hardware records accesses.
    ///
    /// `find` is told an address and for which pages from there on frames are wanted, a bit for each,
    /// and puts those that there are to their places. Aligned groups that come out whole, of one
    /// folio and alike are contiguous.
    pub fn install_around(
        &self,
        (from, to): (u64, u64),
        attrs: Attrs,
        touched: u64,
        mut find: impl FnMut(u64, u32, &mut FramePins),
    ) -> Around {
        let machine = self.space.machine();
        let (from, to) = (from.max(self.from), to.min(self.to));
        let mut done = Around::default();
        if from >= to {
            return done;
        }
        // Where software records, a block is recorded as a whole: an entry that lags behind what
        // its siblings say would fault for ever (law 7).
        let plain = match machine.records_access() {
            true => attrs.with_young(false).with_dirty(false),
            false => attrs,
        };
        let first = self.table.index(from);
        let end = first + ((to - from) / PAGE) as usize;
        let born = Born {
            neighbour: page(machine, PhysAddr::new(0), plain, MemType::Normal),
            touched: first.wrapping_add((touched.wrapping_sub(from) / PAGE) as usize),
            attrs,
        };
        self.write(|change| {
            let mut i = first;
            while i < end {
                let behind = change.group_end(i, end).min(i + FramePins::PLACES);
                let va = from + (i - first) as u64 * PAGE;
                let wanted = change.empty(i..behind);
                if wanted != 0 {
                    let mut pins = FramePins::new(machine.frames());
                    find(va, wanted, &mut pins);
                    assert!(pins.held() & !wanted == 0, "a frame for an entry in use");
                    done.mapped += pins.held().count_ones() as usize;
                    done.folded += usize::from(change.fill(i, va, &mut pins, born));
                }
                i = behind;
            }
        });
        self.add_entries(done.mapped as i32);
        machine.publish(SpaceKind::User);
        done
    }
}

impl<M: Machine> Change<'_, '_, M> {
    /// Which of some entries, at most [`FramePins::PLACES`], are none.
    #[inline(always)]
    fn empty(&self, indices: Range<usize>) -> u32 {
        let (cells, all) = (self.words(), (1 << indices.len()) - 1);
        // Nearly always all of them.
        let any = indices.clone().fold(0, |any, i| any | cells.raw(i).raw());
        if any == 0 {
            return all;
        }
        let used = |(place, i)| u32::from(!cells.raw(i).is_none()) << place;
        all & !indices.enumerate().map(used).fold(0, |all, bit| all | bit)
    }

    /// Writes the new entries of a group from `first` on, which is of `va`; whether that made a
    /// contiguous block.
    #[inline(always)]
    fn fill(&self, first: usize, va: u64, pins: &mut FramePins, born: Born) -> bool {
        if pins.held() == 0 {
            return false;
        }
        let (cells, machine) = (self.words(), self.writer.machine());
        let (format, frames) = (machine.format(), machine.frames());
        if born.may_fold() && self.is_block(pins) {
            pins.hand_over(|place, frame| {
                let pte = born.entry(format, frames, first + place, frame);
                cells.put_new(first + place, pte.with_contiguous(true));
            });
            self.converted(Conversion::Fold, first);
            return true;
        }
        pins.hand_over(|place, frame| {
            cells.put_new(
                first + place,
                born.entry(format, frames, first + place, frame),
            );
        });
        let last = self.group_end(first, self.table.entries()) - 1;
        self.try_fold(last, va + (last - first) as u64 * PAGE)
    }

    /// Whether frames are those of one aligned part of a folio: their group's, if there are so many,
    /// as no group is larger than that.
    #[inline(always)]
    fn is_block(&self, pins: &FramePins) -> bool {
        let block = self.block();
        let aligned = |first: Pfn| first.start().is_aligned(PAGE * block as u64);
        pins.pfn(0).is_some_and(aligned)
            && pins
                .run(block)
                .is_some_and(|first| self.is_one_folio(first.raw(), block))
    }
}
