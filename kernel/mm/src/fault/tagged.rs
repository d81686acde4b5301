//! Faults in memory that carries allocation tags (law 13).
//!
//! Fresh memory gets its storage and its tags before it is mapped. A page that is mapped already and
//! lacks them (`PAGE_FAULT_ON_ACCESS`) is held by a reference, with no lock; gets them; and its entry
//! is then given access under the lock, if it still is the entry (TAG-10, TAG-13). There is no second
//! path: whoever maps a page before it has tags gets such an entry, and this fault.

use arm64::addr::PAGE_SIZE;
use arm64::attrs::{Attrs, Prot};
use arrayvec::ArrayVec;
use frame::{
    FreshFrame, Initialising, PAGES_PER_TAG_PAGE, Reservation, TagBacked, TagInit, UserFrame,
};
use pgtable::{Leaf, Look, Machine, ReadSide, User, Visit};

use super::look::{Found, Sight};
use super::prepare::FOLIO_ORDER;
use super::{Applied, FaultInput, Undone};
use crate::object::Evicted;
use crate::space::Space;
use crate::tags::NoTags;

/// Pages of a block whose tags are cleared in one fault (law 16).
const PER_FAULT: u64 = 128;

/// A page to be mapped, made with no lock held.
pub(super) enum Prepared {
    /// It may be shown with its tags.
    Tagged(TagBacked<UserFrame>),
    /// It has none, or not yet.
    Plain(UserFrame),
}

/// Frames that are tried for storage before a page is mapped without.
const TRIES: usize = 4;

impl<M: Machine> Space<M> {
    /// A frame whose storage is reserved; without, where there is none for any that was tried, or somebody
    /// else is about the same block.
    fn frame_with_storage(&self) -> Result<(FreshFrame, Option<Reservation>), Undone> {
        // Those that have none are kept until the end, so that others come.
        let mut tried = ArrayVec::<FreshFrame, TRIES>::new();
        loop {
            let frame = match tried.is_empty() {
                true => self.machine().frames().alloc_for_tags(0).ok(),
                false => None,
            };
            let frame = match frame {
                Some(frame) => frame,
                None => self.fresh_frame(false).map_err(|_| Undone::NoMemory)?,
            };
            match self.context().reserve_tags(frame.pfn(), 1) {
                Ok(reserved) => return Ok((frame, Some(reserved))),
                Err(NoTags::Busy) => return Ok((frame, None)),
                Err(NoTags::Full | NoTags::Never) if tried.len() + 1 < TRIES => tried.push(frame),
                Err(NoTags::Full | NoTags::Never) => {
                    self.context().tag_events.unbacked.bump();
                    return Ok((frame, None));
                }
            }
        }
    }

    /// A cleared page with tags, of the program's own.
    pub(super) fn fresh_tagged(&self, prot: Prot) -> Result<Prepared, Undone> {
        let (mut frame, reserved) = self.frame_with_storage()?;
        match reserved {
            Some(_) => frame.zero_tagged_pages(0, 1),
            None => frame.zero_page(0),
        }
        self.make_executable(prot, &frame);
        Ok(Prepared::of(frame, reserved))
    }

    /// A copy of `page` with its tags. Without storage for them there is no copy, unless it has none.
    pub(super) fn copy_tagged(&self, page: &UserFrame, prot: Prot) -> Result<Prepared, Undone> {
        let (mut frame, reserved) = self.frame_with_storage()?;
        if reserved.is_none() && page.is_tagged() {
            return Err(Undone::NoStorage);
        }
        match reserved {
            Some(_) => frame.copy_tagged_page(0, page),
            None => frame.copy_page(0, page),
        }
        // What is executed is seen before tags are (TAG-09).
        self.make_executable(prot, &frame);
        Ok(Prepared::of(frame, reserved))
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
            .alloc_for_tags(FOLIO_ORDER)
            .map_err(|_| Undone::NoFolio)?;
        let reserved = self
            .context()
            .reserve_tags(folio.pfn(), 1 << FOLIO_ORDER)
            .map_err(|_| Undone::NoFolio)?;
        folio.zero_tagged_pages(0, 1 << FOLIO_ORDER);
        self.map_folio(input, found, look, folio.into_tagged(reserved), section)
    }

    /// Tags for a page of an object that is about to be mapped in memory that carries them. What does
    /// not get any now is mapped without access.
    pub(super) fn back_object_page(&self, page: &UserFrame) {
        if let TagInit::Ours(ours) = page.init_tags() {
            drop(self.back(ours));
        }
    }

    /// Makes the tags of a page.
    fn back(&self, ours: Initialising<'_>) -> Result<TagBacked<UserFrame>, NoTags> {
        let reserved = self.context().reserve_tags(ours.page().pfn(), 1)?;
        self.counters().pages_tagged.bump();
        Ok(ours.clear(reserved))
    }

    /// Gives the entry at the address what it lacks.
    pub(super) fn apply_tag<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        sight: &Sight<'g>,
        section: &'g ReadSide<'g>,
    ) -> Result<Applied, Undone> {
        let began = (self.context().clock)();
        let applied = match self.is_block(sight) {
            true => self.tag_block(input, found, section)?,
            false => self.tag_page(input, found, sight, section)?,
        };
        if !matches!(applied, Applied::Part) {
            let (id, now) = (self.table().owner().id, (self.context().clock)());
            self.context().tag_events.resolved(id, input.va, began, now);
        }
        Ok(applied)
    }

    fn tag_page<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        sight: &Sight<'g>,
        section: &ReadSide<'g>,
    ) -> Result<Applied, Undone> {
        let va = input.va;
        let Some(leaf) = self.lock_planned(va, found, &sight.look) else {
            return Err(Undone::Retired);
        };
        let page = leaf.hold(va);
        drop(leaf);
        let Some(page) = page else {
            return Ok(Applied::Already);
        };
        let backed = match page.init_tags() {
            TagInit::Done(proof) => Ok(proof),
            TagInit::Ours(ours) => self.back(ours),
            TagInit::Busy => Err(NoTags::Busy),
        };
        let proof = match backed {
            Ok(proof) => proof,
            // Whoever has the turn is about to be done: the access is made again.
            Err(NoTags::Busy) => return Ok(self.replay(va)),
            Err(NoTags::Full | NoTags::Never) => {
                return self.relocate(input, page, found, sight);
            }
        };
        let Some(leaf) = self.lock_planned(va, found, &sight.look) else {
            return Err(Undone::Retired);
        };
        let given = leaf.give_tags(va, &proof);
        if given && self.context().policy().tag_range() {
            drop(leaf);
            self.tag_neighbours(va, &proof, found, section);
        }
        Ok(match given {
            true => Applied::Mapped(0),
            false => Applied::Already,
        })
    }

    fn replay(&self, va: u64) -> Applied {
        let (id, now) = (self.table().owner().id, (self.context().clock)());
        self.context().tag_events.replay(id, va, now);
        Applied::Part
    }

    /// The page has no storage and gets none: it moves to where there is some (TAG-17). A page of an
    /// object moves with its object, if it lies in storage itself (TAG-25).
    #[cold]
    #[inline(never)]
    fn relocate<'g>(
        &'g self,
        input: FaultInput,
        page: UserFrame,
        found: &Found,
        sight: &Sight<'g>,
    ) -> Result<Applied, Undone> {
        let (area, context) = (&found.area, self.context());
        if page.owner() != 0 {
            let in_storage = page.is_untaggable();
            drop(page);
            let moved = match &area.object {
                Some((object, index)) if in_storage => context.move_out(object, *index),
                _ => Evicted::Held,
            };
            return match moved {
                Evicted::Done => Ok(Applied::Part),
                Evicted::Busy => Ok(self.replay(input.va)),
                Evicted::Held => Err(Undone::NoStorage),
            };
        }
        let copy = self.copy_tagged(&page, area.prot)?;
        if matches!(copy, Prepared::Plain(_)) {
            return Err(Undone::NoStorage);
        }
        drop(page);
        let was = sight.look.value;
        let attrs = area.attrs(was.prot().difference(Prot::USER));
        let attrs = attrs.with_young(was.young()).with_dirty(was.dirty());
        let placed = self.install(input.va, copy, attrs, found, sight)?;
        context.tag_events.pages_relocated.bump();
        Ok(placed)
    }

    /// Makes the tags of the pages around `va` that have their storage in common with it and are mapped
    /// without access: one fault instead of one for each (TAG-03).
    #[inline(never)]
    fn tag_neighbours<'g>(
        &'g self,
        va: u64,
        proof: &TagBacked<UserFrame>,
        found: &Found,
        section: &ReadSide<'g>,
    ) {
        let window = PAGES_PER_TAG_PAGE * PAGE_SIZE;
        let (area, start) = (&found.area, va & !(window - 1));
        let (from, to) = (start.max(area.start), (start + window).min(area.end));
        let still = || self.is_current(found, va);
        let Ok(mut leaf) = self.table().lock_leaf(va, section, still) else {
            return;
        };
        leaf.narrow(from.max(leaf.from()), to.min(leaf.to()));
        let (mut held, mut at) = (ArrayVec::<UserFrame, 32>::new(), from);
        while at < to && !held.is_full() {
            held.extend(leaf.hold(at));
            at += PAGE_SIZE;
        }
        drop(leaf);
        for page in &held {
            if self
                .context()
                .shares_storage(page.pfn(), proof.frame().pfn())
                && let TagInit::Ours(ours) = page.init_tags()
            {
                drop(self.back(ours));
            }
        }
        if let Ok(mut leaf) = self.table().lock_leaf(va, section, still) {
            leaf.narrow(from.max(leaf.from()), to.min(leaf.to()));
            let given = leaf.give_tags_to_all();
            self.counters().pages_tagged_around.add(given.into());
        }
    }

    /// A block of 2 MiB: its pages get their tags a part at a time, over several faults, and its entry
    /// access with the last of them (TAG-20). If one gets none, the block is split, and each page is a
    /// matter of its own.
    #[inline(never)]
    fn tag_block<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        section: &'g ReadSide<'g>,
    ) -> Result<Applied, Undone> {
        let va = input.va;
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
            let backed = match page.init_tags() {
                TagInit::Done(_) => continue,
                TagInit::Busy => Err(NoTags::Busy),
                TagInit::Ours(ours) => self.back(ours).map(drop),
            };
            match backed {
                Ok(()) => {}
                Err(NoTags::Busy) => return Ok(self.replay(va)),
                Err(NoTags::Full | NoTags::Never) => {
                    self.table()
                        .split_block(va, section)
                        .map_err(|_| Undone::NoMemory)?;
                    return Err(Undone::Retired);
                }
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

impl Prepared {
    fn of(frame: FreshFrame, reserved: Option<Reservation>) -> Self {
        match reserved {
            Some(reserved) => Self::Tagged(frame.into_tagged(reserved).into_user()),
            None => Self::Plain(frame.into_user()),
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
