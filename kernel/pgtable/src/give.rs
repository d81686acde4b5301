//! What pagers need of a locked table: which pages it maps, to move them to another owner, and which
//! of them were written.

use arm64::addr::Pfn;
use arm64::geometry::Level;
use sync::planted::{self, Fault};

use crate::contpte::each_of_block;
use crate::gather::Gather;
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
