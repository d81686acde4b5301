//! What pagers need of a locked table: which pages it maps, to move them to another owner, and which
//! of them were written.

use core::mem::ManuallyDrop;

use arm64::addr::Pfn;
use arm64::geometry::Level;
use sync::planted::{self, Fault};

use crate::contpte::each_of_block;
use frame::FramePins;

use crate::gather::{Flushed, Gather};
use crate::leaf::{Leaf, PAGE};
use crate::machine::Machine;
use crate::space::User;

/// What an entry maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageAt {
    /// Nothing, or a marker.
    Nothing,
    /// The page of zeros, or another frame that is not counted.
    Special,
    /// A page that EL0 may read.
    Page(Pfn),
    /// Something else.
    Other,
}

/// Pages that were taken out of a table and are not flushed yet. Dropping it leaks them.
#[must_use = "pages taken out leak unless they are flushed and given to somebody"]
pub struct Taken(ManuallyDrop<FramePins>);

impl Taken {
    /// How many.
    #[inline(always)]
    pub fn count(&self) -> u64 {
        self.0.held().count_ones().into()
    }

    /// Makes the pages which nobody else holds those of memory object `number`: their places in order,
    /// and all references.
    #[inline]
    pub fn give_to<M: Machine>(
        self,
        machine: &M,
        number: u32,
        _flushed: &Flushed,
    ) -> (u32, FramePins) {
        let mut pins = ManuallyDrop::into_inner(self.0);
        for place in 0..FramePins::PLACES {
            if let Some(pfn) = pins.pfn(place) {
                machine.released(pfn);
            }
        }
        // SAFETY: law 12: no entry but those taken out had a reference, and they are flushed; of a
        // frame with another reference nothing is changed.
        let given = unsafe { pins.give_to(number) };
        (given, pins)
    }
}

impl<M: Machine> Leaf<'_, User, M> {
    /// What the entry of `va` maps.
    #[inline(always)]
    pub fn page_at(&self, va: u64) -> PageAt {
        let pte = self.slot(va).raw();
        if !pte.is_present() {
            return PageAt::Nothing;
        }
        match pte.is_leaf(Level::L3) && pte.user_readable() {
            true if pte.special() => PageAt::Special,
            true => PageAt::Page(self.space.machine().format().pa(pte, Level::L3).pfn()),
            false => PageAt::Other,
        }
    }

    /// Takes pages out, from that of `va` on and `count` at most, up to the first that is not readable, a
    /// block by itself, of no object, and referred to by its entry alone; how many. `gather` owes the flush.
    pub fn take_alone(&self, va: u64, count: usize, gather: &mut Gather) -> Taken {
        let machine = self.space.machine();
        let (frames, format) = (machine.frames(), machine.format());
        let mut pins = FramePins::new(frames);
        let first = self.table.index(va);
        let alone = |i: usize| {
            let pte = self.raw(i);
            let plain = pte.is_leaf(Level::L3)
                && pte.user_readable()
                && !pte.special()
                && !pte.is_contiguous();
            // SAFETY: law 12: the entry owns a reference, and the table is locked.
            plain && unsafe { frames.is_entrys_alone(format.pa(pte, Level::L3).pfn()) }
        };
        let count = count.min(FramePins::PLACES);
        let end = (first..first + count).find(|&i| !alone(i));
        let count = end.map_or(count, |end| end - first);
        if count == 0 {
            return Taken(ManuallyDrop::new(pins));
        }
        self.write(|change| {
            let cells = change.words();
            for place in 0..count {
                let pfn = format.pa(cells.take(first + place), Level::L3).pfn();
                // SAFETY: law 12: the entry owned a reference and is gone; it is dropped, or given
                // away, with a token of its flush only: `Taken` is private to that.
                pins.put(place, unsafe { frames.from_entry(pfn) });
            }
        });
        self.add_entries(-(count as i32));
        gather.changed(va, va + count as u64 * PAGE, Level::L3);
        Taken(ManuallyDrop::new(pins))
    }

    /// Makes the dirty entries of the part clean that map a page `is_wanted`, and tells `written` of each
    /// of these pages. What is written by a translation that a CPU has from before reaches the page
    /// before the flush that `gather` owes is over.
    ///
    /// A contiguous block is dirty as a whole: all of its pages are told of, and one that the part
    /// covers by half is taken apart first (law 5).
    pub fn clean(
        &self,
        gather: &mut Gather,
        is_wanted: impl Fn(Pfn) -> bool,
        mut written: impl FnMut(Pfn),
    ) {
        let format = self.space.machine().format();
        let (first, end) = self.indices();
        let dirty = |i: usize| {
            let pte = self.raw(i);
            pte.maps_frame(Level::L3) && !pte.special() && pte.dirty()
        };
        // The table is opened for writing only where there is something.
        let Some(first) = (first..end).find(|&i| self.raw(i).is_contiguous() || dirty(i)) else {
            return;
        };
        let mut changed = |from: usize, count: usize| {
            if !planted::is(Fault::CleanUnflushed) {
                let va = self.va_of(from);
                gather.changed(va, va + count as u64 * PAGE, Level::L3);
            }
        };
        self.write(|change| {
            let (cells, mut i) = (change.words(), first);
            while i < end {
                let pte = cells.raw(i);
                let pfn = format.pa(pte, Level::L3).pfn();
                let mut count = 1;
                if pte.is_contiguous() && is_wanted(pfn) {
                    count = change.run(i, end - i, self.va_of(i), Fault::ProtectWithoutUnfold);
                }
                let mut was_dirty = false;
                let wanted = pte.maps_frame(Level::L3) && !pte.special() && is_wanted(pfn);
                each_of_block(if wanted { count } else { 0 }, |at| {
                    cells.update(i + at, |pte| {
                        was_dirty |= pte.dirty();
                        pte.dirty().then(|| pte.mkclean())
                    });
                });
                if was_dirty {
                    changed(i, count);
                    (0..count as u64).for_each(|page| written(pfn.add(page)));
                }
                i += count;
            }
        });
    }
}
