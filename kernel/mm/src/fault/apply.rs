//! Plans that change an entry in place: access, rights, reuse.

use arm64::addr::{PAGE_SIZE, VaRange, VirtAddr};
use arm64::attrs::Prot;
use arm64::geometry::Level;
use pgtable::{Accessed, Gather, Leaf, Machine, Marking, ReadSide, User, Visit};
use sync::planted::{self, Fault};

use super::look::{Found, Sight};
use super::{Applied, Undone};
use crate::space::Space;

/// The page of `va`.
fn page_of(va: u64) -> Option<VaRange> {
    VaRange::from_len(VirtAddr::new(va & !(PAGE_SIZE - 1)), PAGE_SIZE)
}

impl<M: Machine> Space<M> {
    /// Locks what translates `va`, after which the area is known to be current.
    pub(super) fn visit_planned<'g>(
        &'g self,
        va: u64,
        found: &Found,
        section: &'g ReadSide<'g>,
    ) -> Result<Option<Visit<'g, User, M>>, Undone> {
        let Some(range) = page_of(va) else {
            return Ok(None);
        };
        let visit = self.table().cursor(range, section).visit();
        match self.is_current(found, va) {
            true => Ok(visit),
            false => Err(Undone::Retired),
        }
    }

    #[inline(never)]
    pub(super) fn apply_access(
        &self,
        va: u64,
        dirty: bool,
        found: &Found,
        section: &ReadSide<'_>,
    ) -> Result<Applied, Undone> {
        let (accessed, level) = match self.visit_planned(va, found, section)? {
            Some(Visit::Table(leaf)) => (leaf.mark_accessed(va, dirty), Level::L3),
            Some(Visit::Block(block)) => (block.mark_accessed(dirty), block.level()),
            Some(Visit::Absent(_)) | None => return Ok(Applied::Already),
        };
        match accessed {
            Accessed::NotAllowed => Ok(Applied::Already),
            Accessed::Already => {
                self.drop_stale_page(va);
                Ok(Applied::Already)
            }
            Accessed::Recorded { start, end } => {
                if dirty {
                    self.drop_stale(start, end, level);
                }
                Ok(Applied::Mapped(0))
            }
        }
    }

    /// Gives the entry the rights that entries of its area have, whatever page it maps.
    pub(super) fn apply_reprotect(
        &self,
        va: u64,
        found: &Found,
        sight: &Sight<'_>,
        section: &ReadSide<'_>,
    ) -> Result<Applied, Undone> {
        let prot = found.area.entry_prot();
        self.give_rights(va, prot, found, sight, section)
    }

    /// Gives the entry, which maps a page of the program's own, all rights of the area.
    pub(super) fn apply_reuse(
        &self,
        va: u64,
        found: &Found,
        sight: &Sight<'_>,
        section: &ReadSide<'_>,
    ) -> Result<Applied, Undone> {
        let prot = found.area.prot;
        self.give_rights(va, prot, found, sight, section)
    }

    #[inline(never)]
    fn give_rights(
        &self,
        va: u64,
        prot: Prot,
        found: &Found,
        sight: &Sight<'_>,
        section: &ReadSide<'_>,
    ) -> Result<Applied, Undone> {
        // Nobody watches the mark any more: it goes (UF-25).
        let unmark = sight.marked && !found.area.watches_writes();
        let mut gather = Gather::new();
        let given = match self.visit_planned(va, found, section) {
            Ok(Some(Visit::Table(leaf))) => give_page(&leaf, va, prot, unmark, sight, &mut gather),
            // A block is changed as a whole by its owner only; a fault is about one page of it.
            Ok(Some(Visit::Block(_))) => Given::Part,
            Ok(Some(Visit::Absent(_)) | None) => Given::Other,
            Err(undone) => return Err(undone),
        };
        self.release(&mut gather);
        match given {
            Given::Rights => Ok(Applied::Mapped(0)),
            Given::Other => Ok(Applied::Already),
            Given::Part => {
                self.table()
                    .split_block(va, section)
                    .map_err(|_| Undone::NoMemory)?;
                Err(Undone::Retired)
            }
        }
    }
}

enum Given {
    Rights,
    /// The entry is not the one that the plan was made from.
    Other,
    /// The page is a part of a block.
    Part,
}

fn give_page<M: Machine>(
    leaf: &Leaf<'_, User, M>,
    va: u64,
    prot: Prot,
    unmark: bool,
    sight: &Sight<'_>,
    gather: &mut Gather,
) -> Given {
    // D5, check 3.
    if !leaf.get(va).same_but_ad(sight.look.value) && !planted::is(Fault::GiveUnchecked) {
        return Given::Other;
    }
    if unmark {
        leaf.mark_uffd_wp(Marking::Clear, gather);
    }
    leaf.protect(prot, gather);
    Given::Rights
}
