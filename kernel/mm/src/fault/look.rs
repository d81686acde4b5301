//! Gathering the facts: the area under the map's lock, then the tables and the object without one.

use arm64::addr::{PAGE_SIZE, Pfn};
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::pte::{Entry, Invalid};
use frame::UserFrame;
use frame::slab::Ref;
use pgtable::{Look, Machine, ReadSide};
use sync::planted::{self, Fault};

use super::facts::{
    Access, AreaFacts, AreaKind, Content, EntryFacts, FaultFacts, Owner, Size, UffdFacts,
};
use super::plan::Refusal;
use super::{FaultInput, FaultOutcome, Mode};
use crate::layout::{STACK_GAP, STACK_LIMIT, STACK_TOP};
use crate::object::MemObject;
use crate::policy::{FOLIO_2M, FOLIO_64K};
use crate::space::{Map, Space};
use crate::trace::Kind;
use crate::vma::{Backing, Vma, VmaFlags, shows_tags};

/// Pages of the smaller folio.
const FOLIO_PAGES: usize = (FOLIO_64K / PAGE_SIZE) as usize;

/// The area, as it was under the map's lock.
pub(super) struct Found {
    pub area: Area,
    /// What [`Space::epochs`] said.
    epoch: u64,
}

/// What a fault needs to know of its area.
pub(super) struct Area {
    pub start: u64,
    pub end: u64,
    pub prot: Prot,
    pub flags: VmaFlags,
    /// Whether its mappings show tags.
    pub tags: bool,
    /// The object, and the page of it at the address.
    pub object: Option<(Ref<MemObject>, u64)>,
    /// The page of registers at the address.
    pub device: Option<Pfn>,
}

impl Area {
    /// `ends`: what of the area a folio or a window may take.
    #[inline(always)]
    fn of(area: &Vma, (start, end): (u64, u64), va: u64) -> Self {
        let (mut object, mut device) = (None, None);
        match &area.backing {
            Backing::Anon(_) => {}
            Backing::Object {
                object: found,
                offset,
                ..
            } => object = Some((found.clone(), area.page_index(*offset, va))),
            Backing::Device { base } => device = Some(Pfn::new(area.page_index(*base, va))),
        }
        Self {
            start,
            end,
            prot: area.prot,
            flags: area.flags,
            tags: area.flags.contains(VmaFlags::MTE) && shows_tags(area.prot, area.flags),
            object,
            device,
        }
    }

    /// What the decision depends on.
    #[inline(always)]
    fn facts(&self, kind: AreaKind) -> AreaFacts {
        let mut uffd = UffdFacts::default();
        if self.flags.intersects(VmaFlags::UFFD) {
            uffd.missing = self.flags.contains(VmaFlags::UFFD_MISSING);
            uffd.wp = self.flags.contains(VmaFlags::UFFD_WP);
            uffd.minor = self.flags.contains(VmaFlags::UFFD_MINOR);
        }
        AreaFacts {
            prot: self.prot,
            kind,
            uffd,
        }
    }

    /// How a page of the area is mapped that has these rights: with its tags, if the area shows any.
    #[inline(always)]
    pub fn attrs(&self, prot: Prot) -> Attrs {
        match self.tags {
            false => Attrs::user(prot),
            true => Attrs::user(prot).with_mem(MemType::Tagged),
        }
    }

    /// What entries get that are not known to map a page of the program's own.
    pub fn entry_prot(&self) -> Prot {
        match self.object.is_none() || self.flags.contains(VmaFlags::SHARED) {
            true => self.prot,
            false => self.prot.difference(Prot::WRITE),
        }
    }

    /// Whether marks of the area's pages are watched.
    pub fn watches_writes(&self) -> bool {
        self.flags.contains(VmaFlags::UFFD_WP)
    }

    #[inline(always)]
    fn holds_block(&self, va: u64, size: u64) -> bool {
        let start = va & !(size - 1);
        self.start <= start && start + size <= self.end
    }
}

impl Found {
    /// Whether the smaller folio around `va` lies in the area.
    pub fn folio_fits(&self, va: u64) -> bool {
        self.area.holds_block(va, FOLIO_64K)
    }

    /// Whether the area is anonymous memory.
    #[inline(always)]
    pub fn is_anon(&self) -> bool {
        self.area.object.is_none() && self.area.device.is_none()
    }
}

/// What was seen without a lock.
pub(super) struct Sight<'g> {
    /// The entry, and the table it is in.
    pub look: Look<'g>,
    /// The object's page, where it was asked for and is there.
    pub page: Option<UserFrame>,
    /// Whether the entry carries a mark.
    pub marked: bool,
}

impl<'g> Sight<'g> {
    /// What the entry alone says.
    #[inline(always)]
    pub fn new(look: Look<'g>) -> Self {
        Self {
            look,
            page: None,
            marked: false,
        }
    }
}

impl<M: Machine> Space<M> {
    /// Whether the area that `found` says is current: asked under the lock of a table (D5).
    #[inline(always)]
    pub(super) fn is_current(&self, found: &Found, va: u64) -> bool {
        self.epochs().at(va) == found.epoch || planted::is(Fault::SkipCurrent)
    }

    /// Does `act` with the area of the fault; a stack below which it falls is grown first, and an
    /// area that is written for the first time gets its anonymous object. What is found is made in
    /// its place and moves nowhere.
    ///
    /// # Errors
    /// How the fault ends without an area.
    #[inline(always)]
    pub(super) fn with_found<R>(
        &self,
        input: FaultInput,
        act: impl FnOnce(&Found) -> R,
    ) -> Result<R, FaultOutcome> {
        let mut map = self.map().lock();
        if map.owned && map.is_busy(input.va) {
            drop(map);
            return Err(self.busy(input));
        }
        let epoch = self.epochs().at(input.va);
        let mut first_write = false;
        let found = match map.areas.find(input.va) {
            Some(area) => {
                first_write = input.access == Access::Write
                    && area.backing.origin().id == 0
                    && !area.is_shared()
                    && area.prot.contains(Prot::WRITE);
                let ends = match map.owned {
                    false => (area.start, area.end),
                    true => stay_clear((area.start, area.end), input.va, map.busy),
                };
                let area = Area::of(area, ends, input.va);
                Found { area, epoch }
            }
            None => {
                let area = self.find_stack(&mut map, input)?;
                Found { area, epoch }
            }
        };
        if first_write {
            map.name_origin(input.va);
        }
        drop(map);
        Ok(act(&found))
    }

    #[cold]
    fn busy(&self, input: FaultInput) -> FaultOutcome {
        self.context().asks().forget();
        self.counters().faults_parked.bump();
        self.tell_fault(Kind::FaultParked, input, 0);
        FaultOutcome::Busy
    }

    #[cold]
    #[inline(never)]
    fn find_stack(&self, map: &mut Map, input: FaultInput) -> Result<Area, FaultOutcome> {
        let Some(start) = self.stack_above(map, input.va) else {
            return Err(self.refuse(Refusal::NoArea, input));
        };
        // What an owner of the map is about to publish below the stack is not in it yet.
        if map.owned {
            return Err(self.busy(input));
        }
        map.areas.grow_down(start, input.va & !(PAGE_SIZE - 1));
        self.counters().stack_growths.bump();
        match map.areas.find(input.va) {
            Some(area) => Ok(Area::of(area, (area.start, area.end), input.va)),
            None => Err(self.refuse(Refusal::NoArea, input)),
        }
    }

    /// The start of the area above `va`, if that may grow down to it.
    fn stack_above(&self, map: &Map, va: u64) -> Option<u64> {
        if va >= map.task_size {
            return None;
        }
        let (before, above) = map.areas.find_above(va);
        let area = above?;
        let start = va & !(PAGE_SIZE - 1);
        let reach = match area.flags.contains(VmaFlags::STACK) {
            true => STACK_TOP,
            false => area.end,
        };
        let grows = area.flags.contains(VmaFlags::GROWSDOWN) && reach - start <= STACK_LIMIT;
        let apart = before.is_none_or(|below| {
            let near = below.prot.is_empty() || below.flags.contains(VmaFlags::GROWSDOWN);
            near && below.end <= start || below.end + STACK_GAP <= start
        });
        (grows && apart).then_some(area.start)
    }

    /// The facts of a fault where nothing is mapped, in anonymous memory.
    #[inline(always)]
    pub(super) fn facts_of_empty(
        &self,
        input: FaultInput,
        found: &Found,
        look: &Look<'_>,
    ) -> FaultFacts {
        FaultFacts {
            area: found.area.facts(AreaKind::Anon),
            entry: EntryFacts::None,
            access: input.access,
            size: self.size_for(input, &found.area, look),
            around: false,
            kernel: input.mode != Mode::User,
        }
    }

    /// The facts of a fault, whatever there is.
    pub(super) fn facts(
        &self,
        input: FaultInput,
        found: &Found,
        sight: &mut Sight<'_>,
        section: &ReadSide<'_>,
    ) -> FaultFacts {
        let value = sight.look.value;
        if value.is_leaf(sight.look.level()) {
            return self.facts_of_page(input, found, sight, section);
        }
        let mut facts = match found.is_anon() {
            true => self.facts_of_empty(input, found, &sight.look),
            false => self.facts_of_absent(input, found, sight),
        };
        if !value.is_none() {
            facts.entry = self.facts_of_invalid(sight);
        }
        facts
    }

    /// The largest folio that may be tried for.
    #[inline(always)]
    fn size_for(&self, input: FaultInput, area: &Area, look: &Look<'_>) -> Size {
        if !look.value.is_none() || self.small_pages_only() {
            return Size::Page;
        }
        let policy = self.context().policy();
        let (folio, block) = match &area.object {
            None => policy.anon_sizes(area.flags),
            Some(_) => policy.shmem_sizes(area.flags),
        };
        let va = input.va;
        if block
            && input.mode != Mode::Kernel
            && area.object.is_none()
            && area.holds_block(va, FOLIO_2M)
            && look.has_room_for_block()
        {
            return Size::Block;
        }
        let fits = folio
            && area.holds_block(va, FOLIO_64K)
            && look.is_empty_around(va, FOLIO_PAGES)
            && area.object.as_ref().is_none_or(|(object, index)| {
                // Blocks of the space are folios of the object only where their alignments agree.
                let into = va / PAGE_SIZE % FOLIO_PAGES as u64;
                index % FOLIO_PAGES as u64 == into
                    && object.is_absent_block(index - into, FOLIO_PAGES as u64)
            });
        if fits { Size::Folio } else { Size::Page }
    }

    /// The facts of a fault where nothing is mapped, in memory of an object.
    #[inline(always)]
    pub(super) fn facts_of_absent(
        &self,
        input: FaultInput,
        found: &Found,
        sight: &mut Sight<'_>,
    ) -> FaultFacts {
        let area = &found.area;
        if area.device.is_some() {
            return self.facts_of_device(input, area);
        }
        let content = match &area.object {
            Some((object, index)) => match content(object, *index, sight) {
                Content::Absent if object.is_paged() => self.content_of_pager(object, *index),
                content => content,
            },
            None => Content::Absent,
        };
        let kind = match area.flags.contains(VmaFlags::SHARED) {
            true => AreaKind::Shared(content),
            false => AreaKind::Private(content),
        };
        FaultFacts {
            area: area.facts(kind),
            entry: EntryFacts::None,
            access: input.access,
            // It says what is to be made.
            size: match content {
                Content::Absent => self.size_for(input, area, &sight.look),
                _ => Size::Page,
            },
            around: self.context().policy().maps_around(area.flags),
            kernel: input.mode != Mode::User,
        }
    }

    /// The facts of a fault where registers of a device are not mapped yet.
    #[cold]
    fn facts_of_device(&self, input: FaultInput, area: &Area) -> FaultFacts {
        FaultFacts {
            area: area.facts(AreaKind::Device),
            entry: EntryFacts::None,
            access: input.access,
            size: Size::Page,
            around: false,
            kernel: input.mode != Mode::User,
        }
    }

    #[cold]
    fn content_of_pager(&self, object: &MemObject, index: u64) -> Content {
        match self.context().asks().is_refused(object.number(), index) {
            true => Content::Refused,
            false => Content::Paged,
        }
    }

    /// The facts of a fault where a page is mapped.
    #[inline(always)]
    pub(super) fn facts_of_page(
        &self,
        input: FaultInput,
        found: &Found,
        sight: &mut Sight<'_>,
        section: &ReadSide<'_>,
    ) -> FaultFacts {
        let (area, shared) = (&found.area, found.area.flags.contains(VmaFlags::SHARED));
        let kind = match (&area.object, shared) {
            (None, _) if area.device.is_some() => AreaKind::Device,
            (None, _) => AreaKind::Anon,
            (Some(_), true) => AreaKind::Shared(Content::Resident),
            (Some(_), false) => AreaKind::Private(Content::Resident),
        };
        FaultFacts {
            area: area.facts(kind),
            entry: self.page_facts(input, sight, section),
            access: input.access,
            size: Size::Page,
            around: false,
            kernel: input.mode != Mode::User,
        }
    }

    #[inline(always)]
    fn page_facts(
        &self,
        input: FaultInput,
        sight: &mut Sight<'_>,
        section: &ReadSide<'_>,
    ) -> EntryFacts {
        let value = sight.look.value;
        let prot = value.prot();
        let upgrade = input.access == Access::Write && !prot.contains(Prot::WRITE);
        let owner = match upgrade {
            false => Owner::Own,
            true => self.owner_of(input.va, sight, section),
        };
        sight.marked = value.uffd_wp();
        EntryFacts::Page {
            prot,
            young: value.young(),
            dirty: value.dirty(),
            wp: sight.marked,
            owner,
        }
    }

    /// What an entry says that is neither empty nor valid.
    fn facts_of_invalid(&self, sight: &mut Sight<'_>) -> EntryFacts {
        let value = sight.look.value;
        match value.decode(self.machine().format(), sight.look.level()) {
            Entry::PresentInvalid {
                reason: Invalid::ProtNone,
                ..
            } => {
                sight.marked = value.uffd_wp();
                EntryFacts::ProtNone
            }
            Entry::PresentInvalid {
                reason: Invalid::NoTagStorage,
                ..
            } => {
                sight.marked = value.uffd_wp();
                // A page that somebody holds cannot move to where there is storage (TAG-25).
                sight.page = None;
                EntryFacts::NoTags
            }
            Entry::Marker(bits) => {
                sight.marked = bits.uffd_wp;
                EntryFacts::Marker { wp: !bits.poison }
            }
            _ => EntryFacts::Foreign,
        }
    }

    /// Whose page the entry maps; it is pinned for the copy that may follow.
    #[inline(always)]
    fn owner_of(&self, va: u64, sight: &mut Sight<'_>, section: &ReadSide<'_>) -> Owner {
        match sight.look.value.special() {
            true => Owner::Zero,
            false => self.owner_of_counted(va, sight, section),
        }
    }

    #[inline(never)]
    fn owner_of_counted(&self, va: u64, sight: &mut Sight<'_>, section: &ReadSide<'_>) -> Owner {
        let Ok(page) = self.table().pin_mapped(va, section) else {
            // It is being changed: what is planned from this is not found under the lock.
            return Owner::Lent;
        };
        let owner = match page.owner() {
            // One reference is the entry's, one ours. Pages of a folio have one count together; they
            // are nobody else's as long as no space shares its pages with another.
            0 if page.order() == 0 && page.references() > 2 && !planted::is(Fault::ReuseLent) => {
                Owner::Lent
            }
            0 => Owner::Own,
            _ => Owner::Object,
        };
        sight.page = Some(page);
        owner
    }
}

/// Leaves what a change is about out of an area: a folio or a window around `va`, which is not in
/// it, would map pages where the change has been already.
#[cold]
fn stay_clear(ends: (u64, u64), va: u64, busy: [(u64, u64); 2]) -> (u64, u64) {
    let mut clear = ends;
    for (start, end) in busy.into_iter().filter(|(start, end)| start < end) {
        match end <= va {
            true => clear.0 = clear.0.max(end),
            false => clear.1 = clear.1.min(start),
        }
    }
    clear
}

/// What the object has at `index`.
#[inline(always)]
fn content(object: &MemObject, index: u64, sight: &mut Sight<'_>) -> Content {
    if index >= object.pages() {
        return Content::BeyondEnd;
    }
    sight.page = object.resident(index);
    match sight.page {
        Some(_) => Content::Resident,
        None => Content::Absent,
    }
}
