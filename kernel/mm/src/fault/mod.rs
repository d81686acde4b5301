//! The fault path: facts, plan, prepare, apply (DESIGN §4).
//!
//! A fault looks at its area and at the tables with no lock kept, decides, prepares what it needs,
//! and carries the plan out under the lock of one table, after it has found there that the table is
//! still linked, the area still current, the entry the one it decided from, and the page still the
//! object's at that index (D5). Otherwise it drops what it prepared and begins again.

mod apply;
mod around;
mod blocks;
pub mod facts;
mod look;
pub mod plan;
mod prepare;
mod reform;
mod tagged;

use arm64::addr::PAGE_SIZE;
use arm64::geometry::Level;
use arm64::pte::Pte;
use pgtable::{Invalidation, LockError, Look, Machine, ReadSide, TableError};

pub(crate) use blocks::{BLOCK_ORDER_2M, Pendings};
pub(crate) use reform::Missed;

use crate::object::MemObject;
use crate::policy::{FOLIO_2M, FOLIO_64K};
use crate::space::Space;
use crate::stats::Counter;
use crate::tags::REPLAYS;
use crate::trace::Kind;
use facts::{Access, FaultFacts, Size};
use look::{Found, Sight};
use plan::{Plan, Question, Refusal, plan};

/// A fault as it arrives.
#[derive(Clone, Copy, Debug)]
pub struct FaultInput {
    /// The address touched, without a tag.
    pub va: u64,
    /// What was wanted.
    pub access: Access,
    /// Who wanted it.
    pub mode: Mode,
}

/// On whose behalf a fault is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The program's own access.
    User,
    /// The kernel's access to memory of the program (D4): no more is made than fits into a part of
    /// one stay.
    Kernel,
    /// The program asked for the page ahead of its use.
    Populate,
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
    /// A part of the work is done; the access, tried again, faults and goes on with it.
    Again,
    /// A change is about the area, or a pager is to be asked ([`crate::Asks`]): park until that is
    /// over, then try again.
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

/// Why a plan was not carried out.
pub(crate) enum Undone {
    /// The map, the entry or the object changed: look again.
    Retired,
    /// There is no folio of the size, or no room for one any more: plan again with a smaller one.
    NoFolio,
    /// No memory.
    NoMemory,
    /// No storage for tags, and none to be had.
    NoStorage,
}

impl From<LockError> for Undone {
    fn from(error: LockError) -> Self {
        match error {
            // Where a table was to be made, there is a block by now.
            LockError::Retired | LockError::Table(TableError::Occupied) => Self::Retired,
            LockError::Table(_) => Self::NoMemory,
        }
    }
}

/// What carrying a plan out came to.
pub(crate) enum Applied {
    /// As planned; so many bytes are mapped now.
    Mapped(u64),
    /// Somebody else had done it.
    Already,
    /// A part is done.
    Part,
}

impl<M: Machine> Space<M> {
    /// Resolves a fault or says why not. Bounded.
    pub fn fault(&self, input: FaultInput) -> FaultOutcome {
        match self.first_fault_is_open() && input.mode == Mode::User {
            false => self.resolve(input),
            true => self.fault_with_report(input),
        }
    }

    fn resolve(&self, input: FaultInput) -> FaultOutcome {
        self.begin_fault();
        if input.mode != Mode::User {
            self.counters().faults_kernel.bump();
        }
        match self.try_once(input) {
            Some(outcome) => outcome,
            None => self.try_again(input),
        }
    }

    /// A change may come between the look and the application; the look is then repeated. It cannot
    /// go on for ever: each repetition is something completed by somebody else. Apart from the first
    /// try, which is not to carry what a loop keeps.
    #[cold]
    #[inline(never)]
    fn try_again(&self, input: FaultInput) -> FaultOutcome {
        loop {
            let stay = ();
            let section = self.machine().read_side(&stay);
            let attempt = self.with_found(input, |found| {
                let sight = Sight::new(self.table().look(input.va, &section));
                self.attempt_seen(input, found, sight, &section)
            });
            match attempt {
                Ok(None) => {}
                Ok(Some(outcome)) | Err(outcome) => return outcome,
            }
        }
    }

    #[inline(always)]
    fn try_once(&self, input: FaultInput) -> Option<FaultOutcome> {
        let stay = ();
        let section = self.machine().read_side(&stay);
        match self.with_found(input, |found| self.attempt(input, found, &section)) {
            Ok(attempt) => attempt,
            Err(outcome) => Some(outcome),
        }
    }

    /// Answers for a run of pages up to `end` what single faults would one by one, where they would
    /// map fresh pages; how many. 0: it takes a fault.
    ///
    /// # Errors
    /// What became of the first.
    pub(crate) fn fault_run(&self, input: FaultInput, end: u64) -> Result<usize, FaultOutcome> {
        self.begin_fault();
        let stay = ();
        let section = self.machine().read_side(&stay);
        match self.with_found(input, |found| self.fill_run(input, end, found, &section))? {
            Ok(pages) => Ok(pages),
            Err(Undone::NoMemory) => Err(self.no_memory(input)),
            // A fault finds out.
            Err(Undone::Retired | Undone::NoFolio | Undone::NoStorage) => Ok(0),
        }
    }

    #[cold]
    fn no_memory(&self, input: FaultInput) -> FaultOutcome {
        self.counters().faults_oom.bump();
        self.tell_fault(Kind::FaultOom, input, 0);
        FaultOutcome::OutOfMemory
    }

    /// The page is to carry tags, and there is nowhere to keep them just now: who holds what is in the
    /// way may be about to let go of it. After [`REPLAYS`] times that is a definite end (law 14).
    #[cold]
    fn no_storage(&self, input: FaultInput) -> FaultOutcome {
        let (id, now) = (self.table().owner().id, (self.context().clock)());
        let events = &self.context().tag_events;
        if events.replay(id, input.va, now) <= REPLAYS {
            return FaultOutcome::Again;
        }
        events.give_up(id, input.va);
        self.counters().faults_bus.bump();
        self.tell_fault(Kind::FaultBus, input, 0);
        FaultOutcome::Bus
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

    /// One look and one application. None: something changed in between.
    #[inline(always)]
    fn attempt<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        section: &ReadSide<'g>,
    ) -> Option<FaultOutcome> {
        let look = self.table().look(input.va, section);
        if found.is_anon() && look.value.is_none() && look.has_table() {
            self.touch_first(input, found, look, section)
        } else if look.value.is_leaf(look.level()) {
            self.touch_mapped(input, found, Sight::new(look), section)
        } else if !found.is_anon() && look.value.is_none() && look.has_table() {
            self.touch_object(input, found, Sight::new(look), section)
        } else {
            self.attempt_seen(input, found, Sight::new(look), section)
        }
    }

    /// [`Self::attempt`] where anonymous memory is touched for the first time, which most faults are
    /// about: nothing but the usual cases of the plan is in its way.
    #[inline(always)]
    fn touch_first<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: Look<'g>,
        section: &ReadSide<'g>,
    ) -> Option<FaultOutcome> {
        let undone = match plan(&self.facts_of_empty(input, found, &look)) {
            Plan::Fill(Size::Page) => match self.fill_page(input, found, &look) {
                Ok(done) => return Some(self.account(Plan::Fill(Size::Page), done, input)),
                Err(undone) => undone,
            },
            Plan::Fill(Size::Folio) => return self.touch_folio(input, found, look, section),
            Plan::Zero { mark: false } => match self.map_zero(input, found, &look) {
                Ok(done) => return Some(self.account(Plan::Zero { mark: false }, done, input)),
                Err(undone) => undone,
            },
            _ => return self.attempt_seen(input, found, Sight::new(look), section),
        };
        self.after_first(undone, input, found, look, section)
    }

    #[inline(never)]
    fn touch_folio<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        look: Look<'g>,
        section: &ReadSide<'g>,
    ) -> Option<FaultOutcome> {
        match self.fill_folio(input, found, &look, section) {
            Ok(done) => Some(self.account(Plan::Fill(Size::Folio), done, input)),
            Err(undone) => self.after_first(undone, input, found, look, section),
        }
    }

    /// What was planned at first did not work.
    #[cold]
    #[inline(never)]
    fn after_first<'g>(
        &'g self,
        undone: Undone,
        input: FaultInput,
        found: &Found,
        look: Look<'g>,
        section: &ReadSide<'g>,
    ) -> Option<FaultOutcome> {
        let facts = self.facts_of_empty(input, found, &look);
        self.retreat(undone, facts, input, found, &Sight::new(look), section)
    }

    /// Goes on with a smaller folio after a plan that was not carried out, or ends as that says.
    #[cold]
    #[inline(never)]
    fn retreat<'g>(
        &'g self,
        undone: Undone,
        facts: FaultFacts,
        input: FaultInput,
        found: &Found,
        sight: &Sight<'g>,
        section: &ReadSide<'g>,
    ) -> Option<FaultOutcome> {
        match self.fall_back(undone, facts, input, found) {
            Ok(smaller) => self.pursue(smaller, input, found, sight, section),
            Err(outcome) => outcome,
        }
    }

    /// [`Self::attempt`] where a page of an object is not mapped yet.
    #[inline(never)]
    fn touch_object<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        mut sight: Sight<'g>,
        section: &ReadSide<'g>,
    ) -> Option<FaultOutcome> {
        let facts = self.facts_of_absent(input, found, &mut sight);
        let plan = plan(&facts);
        let applied = match plan {
            Plan::Map {
                supply,
                around,
                private,
                mark: false,
            } => {
                let how = around::How {
                    around,
                    private,
                    mark: false,
                };
                self.map_object(input, found, &sight, supply, how)
            }
            Plan::CopyObject { .. } => self.copy_object(input, found, &sight),
            Plan::Ask(Question::Page) => return Some(self.ask_pager(input, found)),
            _ => return self.pursue(facts, input, found, &sight, section),
        };
        match applied {
            Ok(applied) => Some(self.account(plan, applied, input)),
            Err(undone) => self.retreat(undone, facts, input, found, &sight, section),
        }
    }

    /// [`Self::attempt`] where a page is mapped: by far not all of the plan is about those either.
    #[inline(never)]
    fn touch_mapped<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        mut sight: Sight<'g>,
        section: &ReadSide<'g>,
    ) -> Option<FaultOutcome> {
        let facts = self.facts_of_page(input, found, &mut sight, section);
        match self.carry_out(plan(&facts), input, found, &sight, section) {
            Ok(outcome) => Some(outcome),
            Err(undone) => self.fall_back(undone, facts, input, found).err()?,
        }
    }

    #[inline(never)]
    fn attempt_seen<'g>(
        &'g self,
        input: FaultInput,
        found: &Found,
        mut sight: Sight<'g>,
        section: &ReadSide<'g>,
    ) -> Option<FaultOutcome> {
        let facts = self.facts(input, found, &mut sight, section);
        self.pursue(facts, input, found, &sight, section)
    }

    /// Carries the plan out, or one with a smaller folio.
    #[inline(never)]
    fn pursue<'g>(
        &'g self,
        mut facts: FaultFacts,
        input: FaultInput,
        found: &Found,
        sight: &Sight<'g>,
        section: &ReadSide<'g>,
    ) -> Option<FaultOutcome> {
        loop {
            match self.carry_out(plan(&facts), input, found, sight, section) {
                Ok(outcome) => return Some(outcome),
                Err(undone) => match self.fall_back(undone, facts, input, found) {
                    Ok(smaller) => facts = smaller,
                    Err(outcome) => return outcome,
                },
            }
        }
    }

    /// What to try next after a plan that was not carried out.
    ///
    /// # Errors
    /// How the attempt ends otherwise.
    #[cold]
    fn fall_back(
        &self,
        undone: Undone,
        facts: FaultFacts,
        input: FaultInput,
        found: &Found,
    ) -> Result<FaultFacts, Option<FaultOutcome>> {
        match undone {
            Undone::Retired => Err(None),
            Undone::NoFolio => {
                self.counters().folios_missed.bump();
                if found.is_anon() {
                    self.remember_missed(input.va);
                }
                let size = match facts.size {
                    Size::Block if found.folio_fits(input.va) => Size::Folio,
                    _ => Size::Page,
                };
                Ok(FaultFacts { size, ..facts })
            }
            Undone::NoMemory => Err(Some(self.no_memory(input))),
            Undone::NoStorage => Err(Some(self.no_storage(input))),
        }
    }

    /// Makes the table that the plan puts an entry into, if there is none: what was planned is then
    /// seen once more.
    fn make_table(
        &self,
        va: u64,
        found: &Found,
        look: &Look<'_>,
        section: &ReadSide<'_>,
    ) -> Result<(), Undone> {
        if look.has_table() {
            return Ok(());
        }
        let still = || self.is_current(found, va);
        drop(self.table().lock_leaf(va, section, still)?);
        Err(Undone::Retired)
    }

    #[inline(always)]
    fn carry_out<'g>(
        &'g self,
        plan: Plan,
        input: FaultInput,
        found: &Found,
        sight: &Sight<'g>,
        section: &ReadSide<'g>,
    ) -> Result<FaultOutcome, Undone> {
        if plan.takes_entry() {
            self.make_table(input.va, found, &sight.look, section)?;
        }
        let applied = match plan {
            Plan::Refuse(refusal) => return Ok(self.refuse(refusal, input)),
            Plan::Ask(Question::Page) => return Ok(self.ask_pager(input, found)),
            Plan::Ask(_) => return Ok(self.ask(input)),
            // What was seen of a block is what any of its entries recorded; there is nothing to do
            // only if each of them says so (law 7).
            Plan::Spurious => {
                let write = input.access == Access::Write;
                self.apply_access(input.va, write, found, section)?
            }
            Plan::SetAccess { dirty } => self.apply_access(input.va, dirty, found, section)?,
            Plan::Reprotect => self.apply_reprotect(input.va, found, sight, section)?,
            Plan::Reuse => self.apply_reuse(input.va, found, sight, section)?,
            Plan::Fill(Size::Page) => self.fill_page(input, found, &sight.look)?,
            Plan::Fill(Size::Folio) => self.fill_folio(input, found, &sight.look, section)?,
            Plan::Fill(Size::Block) => self.fill_block(input, found, section)?,
            Plan::Zero { .. } if sight.look.value.is_none() => {
                self.map_zero(input, found, &sight.look)?
            }
            Plan::Zero { mark } => self.fill_marked(input, found, sight, mark)?,
            Plan::Map {
                supply,
                around,
                private,
                mark,
            } => {
                let how = around::How {
                    around,
                    private,
                    mark,
                };
                self.map_object(input, found, sight, supply, how)?
            }
            Plan::Device => self.map_device(input, found, &sight.look)?,
            Plan::Tag => self.apply_tag(input, found, sight, section)?,
            Plan::Copy => self.copy_mapped(input, found, sight, section)?,
            Plan::CopyObject { .. } => self.copy_object(input, found, sight)?,
        };
        Ok(self.account(plan, applied, input))
    }

    /// Counts what was done.
    #[inline(always)]
    pub(super) fn account(&self, plan: Plan, applied: Applied, input: FaultInput) -> FaultOutcome {
        let counters = self.counters();
        let bytes = match applied {
            Applied::Part => return FaultOutcome::Again,
            Applied::Already => {
                counters.faults_spurious.bump();
                self.tell_fault(Kind::FaultSpurious, input, 0);
                return FaultOutcome::Done;
            }
            Applied::Mapped(bytes) => bytes,
        };
        match bytes {
            FOLIO_64K => counters.faults_64k.bump(),
            FOLIO_2M => counters.faults_2m.bump(),
            _ => {}
        }
        let (counter, kind): (&Counter, Kind) = match plan {
            Plan::Fill(_) => (&counters.faults_anon, Kind::FaultAnon),
            Plan::Zero { .. } => (&counters.faults_zero, Kind::FaultZero),
            Plan::Map { private: true, .. } => (&counters.faults_image, Kind::FaultImage),
            Plan::Map { .. } | Plan::Device => (&counters.faults_shared, Kind::FaultShared),
            Plan::Copy | Plan::CopyObject { .. } => (&counters.faults_cow, Kind::FaultCow),
            Plan::Reuse => (&counters.faults_reuse, Kind::FaultReuse),
            Plan::SetAccess { .. } => (&counters.faults_access, Kind::FaultAccess),
            Plan::Reprotect => (&counters.faults_reprotect, Kind::FaultReprotect),
            Plan::Tag => (&counters.faults_tag, Kind::FaultTag),
            Plan::Spurious | Plan::Ask(_) | Plan::Refuse(_) => {
                (&counters.faults_spurious, Kind::FaultSpurious)
            }
        };
        counter.bump();
        self.tell_fault(kind, input, bytes);
        FaultOutcome::Done
    }

    fn drop_stale_page(&self, va: u64) {
        let page = va & !(PAGE_SIZE - 1);
        self.drop_stale(page, page + PAGE_SIZE, Level::L3);
    }

    /// An entry allows more than this CPU believes: the translation that it keeps must go, or the
    /// access faults for ever where hardware does not walk again before a permission fault.
    fn drop_stale(&self, start: u64, end: u64, level: Level) {
        self.counters().flushes_stale.bump();
        self.machine().before_invalidate();
        self.machine().invalidate(Invalidation::Range {
            asid: self.table().asid(),
            start,
            end,
            level,
            tables: false,
        });
    }

    /// A userfaultfd is to be asked: nobody reads such questions yet, so that the access is refused
    /// as with `UFFD_FEATURE_SIGBUS`.
    #[cold]
    fn ask(&self, input: FaultInput) -> FaultOutcome {
        self.counters().faults_asked.bump();
        self.tell_fault(Kind::FaultAsked, input, 0);
        FaultOutcome::Bus
    }

    /// The pager of the object is to be asked: whoever parks finds the question.
    #[cold]
    fn ask_pager(&self, input: FaultInput, found: &Found) -> FaultOutcome {
        self.counters().faults_paged.bump();
        self.tell_fault(Kind::FaultPaged, input, 0);
        if let Some((object, index)) = &found.area.object {
            let ask = MemObject::ask(object, *index, input.access, input.va);
            self.context().asks().put(ask);
        }
        FaultOutcome::Busy
    }

    #[cold]
    pub(super) fn refuse(&self, refusal: Refusal, input: FaultInput) -> FaultOutcome {
        let counters = self.counters();
        let (counter, kind) = match refusal {
            Refusal::NoArea | Refusal::NoRight => (&counters.faults_segv, Kind::FaultSegv),
            _ => (&counters.faults_bus, Kind::FaultBus),
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
            Refusal::BeyondEnd
            | Refusal::NotSupplied
            | Refusal::Registers
            | Refusal::Poisoned
            | Refusal::Foreign => FaultOutcome::Bus,
        }
    }
}
