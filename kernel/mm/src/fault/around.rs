//! Mapping pages of an object, and fault-around: resident neighbours of the page are mapped along,
//! in an aligned window, where nothing is mapped yet (UF-01, UF-02).

use arm64::addr::PAGE_SIZE;
use arm64::attrs::{Attrs, MemType, Prot};
use frame::{FramePins, UserFrame};
use pgtable::{Leaf, Machine, User};
use sync::planted::{self, Fault};

use super::facts::Size;
use super::look::{Area, Found, Sight};
use super::prepare::{still_the_objects, writes};
use super::{Applied, FaultInput, Undone};
use crate::policy::FOLIO_64K;
use crate::space::Space;
use crate::trace::Kind;

/// How a page is mapped.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// Its neighbours along with it.
    pub around: bool,
    /// Without the right to write, as a private page-to-be.
    pub private: bool,
    /// With the mark that was there.
    pub mark: bool,
}

impl<M: Machine> Space<M> {
    /// Maps the object's page, made first where that is planned.
    #[inline(never)]
    pub(super) fn map_object<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        sight: &Sight<'g>,
        supply: Option<Size>,
        how: How,
    ) -> Result<Applied, Undone> {
        let area = &found.area;
        let made = match supply {
            Some(size) => Some(self.supply(area, input.va, size)?),
            None => None,
        };
        let page = made.as_ref().or(sight.page.as_ref());
        let page = page.ok_or(Undone::Retired)?;
        let prot = match how.private || how.mark {
            true => area.prot.difference(Prot::WRITE),
            false => area.prot,
        };
        let attrs = area
            .attrs(prot)
            .with_young(true)
            .with_dirty(writes(input.access))
            .with_uffd_wp(how.mark && !planted::is(Fault::DropMarkOnMap));
        if area.tags {
            self.back_object_page(page);
        }
        let Some(leaf) = self.lock_planned(input.va, found, &sight.look) else {
            return Err(Undone::Retired);
        };
        if !still_the_objects(area, Some(page)) && !planted::is(Fault::MapDetached) {
            return Err(Undone::Retired);
        }
        let window = self.window(input, area, page, how, &leaf);
        match window {
            // Around a marker nothing is gained, and the marker itself would stay.
            Some(window) if sight.look.value.is_none() || planted::is(Fault::AroundMarker) => {
                Ok(self.map_window(input, area, &leaf, window, attrs))
            }
            _ => Ok(self.map_one(input.va, sight, &leaf, page.clone(), attrs)),
        }
    }

    /// What is mapped along: the aligned window of a read fault, or the folio that was written to;
    /// never beyond the area or the table.
    fn window(
        &self,
        input: FaultInput,
        area: &Area,
        page: &UserFrame,
        how: How,
        leaf: &Leaf<'_, User, M>,
    ) -> Option<(u64, u64)> {
        let folio = page.order() > 0 && !area.flags.intersects(crate::vma::VmaFlags::UFFD);
        let bytes = match (how.around, folio) {
            (true, true) => self.context().policy().fault_around().max(FOLIO_64K),
            (true, false) => self.context().policy().fault_around(),
            (false, true) => FOLIO_64K,
            (false, false) => return None,
        };
        let start = input.va & !(bytes - 1);
        let (low, high) = match planted::is(Fault::AroundBeyondArea) {
            true => (leaf.from(), leaf.to()),
            false => (area.start.max(leaf.from()), area.end.min(leaf.to())),
        };
        let (from, to) = (start.max(low), (start + bytes).min(high));
        (to - from > PAGE_SIZE).then_some((from, to))
    }

    fn map_window(
        &self,
        input: FaultInput,
        area: &Area,
        leaf: &Leaf<'_, User, M>,
        (from, to): (u64, u64),
        attrs: Attrs,
    ) -> Applied {
        let Some((object, index)) = &area.object else {
            return Applied::Already;
        };
        let at = input.va & !(PAGE_SIZE - 1);
        // The page at an address is as far from the fault's as the addresses are.
        let first = index.wrapping_sub((at - from) / PAGE_SIZE);
        let exec = area.prot.contains(Prot::EXEC);
        let around = leaf.install_around((from, to), attrs, at, |va, wanted, pins| {
            object.pin_group(first + (va - from) / PAGE_SIZE, wanted, pins);
            if exec {
                self.sync_all(pins);
            }
        });
        let mapped = around.mapped as u64;
        if mapped == 0 {
            return Applied::Already;
        }
        if mapped > 1 {
            self.counters().faults_around.bump();
            self.counters().pages_around.add(mapped - 1);
            self.tell(Kind::Around, from, mapped - 1);
        }
        Applied::Mapped(mapped * PAGE_SIZE)
    }

    #[cold]
    fn sync_all(&self, pins: &FramePins) {
        for page in (0..FramePins::PLACES).filter_map(|place| pins.pfn(place)) {
            self.machine().sync_instructions(page.start());
        }
    }

    fn map_one(
        &self,
        va: u64,
        sight: &Sight<'_>,
        leaf: &Leaf<'_, User, M>,
        page: UserFrame,
        attrs: Attrs,
    ) -> Applied {
        if attrs.prot.contains(Prot::EXEC) {
            self.machine().sync_instructions(page.pfn().start());
        }
        let mut gather = pgtable::Gather::new();
        let (is_new, was) = (sight.look.value.is_none(), sight.look.value);
        let page = match attrs.mem {
            MemType::Tagged => page.tag_backed(),
            _ => Err(page),
        };
        let put = match (is_new, page) {
            (true, Ok(page)) => leaf.install(va, page, attrs).is_ok(),
            (true, Err(page)) => leaf.install(va, page, attrs).is_ok(),
            (false, Ok(page)) => leaf.replace(va, was, page, attrs, &mut gather).is_ok(),
            (false, Err(page)) => leaf.replace(va, was, page, attrs, &mut gather).is_ok(),
        };
        self.release(&mut gather);
        match put {
            true => Applied::Mapped(PAGE_SIZE),
            false => Applied::Already,
        }
    }
}
