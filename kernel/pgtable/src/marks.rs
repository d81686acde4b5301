//! The userfaultfd marks of a range, which live in the entries and nowhere else (UF-05).

use arm64::pte::Pte;

use crate::cells::Cells;
use crate::gather::Gather;
use crate::leaf::Leaf;
use crate::machine::Machine;
use crate::space::User;

/// What becomes of the userfaultfd marks of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marking {
    /// Whatever is there is marked.
    Present,
    /// Whatever is there is marked, and where nothing is, a marker comes: the object behind the area
    /// may fill the page unseen.
    Every,
    /// No mark stays.
    Clear,
}

impl<M: Machine> Leaf<'_, User, M> {
    /// Sets or clears the userfaultfd marks of the part; a marked page is not writable (law 10), and
    /// does not become so with the end of its mark. Blocks of mixed marks do not stay folded (XC-01).
    /// Markers count as entries of the table.
    pub fn mark_uffd_wp(&self, marking: Marking, gather: &mut Gather) {
        let (flush, more) = self.write(|change| {
            let flush = match marking {
                Marking::Clear => self.change_mapped(change, |pte| pte.with_uffd_wp(false)),
                _ => self.change_mapped(change, |pte| pte.wrprotect().with_uffd_wp(true)),
            };
            (flush, self.mark_absent(change.words(), marking))
        });
        self.add_entries(more);
        flush.tell(gather, |index| self.va_of(index));
    }

    /// The same for entries that refer to no frame; how many more are not none now.
    fn mark_absent(&self, cells: Cells<'_, M>, marking: Marking) -> i32 {
        let (on, fill) = (marking != Marking::Clear, marking == Marking::Every);
        let (first, behind) = self.indices();
        let mark = |i| {
            let old = cells.raw(i);
            let new = match old.is_present() {
                true => old,
                false => old.mark_absent(on, fill),
            };
            if new != old {
                cells.put(i, new);
            }
            occupied(new) - occupied(old)
        };
        (first..behind).map(mark).sum()
    }
}

fn occupied(pte: Pte) -> i32 {
    i32::from(!pte.is_none())
}
