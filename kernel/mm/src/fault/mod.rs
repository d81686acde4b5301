//! The fault path: facts, plan, prepare, apply (DESIGN §4).
//!
//! In this form a change of the map owns the whole space: a fault is turned away (parked by the
//! caller) while one is under way. A change that begins between the plan of a fault and its
//! application retires the plan: the application finds that out under the lock of the table that it
//! links or installs in, which the change visits afterwards (D5).

pub mod facts;
pub mod plan;

use arm64::addr::{PAGE_SIZE, VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use arm64::pte::{Entry, Invalid, Pte};
use frame::FreshFrame;
use pgtable::{
    Accessed, Gather, Invalidation, LockError, Look, Machine, ReadSide, TableError, Visit,
};

use crate::layout::{STACK_GAP, STACK_LIMIT, STACK_TOP};
use crate::object::ImageObject;
use crate::space::{Map, Space};
use crate::stats::Counter;
use crate::trace::Kind;
use crate::vma::{Backing, Vma, VmaFlags};
use facts::{Access, AreaFacts, Content, EntryFacts, FaultFacts};
use plan::{Plan, Refusal, plan};

/// A fault as it arrives.
#[derive(Clone, Copy, Debug)]
pub struct FaultInput {
    /// The address touched, without a tag.
    pub va: u64,
    /// What was wanted.
    pub access: Access,
    /// Whether the kernel wanted it on the program's behalf.
    pub kernel: bool,
}

/// `si_code` of a refused access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegvCode {
    /// Nothing mapped there.
    MapErr,
    /// No right.
    AccErr,
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOutcome {
    /// Resolved: the access can be tried again.
    Done,
    /// A change owns the map: park until it is over, then try again.
    Busy,
    /// SIGSEGV, or EFAULT for the kernel.
    Segv {
        /// Which kind.
        code: SegvCode,
    },
    /// SIGBUS, or EFAULT for the kernel.
    Bus,
    /// No memory, even after what could be freed was freed.
    OutOfMemory,
}

/// A walk as the first-fault report shows it: level, index, entry.
pub type Trace = [Option<(Level, usize, Pte)>; 5];

/// The first fault of a space, kept for people to look at.
#[derive(Clone, Copy, Debug)]
pub struct FirstFault {
    /// The address.
    pub va: u64,
    /// The access.
    pub access: Access,
    /// The walk before.
    pub before: Trace,
    /// The walk afterwards.
    pub after: Trace,
    /// Instructions (or ticks) from entering the fault path to its end.
    pub cost: u64,
}

/// Pages of the folio that a fault tries for, and bytes.
const BLOCK_PAGES: usize = 16;
const BLOCK_ORDER: u8 = 4;
const BLOCK_SIZE: u64 = PAGE_SIZE * BLOCK_PAGES as u64;

/// Why a plan was not carried out.
enum Undone {
    /// The map changed: look again.
    Retired,
    /// There is no folio, or no room for one any more: plan again without.
    NoFolio,
}

/// What the first half of the fault learned under the map's lock.
struct Found {
    area: AreaFacts,
    /// Where the page's bytes come from, for an area over an image.
    image: Option<(ImageObject, u64)>,
    /// The aligned block around the address lies in the area, which is anonymous.
    block: bool,
    /// What [`Space::changes`] was.
    changes: u64,
}

impl Found {
    #[inline(always)]
    fn at(area: &Vma, va: u64, changes: u64) -> Self {
        let prot = area.prot;
        let block_start = va & !(BLOCK_SIZE - 1);
        let Backing::Image { object, offset } = area.backing else {
            let content = Content::Zero;
            return Self {
                area: AreaFacts::Area { prot, content },
                image: None,
                block: area.start <= block_start && block_start + BLOCK_SIZE <= area.end,
                changes,
            };
        };
        let offset = offset + (va & !(PAGE_SIZE - 1)) - area.start;
        let content = match object.covers(offset) {
            true => Content::Image,
            false => Content::BeyondEnd,
        };
        Self {
            area: AreaFacts::Area { prot, content },
            image: Some((object, offset)),
            block: false,
            changes,
        }
    }

    fn prot(&self) -> Option<Prot> {
        match self.area {
            AreaFacts::Area { prot, .. } => Some(prot),
            AreaFacts::Hole => None,
        }
    }
}

impl<M: Machine> Space<M> {
    /// Resolves a fault or says why not. Bounded: one page.
    pub fn fault(&self, input: FaultInput) -> FaultOutcome {
        match self.first_fault_is_open() && !input.kernel {
            false => self.resolve(input),
            true => self.fault_with_report(input),
        }
    }

    fn resolve(&self, input: FaultInput) -> FaultOutcome {
        if input.kernel {
            self.counters().faults_kernel.bump();
        }
        let stay = ();
        let section = self.machine().read_side(&stay);
        // A change may begin between the look and the application; the look is then repeated.
        // It cannot go on for ever: each repetition is a change completed by somebody else.
        loop {
            let found = {
                let mut map = self.map().lock();
                if map.owned {
                    self.counters().faults_parked.bump();
                    self.tell_fault(Kind::FaultParked, input, 0);
                    return FaultOutcome::Busy;
                }
                self.find(&mut map, input)
            };
            if let Some(outcome) = self.attempt(input, &found, &section) {
                return outcome;
            }
        }
    }

    #[cold]
    fn fault_with_report(&self, input: FaultInput) -> FaultOutcome {
        let before = self.trace(input.va);
        let start = (self.context().clock)();
        let outcome = self.resolve(input);
        let cost = (self.context().clock)().wrapping_sub(start);
        if outcome == FaultOutcome::Done {
            let after = self.trace(input.va);
            let FaultInput { va, access, .. } = input;
            self.set_first_fault(FirstFault {
                va,
                access,
                before,
                after,
                cost,
            });
        }
        outcome
    }

    /// The area of the fault; a stack below which it falls is grown first.
    #[inline(always)]
    fn find(&self, map: &mut Map, input: FaultInput) -> Found {
        let changes = self.changes();
        if let Some(area) = map.areas.find(input.va) {
            return Found::at(area, input.va, changes);
        }
        match self.grow_stack(map, input.va) {
            Some(area) => Found::at(&area, input.va, changes),
            None => Found {
                area: AreaFacts::Hole,
                image: None,
                block: false,
                changes,
            },
        }
    }

    #[cold]
    fn grow_stack(&self, map: &mut Map, va: u64) -> Option<Vma> {
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
            below.prot.is_empty() && below.end <= start || below.end + STACK_GAP <= start
        });
        if !(grows && apart) {
            return None;
        }
        area.start = start;
        self.counters().stack_growths.bump();
        Some(*area)
    }

    /// One look and one application. None: the map changed in between.
    fn attempt<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        section: &ReadSide<'g>,
    ) -> Option<FaultOutcome> {
        let look = self.table().look(input.va, section);
        let mut facts = FaultFacts {
            area: found.area,
            entry: self.entry_facts(&look),
            access: input.access,
            block: found.block && look.is_empty_around(input.va, BLOCK_PAGES),
            kernel: input.kernel,
        };
        loop {
            match self.carry_out(plan(&facts), input, found, &look, section) {
                Ok(outcome) => return Some(outcome),
                Err(Undone::Retired) => return None,
                Err(Undone::NoFolio) => facts.block = false,
            }
        }
    }

    fn carry_out<'g>(
        &'g self,
        plan: Plan,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
        section: &ReadSide<'g>,
    ) -> Result<FaultOutcome, Undone> {
        let counters = self.counters();
        let (done, counter): (Result<bool, LockError>, &Counter) = match plan {
            Plan::Refuse(refusal) => return Ok(self.refuse(refusal, input)),
            Plan::Spurious => {
                let page = input.va & !(PAGE_SIZE - 1);
                self.drop_stale(page, page + PAGE_SIZE);
                (Ok(true), &counters.faults_spurious)
            }
            Plan::SetAccess { dirty } => (
                self.apply_access(input.va, dirty, found, section),
                &counters.faults_access,
            ),
            Plan::Reprotect => (
                self.apply_reprotect(input.va, found, section),
                &counters.faults_reprotect,
            ),
            Plan::Fill { image } => {
                let counter = if image {
                    &counters.faults_image
                } else {
                    &counters.faults_anon
                };
                (self.fill(input, found, look, section), counter)
            }
            Plan::FillBlock => (
                self.fill_block(input, found, look, section)?,
                &counters.faults_anon,
            ),
        };
        let kind = match plan {
            Plan::Fill { image: true } => Kind::FaultImage,
            Plan::Fill { image: false } | Plan::FillBlock => Kind::FaultAnon,
            Plan::SetAccess { .. } => Kind::FaultAccess,
            Plan::Reprotect => Kind::FaultReprotect,
            Plan::Refuse(_) | Plan::Spurious => Kind::FaultSpurious,
        };
        let bytes = match plan {
            Plan::Fill { .. } => PAGE_SIZE,
            Plan::FillBlock => BLOCK_SIZE,
            _ => 0,
        };
        match done {
            Ok(true) => {
                counter.bump();
                self.tell_fault(kind, input, bytes);
            }
            Ok(false) => {
                counters.faults_spurious.bump();
                self.tell_fault(Kind::FaultSpurious, input, 0);
            }
            Err(LockError::Retired) => return Err(Undone::Retired),
            Err(LockError::Table(_)) => {
                counters.faults_oom.bump();
                self.tell_fault(Kind::FaultOom, input, 0);
                return Ok(FaultOutcome::OutOfMemory);
            }
        }
        Ok(FaultOutcome::Done)
    }

    /// An entry allows more than this CPU believes: the translation that it keeps must go, or the
    /// access faults for ever where hardware does not walk again before a permission fault.
    fn drop_stale(&self, start: u64, end: u64) {
        self.counters().flushes_stale.bump();
        self.machine().before_invalidate();
        self.machine().invalidate(Invalidation::Range {
            asid: self.table().asid(),
            start,
            end,
            level: Level::L3,
            tables: false,
        });
    }

    fn refuse(&self, refusal: Refusal, input: FaultInput) -> FaultOutcome {
        let counters = self.counters();
        let (counter, kind) = match refusal {
            Refusal::NoArea | Refusal::NoRight => (&counters.faults_segv, Kind::FaultSegv),
            Refusal::BeyondEnd | Refusal::Foreign => (&counters.faults_bus, Kind::FaultBus),
        };
        counter.bump();
        self.tell_fault(kind, input, 0);
        match refusal {
            Refusal::NoArea => FaultOutcome::Segv {
                code: SegvCode::MapErr,
            },
            Refusal::NoRight => FaultOutcome::Segv {
                code: SegvCode::AccErr,
            },
            Refusal::BeyondEnd | Refusal::Foreign => FaultOutcome::Bus,
        }
    }

    #[inline(always)]
    fn entry_facts(&self, look: &Look<'_>) -> EntryFacts {
        let (pte, level) = (look.value, look.level);
        if pte.is_none() {
            return EntryFacts::None;
        }
        if pte.is_leaf(level) && level == Level::L3 {
            let (prot, young, dirty) = (pte.prot(), pte.young(), pte.dirty());
            return EntryFacts::Page { prot, young, dirty };
        }
        match pte.decode(self.machine().format(), level) {
            Entry::PresentInvalid {
                reason: Invalid::ProtNone,
                ..
            } => EntryFacts::ProtNone,
            _ => EntryFacts::Foreign,
        }
    }

    /// Prepares a page with no lock held, then installs it. `Ok(false)`: somebody else had installed
    /// one, ours is dropped.
    fn fill<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
        section: &ReadSide<'g>,
    ) -> Result<bool, LockError> {
        let Some(prot) = found.prot() else {
            return Err(LockError::Retired);
        };
        let frame = self.prepare(found.image, prot)?;
        let write = input.access == Access::Write;
        let attrs = Attrs::user(prot).with_young(true).with_dirty(write);
        let still = || self.changes() == found.changes;
        let leaf = self.table().lock_seen(input.va, look, section, still)?;
        Ok(leaf.install(input.va, frame.into_user(), attrs).is_ok())
    }

    /// As [`Self::fill`], with a folio over the whole block around the address. The error says that
    /// there was no folio to be had: a page will do.
    fn fill_block<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: &Look<'g>,
        section: &ReadSide<'g>,
    ) -> Result<Result<bool, LockError>, Undone> {
        let prot = found.prot().ok_or(Undone::Retired)?;
        let Ok(folio) = self.machine().frames().alloc_fresh(BLOCK_ORDER, true) else {
            self.counters().folios_missed.bump();
            return Err(Undone::NoFolio);
        };
        let write = input.access == Access::Write;
        let attrs = Attrs::user(prot).with_young(true).with_dirty(write);
        let still = || self.changes() == found.changes;
        let leaf = match self.table().lock_seen(input.va, look, section, still) {
            Ok(leaf) => leaf,
            Err(error) => return Ok(Err(error)),
        };
        let start = input.va & !(BLOCK_SIZE - 1);
        let touched = self.machine().records_access().then_some(input.va);
        let folio = folio.into_user();
        match leaf.install_folio(start, folio, BLOCK_PAGES, attrs, touched) {
            Ok(()) => {
                self.counters().faults_folio.bump();
                self.counters().faults_64k.bump();
            }
            // Something is there by now; perhaps not at the address itself.
            Err(_ours) if leaf.get(input.va).is_none() => return Err(Undone::NoFolio),
            Err(_ours) => return Ok(Ok(false)),
        }
        Ok(Ok(true))
    }

    fn prepare(
        &self,
        image: Option<(ImageObject, u64)>,
        prot: Prot,
    ) -> Result<FreshFrame, TableError> {
        let mut frame = self.fresh_frame()?;
        if let Some((object, offset)) = image {
            object.fill(offset, frame.bytes_mut());
            if prot.contains(Prot::EXEC) {
                self.machine().sync_instructions(frame.pfn().start());
            }
        }
        Ok(frame)
    }

    fn apply_access(
        &self,
        va: u64,
        dirty: bool,
        found: &Found,
        section: &ReadSide<'_>,
    ) -> Result<bool, LockError> {
        let Some(leaf) = self.table().lock_existing(va, section) else {
            return Ok(false);
        };
        if self.changes() != found.changes {
            return Err(LockError::Retired);
        }
        match leaf.mark_accessed(va, dirty) {
            Accessed::NotAllowed => Ok(false),
            Accessed::Already => {
                drop(leaf);
                let page = va & !(PAGE_SIZE - 1);
                self.drop_stale(page, page + PAGE_SIZE);
                Ok(false)
            }
            Accessed::Recorded { start, end } => {
                drop(leaf);
                if dirty {
                    self.drop_stale(start, end);
                }
                Ok(true)
            }
        }
    }

    fn apply_reprotect(
        &self,
        va: u64,
        found: &Found,
        section: &ReadSide<'_>,
    ) -> Result<bool, LockError> {
        let Some(prot) = found.prot() else {
            return Err(LockError::Retired);
        };
        let page = VirtAddr::new(va & !(PAGE_SIZE - 1));
        let Some(range) = VaRange::from_len(page, PAGE_SIZE) else {
            return Ok(false);
        };
        let mut gather = Gather::new();
        let changed = match self.table().cursor(range, section).visit() {
            Some(Visit::Table(leaf)) => {
                if self.changes() != found.changes {
                    return Err(LockError::Retired);
                }
                leaf.protect(prot, &mut gather);
                true
            }
            _ => false,
        };
        self.release(&mut gather);
        Ok(changed)
    }
}
