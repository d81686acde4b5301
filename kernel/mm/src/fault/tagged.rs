//! Faults in memory that carries allocation tags (law 13).
//!
//! Fresh memory gets its storage and its tags before it is mapped. A page that is mapped already and
//! lacks them (`PAGE_FAULT_ON_ACCESS`) is held by a reference, with no lock; gets them; and its entry
//! is then given access under the lock, if it still is the entry (TAG-10, TAG-13). There is no second
//! path: whoever maps a page before it has tags gets such an entry, and this fault.

use arm64::addr::PAGE_SIZE;
use arm64::attrs::{Attrs, Prot};
use frame::{Initialising, TagBacked, TagInit, UserFrame};
use pgtable::{Leaf, Look, Machine, ReadSide, User, Visit};

use super::look::{Found, Sight};
use super::prepare::FOLIO_ORDER;
use super::{Applied, FaultInput, Undone};
use crate::space::Space;

/// Pages of a block whose tags are cleared in one fault (law 16).
const PER_FAULT: u64 = 128;

/// A page to be mapped, made with no lock held.
pub(super) enum Prepared {
    /// It may be shown with its tags.
    Tagged(TagBacked<UserFrame>),
    /// It has none, or not yet.
    Plain(UserFrame),
}

impl<M: Machine> Space<M> {
    /// A cleared page with tags, of the program's own.
    pub(super) fn fresh_tagged(&self, prot: Prot) -> Result<Prepared, Undone> {
        let mut frame = self.fresh_frame(false).map_err(|_| Undone::NoMemory)?;
        frame.zero_tagged_pages(0, 1);
        self.make_executable(prot, &frame);
        Ok(Prepared::Tagged(frame.into_tagged().into_user()))
    }

    /// A copy of `page` with its tags.
    pub(super) fn copy_tagged(&self, page: &UserFrame, prot: Prot) -> Result<Prepared, Undone> {
        let mut frame = self.fresh_frame(false).map_err(|_| Undone::NoMemory)?;
        frame.copy_tagged_page(0, page);
        // What is executed is seen before tags are (TAG-09).
        self.make_executable(prot, &frame);
        Ok(Prepared::Tagged(frame.into_tagged().into_user()))
    }

    /// [`Self::fill_page`] in memory that carries tags.
    #[inline(never)]
    pub(super) fn fill_tagged_page<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
    ) -> Result<Applied, Undone> {
        let page = self.fresh_tagged(Prot::empty())?;
        let attrs = found.area.attrs(found.area.prot);
        let attrs = attrs.with_young(true).with_dirty(true);
        let Some(leaf) = self.lock_planned(input.va, found, look) else {
            return Err(Undone::Retired);
        };
        Ok(match install(&leaf, input.va, page, attrs) {
            true => Applied::Mapped(PAGE_SIZE),
            false => Applied::Already,
        })
    }

    /// [`Self::fill_folio`] in memory that carries tags.
    #[inline(never)]
    pub(super) fn fill_tagged_folio<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
        section: &ReadSide<'g>,
    ) -> Result<Applied, Undone> {
        let frames = self.machine().frames();
        let mut folio = frames
            .alloc_fresh(FOLIO_ORDER, false)
            .map_err(|_| Undone::NoFolio)?;
        folio.zero_tagged_pages(0, 1 << FOLIO_ORDER);
        self.map_folio(input, found, look, folio.into_tagged(), section)
    }

    /// Tags for a page of an object that is about to be mapped in memory that carries them. What does
    /// not get any now is mapped without access.
    pub(super) fn back_object_page(&self, page: &UserFrame) {
        if let TagInit::Ours(ours) = page.init_tags() {
            drop(self.back(page, ours));
        }
    }

    /// Makes the tags of a page.
    fn back(&self, _page: &UserFrame, ours: Initialising<'_>) -> TagBacked<UserFrame> {
        self.counters().pages_tagged.bump();
        ours.clear()
    }

    /// Gives the entry at the address what it lacks.
    pub(super) fn apply_tag<'g>(
        &'g self,
        va: u64,
        found: &Found,
        sight: &Sight<'g>,
        section: &'g ReadSide<'g>,
    ) -> Result<Applied, Undone> {
        if self.is_block(sight) {
            return self.tag_block(va, found, section);
        }
        let Some(leaf) = self.lock_planned(va, found, &sight.look) else {
            return Err(Undone::Retired);
        };
        let page = leaf.hold(va);
        drop(leaf);
        let Some(page) = page else {
            return Ok(Applied::Already);
        };
        let proof = match page.init_tags() {
            TagInit::Done(proof) => proof,
            TagInit::Ours(ours) => self.back(&page, ours),
            // Whoever has the turn is about to be done: the access is made again.
            TagInit::Busy => return Ok(Applied::Part),
        };
        let Some(leaf) = self.lock_planned(va, found, &sight.look) else {
            return Err(Undone::Retired);
        };
        Ok(match leaf.give_tags(va, &proof) {
            true => Applied::Mapped(0),
            false => Applied::Already,
        })
    }

    /// A block of 2 MiB: its pages get their tags a part at a time, over several faults, and its entry
    /// access with the last of them (TAG-20).
    #[inline(never)]
    fn tag_block<'g>(
        &'g self,
        va: u64,
        found: &Found,
        section: &'g ReadSide<'g>,
    ) -> Result<Applied, Undone> {
        let Some(Visit::Block(block)) = self.visit_planned(va, found, section)? else {
            return Ok(Applied::Already);
        };
        let (pages, held) = (block.level().size() / PAGE_SIZE, block.hold());
        drop(block);
        let Some(first) = held else {
            return Ok(Applied::Already);
        };
        let mut left = PER_FAULT;
        for index in 0..pages {
            let page = first.page(index);
            match page.init_tags() {
                TagInit::Done(_) => continue,
                TagInit::Busy => return Ok(Applied::Part),
                TagInit::Ours(ours) => drop(self.back(&page, ours)),
            }
            left -= 1;
            if left == 0 {
                return Ok(Applied::Part);
            }
        }
        match self.visit_planned(va, found, section)? {
            Some(Visit::Block(block)) if block.give_tags() => Ok(Applied::Mapped(0)),
            _ => Ok(Applied::Already),
        }
    }
}

/// Puts the page where nothing is; whether it did.
pub(super) fn install<M: Machine>(
    leaf: &Leaf<'_, User, M>,
    va: u64,
    page: Prepared,
    attrs: Attrs,
) -> bool {
    match page {
        Prepared::Tagged(page) => leaf.install(va, page, attrs).is_ok(),
        Prepared::Plain(page) => leaf.install(va, page, attrs).is_ok(),
    }
}
