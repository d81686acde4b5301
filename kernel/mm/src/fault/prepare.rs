//! Plans that map a page made for them: prepared with no lock held, installed under the lock.

use arm64::addr::PAGE_SIZE;
use arm64::attrs::{Attrs, Prot};
use arrayvec::ArrayVec;
use frame::slab::Ref;
use frame::{Folio, FreshFrame, Page, UserFrame};
use pgtable::{Gather, Leaf, Look, Machine, ReadSide, User};
use sync::planted::{self, Fault};

use super::facts::{Access, Size};
use super::look::{Area, Found, Sight};
use super::plan::{Plan, plan};
use super::tagged::{self, Prepared};
use super::{Applied, FaultInput, Undone};
use crate::object::{MemObject, SupplyError};
use crate::policy::FOLIO_64K;
use crate::space::Space;
use crate::trace::Kind;

/// Pages of the smaller folio, and log2 of them.
pub(super) const FOLIO_PAGES: usize = (FOLIO_64K / PAGE_SIZE) as usize;
pub(super) const FOLIO_ORDER: u8 = 4;

impl<M: Machine> Space<M> {
    /// Maps a fresh page of zeros.
    #[inline(always)]
    pub(super) fn fill_page<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
    ) -> Result<Applied, Undone> {
        if found.area.tags {
            return self.fill_tagged_page(input, found, look);
        }
        let prot = found.area.prot;
        let Ok(frame) = self.fresh_frame(true) else {
            return Err(Undone::NoMemory);
        };
        let attrs = Attrs::user(prot).with_young(true).with_dirty(true);
        let Some(leaf) = self.lock_planned(input.va, found, look) else {
            return Err(Undone::Retired);
        };
        Ok(match leaf.install(input.va, frame.into_user(), attrs) {
            Ok(()) => Applied::Mapped(PAGE_SIZE),
            Err(_ours) => Applied::Already,
        })
    }

    /// Maps fresh pages of zeros ahead of their use, from the page of the fault on as far as there is
    /// nothing yet, at most a folio's many and not beyond `end`; how many. 0: it takes a fault.
    ///
    /// # Errors
    /// [`Undone::Retired`] and [`Undone::NoMemory`]: nothing was mapped.
    pub(super) fn fill_run<'g>(
        &'g self,
        input: FaultInput,
        end: u64,
        found: &Found,
        section: &ReadSide<'g>,
    ) -> Result<usize, Undone> {
        let look = self.table().look(input.va, section);
        if !found.is_anon() || found.area.tags || !look.value.is_none() || !look.has_table() {
            return Ok(0);
        }
        match plan(&self.facts_of_empty(input, found, &look)) {
            Plan::Fill(Size::Page) => {}
            Plan::Fill(Size::Folio) => return self.fill_rest(input, found, &look, section),
            _ => return Ok(0),
        }
        let wanted = (end.min(found.area.end) - input.va).div_ceil(PAGE_SIZE);
        let count = look.empty_from(input.va, FOLIO_PAGES.min(wanted as usize));
        let mut pages = ArrayVec::<FreshFrame, FOLIO_PAGES>::new();
        for _ in 0..count {
            match self.fresh_frame(true) {
                Ok(frame) => pages.push(frame),
                // Fewer are mapped; without any there is no memory.
                Err(_) if pages.is_empty() => return Err(Undone::NoMemory),
                Err(_) => break,
            }
        }
        let attrs = Attrs::user(found.area.prot)
            .with_young(true)
            .with_dirty(true);
        let Some(leaf) = self.lock_planned(input.va, found, &look) else {
            return Err(Undone::Retired);
        };
        let mut pages = pages.into_iter();
        let next = || pages.next().map(FreshFrame::into_user);
        let mapped = leaf.install_pages(input.va, attrs, next);
        drop(leaf);
        self.counters().faults_kernel.add(mapped as u64);
        self.counters().faults_anon.add(mapped as u64);
        self.tell_fault(Kind::FaultAnon, input, mapped as u64 * PAGE_SIZE);
        Ok(mapped)
    }

    /// [`Self::fill_run`] where a folio is to be had: the pages of its block from that of the fault on.
    #[inline(never)]
    fn fill_rest<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
        section: &ReadSide<'g>,
    ) -> Result<usize, Undone> {
        let applied = self.fill_folio(input, found, look, section)?;
        if matches!(applied, Applied::Already) {
            return Ok(0);
        }
        self.counters().faults_kernel.bump();
        self.account(Plan::Fill(Size::Folio), applied, input);
        let into = input.va / PAGE_SIZE % FOLIO_PAGES as u64;
        Ok(FOLIO_PAGES - into as usize)
    }

    /// Maps a fresh folio of zeros over the whole block around the address.
    #[inline(always)]
    pub(super) fn fill_folio<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
        section: &ReadSide<'g>,
    ) -> Result<Applied, Undone> {
        if found.area.tags {
            return self.fill_tagged_folio(input, found, look, section);
        }
        let frames = self.machine().frames();
        let folio = frames
            .alloc_fresh(FOLIO_ORDER, true)
            .map_err(|_| Undone::NoFolio)?;
        self.map_folio(input, found, look, folio, section)
    }

    /// Maps a folio over the whole block around the address, where nothing is.
    #[inline(always)]
    pub(super) fn map_folio<'g, F: Folio>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
        folio: F,
        section: &ReadSide<'g>,
    ) -> Result<Applied, Undone> {
        let attrs = found.area.attrs(found.area.prot);
        let attrs = attrs.with_young(true).with_dirty(true);
        let Some(leaf) = self.lock_planned(input.va, found, look) else {
            return Err(Undone::Retired);
        };
        let start = input.va & !(FOLIO_64K - 1);
        let touched = self.machine().records_access().then_some(input.va);
        match leaf.install_folio(start, folio, FOLIO_PAGES, attrs, touched) {
            Ok(()) => {
                drop(leaf);
                self.counters().faults_folio.bump();
                if self.has_missed() {
                    self.reform_one(section);
                }
                Ok(Applied::Mapped(FOLIO_64K))
            }
            // Something is there by now; perhaps not at the address itself.
            Err(_ours) if leaf.get(input.va).is_none() => Err(Undone::NoFolio),
            Err(_ours) => Ok(Applied::Already),
        }
    }

    /// Maps the page of zeros where nothing is.
    #[inline(always)]
    pub(super) fn map_zero<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
    ) -> Result<Applied, Undone> {
        let attrs = found.area.attrs(found.area.prot.difference(Prot::WRITE));
        let attrs = attrs.with_young(true);
        let Some(leaf) = self.lock_planned(input.va, found, look) else {
            return Err(Undone::Retired);
        };
        let zero = self.context().zero_page();
        Ok(match leaf.install_special(input.va, zero, attrs) {
            Ok(()) => Applied::Mapped(PAGE_SIZE),
            Err(_) => Applied::Already,
        })
    }

    /// Maps the page of registers where nothing is.
    #[inline(never)]
    pub(super) fn map_device<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
    ) -> Result<Applied, Undone> {
        let pfn = found.area.device.ok_or(Undone::Retired)?;
        let Some(leaf) = self.lock_planned(input.va, found, look) else {
            return Err(Undone::Retired);
        };
        Ok(match leaf.install_device(input.va, pfn, found.area.prot) {
            Ok(()) => Applied::Mapped(PAGE_SIZE),
            Err(_) => Applied::Already,
        })
    }

    /// Maps a page of zeros of its own in the place of a marker: it will be written next.
    #[inline(never)]
    pub(super) fn fill_marked<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        sight: &Sight<'g>,
        mark: bool,
    ) -> Result<Applied, Undone> {
        let attrs = found.area.attrs(found.area.prot.difference(Prot::WRITE));
        let attrs = attrs.with_young(true).with_uffd_wp(mark);
        let page = self.zeroed(found)?;
        self.install(input.va, page, attrs, found, sight)
    }

    /// Maps a copy of the page that is mapped: the zero page, or one that somebody else has too.
    #[inline(always)]
    pub(super) fn copy_mapped<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        sight: &Sight<'g>,
        section: &ReadSide<'g>,
    ) -> Result<Applied, Undone> {
        match sight.look.value.special() {
            true => self.copy_zero(input, found, &sight.look),
            false => self.copy_counted(input, found, sight, section),
        }
    }

    #[inline(always)]
    fn copy_zero<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
    ) -> Result<Applied, Undone> {
        let prot = found.area.prot;
        let page = self.zeroed(found)?;
        let attrs = found.area.attrs(prot).with_young(true).with_dirty(true);
        let Some(leaf) = self.lock_planned(input.va, found, look) else {
            return Err(Undone::Retired);
        };
        let put = match page {
            Prepared::Plain(page) => leaf
                .replace_special(input.va, look.value, page, attrs)
                .is_ok(),
            Prepared::Tagged(page) => leaf
                .replace_special(input.va, look.value, page, attrs)
                .is_ok(),
        };
        Ok(match put {
            true => Applied::Mapped(PAGE_SIZE),
            false => Applied::Already,
        })
    }

    /// A page of zeros of the program's own.
    #[inline(always)]
    fn zeroed(&self, found: &Found) -> Result<Prepared, Undone> {
        if found.area.tags {
            return self.fresh_tagged(found.area.prot);
        }
        let Ok(frame) = self.fresh_frame(true) else {
            return Err(Undone::NoMemory);
        };
        self.make_executable(found.area.prot, &frame);
        Ok(Prepared::Plain(frame.into_user()))
    }

    #[inline(never)]
    fn copy_counted<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        sight: &Sight<'g>,
        section: &ReadSide<'g>,
    ) -> Result<Applied, Undone> {
        if self.is_block(sight) {
            self.table()
                .split_block(input.va, section)
                .map_err(|_| Undone::NoMemory)?;
            return Err(Undone::Retired);
        }
        let page = sight.page.as_ref().ok_or(Undone::Retired)?;
        let copy = self.copy_of(&found.area, page)?;
        let attrs = found.area.attrs(found.area.prot);
        let attrs = attrs.with_young(true).with_dirty(true);
        self.install(input.va, copy, attrs, found, sight)
    }

    /// Maps a copy of the object's page, which has to be the object's still.
    pub(super) fn copy_object<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        sight: &Sight<'g>,
    ) -> Result<Applied, Undone> {
        let made;
        let page = match &sight.page {
            Some(page) => page,
            None => {
                made = self.supply(&found.area, input.va, Size::Page)?;
                &made
            }
        };
        let area = &found.area;
        let copy = self.copy_of(area, page)?;
        let attrs = area.attrs(area.prot).with_young(true).with_dirty(true);
        let Some(leaf) = self.lock_planned(input.va, found, &sight.look) else {
            return Err(Undone::Retired);
        };
        let over_marker = !sight.look.value.is_none() && planted::is(Fault::CopyOverMarker);
        let unchecked = over_marker || planted::is(Fault::CopyDetached);
        if !still_the_objects(area, Some(page)) && !unchecked {
            return Err(Undone::Retired);
        }
        Ok(self.put(&leaf, input.va, copy, attrs, sight))
    }

    /// A copy of `page`.
    fn copy_of(&self, area: &Area, page: &UserFrame) -> Result<Prepared, Undone> {
        if area.tags {
            return self.copy_tagged(page, area.prot);
        }
        let Ok(mut frame) = self.fresh_frame(false) else {
            return Err(Undone::NoMemory);
        };
        frame.copy_page(0, page);
        self.make_executable(area.prot, &frame);
        Ok(Prepared::Plain(frame.into_user()))
    }

    /// What was written into `frame` is what is executed, where that is allowed.
    #[inline(always)]
    pub(super) fn make_executable(&self, prot: Prot, frame: &FreshFrame) {
        if prot.contains(Prot::EXEC) {
            self.machine().sync_instructions(frame.pfn().start());
        }
    }

    /// Puts `frame` where the entry was that the fault was planned from.
    #[inline(always)]
    pub(super) fn install<'g>(
        &'g self,
        va: u64,
        page: Prepared,
        attrs: Attrs,
        found: &Found,
        sight: &Sight<'g>,
    ) -> Result<Applied, Undone> {
        let Some(leaf) = self.lock_planned(va, found, &sight.look) else {
            return Err(Undone::Retired);
        };
        Ok(self.put(&leaf, va, page, attrs, sight))
    }

    /// Puts `frame` under the lock where the entry is that was seen, if it is still (D5, check 3).
    #[inline(always)]
    fn put(
        &self,
        leaf: &Leaf<'_, User, M>,
        va: u64,
        page: Prepared,
        attrs: Attrs,
        sight: &Sight<'_>,
    ) -> Applied {
        let put = match (sight.look.value.is_none(), page) {
            (true, page) => tagged::install(leaf, va, page, attrs),
            (false, Prepared::Plain(page)) => self.replace(leaf, va, page, attrs, sight).is_ok(),
            (false, Prepared::Tagged(page)) => self.replace(leaf, va, page, attrs, sight).is_ok(),
        };
        match put {
            true => Applied::Mapped(PAGE_SIZE),
            false => Applied::Already,
        }
    }

    /// Apart from the hot path for the size of the gather.
    #[inline(never)]
    fn replace<F: Page>(
        &self,
        leaf: &Leaf<'_, User, M>,
        va: u64,
        frame: F,
        attrs: Attrs,
        sight: &Sight<'_>,
    ) -> Result<(), F> {
        let mut gather = Gather::new();
        let replaced = leaf.replace(va, sight.look.value, frame, attrs, &mut gather);
        self.release(&mut gather);
        replaced
    }

    /// Locks the leaf table, after which the area is known to be current (D5, checks 1 and 2).
    #[inline(always)]
    pub(super) fn lock_planned<'g>(
        &'g self,
        va: u64,
        found: &Found,
        look: &Look<'g>,
    ) -> Option<Leaf<'g, User, M>> {
        let still = || self.is_current(found, va);
        self.table().lock_seen(va, look, still)
    }

    /// A cleared frame for a page of `object`.
    fn frame_for(&self, object: &Ref<MemObject>, index: u64) -> Result<FreshFrame, Undone> {
        let context = self.context();
        let first = context.frame_for(object, index);
        first
            .or_else(|_| self.fresh_frame(true))
            .map_err(|_| Undone::NoMemory)
    }

    /// Makes the object's page at `va`, or a folio around it.
    pub(super) fn supply(&self, area: &Area, va: u64, size: Size) -> Result<UserFrame, Undone> {
        let (object, index) = area.object.as_ref().ok_or(Undone::Retired)?;
        let supplied = match size {
            Size::Page => {
                let mut page = self.frame_for(object, *index)?;
                object.fill(*index, page.bytes_mut());
                object.supply(*index, page)
            }
            Size::Folio | Size::Block => {
                let frames = self.machine().frames();
                let folio = frames.alloc_fresh(FOLIO_ORDER, true);
                let folio = folio.map_err(|_| Undone::NoFolio)?;
                let into = va / PAGE_SIZE % FOLIO_PAGES as u64;
                let first = object.supply_folio(index - into, folio);
                first.map(|first| first.page(into))
            }
        };
        match supplied {
            Ok(page) => {
                let bytes = match size {
                    Size::Page => PAGE_SIZE,
                    Size::Folio | Size::Block => FOLIO_64K,
                };
                self.tell(Kind::ObjectFill, *index * PAGE_SIZE, bytes);
                Ok(page)
            }
            // A folio does not fit beside what is there by now; a page may.
            Err(SupplyError::Raced | SupplyError::BeyondEnd) if size != Size::Page => {
                Err(Undone::NoFolio)
            }
            Err(SupplyError::Raced | SupplyError::BeyondEnd) => Err(Undone::Retired),
            Err(SupplyError::NoMemory) => Err(Undone::NoMemory),
        }
    }

    pub(super) fn is_block(&self, sight: &Sight<'_>) -> bool {
        sight.look.level() != arm64::geometry::Level::L3
    }
}

/// D5, check 4, under the lock of the table.
pub(super) fn still_the_objects(area: &Area, page: Option<&UserFrame>) -> bool {
    match (&area.object, page) {
        (Some((object, index)), Some(page)) => object.holds(*index, page.pfn()),
        _ => true,
    }
}

/// Whether an access writes.
pub(super) fn writes(access: Access) -> bool {
    access == Access::Write
}
