//! What a storm runs in: spaces with their ghosts, CPUs, frames in flight.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use arm64::addr::{VaRange, VirtAddr};
use arm64::geometry::Geometry;
use frame::UserFrame;
use model::ModelMachine;
use model::ghost::{Ghost, Page};
use pgtable::activation::Step;
use pgtable::asid::{Asids, SET_ASIDE};
use pgtable::{Gather, Graveyard, Machine, PageTable, RootWord, TableError, User, Zap};

use crate::rng::Rng;

pub const PAGE: u64 = 4096;
/// More spaces than identifiers, so that generations follow each other. Most are only run in.
const SPACES: u32 = 8;
/// Spaces that operations play in.
pub const PLAYED: u64 = 3;
const ASID_BITS: u8 = 3;
/// Range of the smaller of the two shapes that spaces begin with.
const SMALL: u8 = 30;
const LARGE: u8 = 39;

/// One address space.
pub struct Space {
    pub table: PageTable<User, ModelMachine>,
    /// Bits of the range it began with.
    first_bits: u8,
}

/// What changes; never held while the engine runs.
pub struct State {
    pub rng: Rng,
    pub ghosts: Vec<Ghost>,
    /// References by folio, to its first frame.
    pub references: BTreeMap<u64, u32>,
    pub pins: Vec<UserFrame>,
    /// A page that is mapped in many places and counted in none.
    pub zero: Option<UserFrame>,
    /// What each CPU has loaded.
    pub loaded: Vec<Option<(usize, RootWord)>>,
    /// Ranges that an operation under way answers for.
    pub busy: Vec<Range>,
    pub done: u64,
    pub last: String,
}

/// A range of pages of one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub space: usize,
    pub start: u64,
    pub end: u64,
}

pub struct World {
    pub machine: &'static ModelMachine,
    pub spaces: Vec<Space>,
    pub graves: Graveyard,
    pub asids: Asids<4>,
    pub cpus: usize,
    state: Mutex<State>,
    seed: u64,
    free_at_first: u64,
}

impl World {
    pub fn new(machine: &'static ModelMachine, mut rng: Rng, seed: u64) -> Arc<Self> {
        let free_at_first = machine.host().free_frames();
        let spaces: Vec<_> = (0..SPACES)
            .map(|number| {
                let first_bits = rng.pick(&[SMALL, LARGE]);
                let geometry = Geometry::for_va_bits(first_bits);
                let table = PageTable::new(machine, 2 + number, geometry).expect("a root");
                Space { table, first_bits }
            })
            .collect();
        let cpus = machine.cpus();
        let zero = machine.frames().alloc_fresh(0, true);
        let zero = zero.expect("memory");
        let state = State {
            rng,
            ghosts: spaces.iter().map(|_| Ghost::new()).collect(),
            references: BTreeMap::new(),
            pins: Vec::new(),
            zero: Some(zero.into_user()),
            loaded: vec![None; cpus],
            busy: Vec::new(),
            done: 0,
            last: String::new(),
        };
        let world = Arc::new(Self {
            machine,
            spaces,
            graves: Graveyard::new(),
            asids: Asids::new(ASID_BITS, cpus, SET_ASIDE).expect("enough identifiers"),
            cpus,
            state: Mutex::new(state),
            seed,
            free_at_first,
        });
        let hook = crate::schedule::hook(&world);
        machine.set_hook(Some(hook));
        (0..cpus).for_each(|cpu| world.activate(cpu, cpu % 2));
        world
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("an earlier panic says why")
    }

    pub fn random<R>(&self, choose: impl FnOnce(&mut Rng) -> R) -> R {
        choose(&mut self.state().rng)
    }

    /// Panics with what it takes to run the storm again.
    #[track_caller]
    pub fn fail(&self, what: &str) -> ! {
        let (done, last) = match self.state.lock() {
            Ok(state) => (state.done, state.last.clone()),
            Err(_) => (0, "?".into()),
        };
        panic!(
            "TESSERA_SEED={}, operation {done} ({last}): {what}",
            self.seed
        );
    }

    /// The ranges of `space` that operations play in: one that holds a block of 2 MiB and goes
    /// on behind it, one across a boundary of tables, and one above the first range.
    fn playgrounds(&self, space: usize) -> Vec<(u64, u64)> {
        let Space { table, first_bits } = &self.spaces[space];
        let above = 1u64 << first_bits;
        let mut all = vec![
            (0x1000_0000, 0x1020_0000 + 48 * PAGE),
            (0x2000_0000 - 24 * PAGE, 0x2000_0000 + 24 * PAGE),
        ];
        if table.geometry().va_bits() > *first_bits {
            all.push((above + 0x20_0000, above + 0x20_0000 + 32 * PAGE));
        }
        all
    }

    /// A random range, of a space, that no operation under way answers for; it counts as busy
    /// until [`Self::finished`].
    pub fn claim(&self, most_pages: u64) -> Option<Range> {
        for _ in 0..8 {
            let space = self.random(|rng| rng.below(PLAYED)) as usize;
            let grounds = self.playgrounds(space);
            let mut state = self.state();
            let (from, to) = state.rng.pick(&grounds);
            let pages = (to - from) / PAGE;
            let mut start = state.rng.below(pages);
            // Most of the large playground is rarely visited: let operations meet.
            if start >= 64 && !state.rng.once_in(8) {
                start %= 64;
            }
            let mut count = 1 + state.rng.below(most_pages.min(pages - start));
            if state.rng.once_in(3) && most_pages >= 16 {
                (start, count) = (start & !15, count.next_multiple_of(16));
            }
            let start = from + start * PAGE;
            let end = (start + count * PAGE).min(to);
            let range = Range { space, start, end };
            if start < end && state.take(range) {
                return Some(range);
            }
        }
        None
    }

    /// The whole of a block of 2 MiB, or something around it.
    pub fn claim_block(&self) -> Option<Range> {
        let mut state = self.state();
        let space = state.rng.below(PLAYED) as usize;
        let (start, end) = (0x1000_0000, 0x1020_0000);
        let range = Range { space, start, end };
        state.take(range).then_some(range)
    }

    /// All of a space: what empties every table of it.
    pub fn claim_all(&self) -> Option<Range> {
        let space = self.random(|rng| rng.below(PLAYED)) as usize;
        let (start, end) = (0, 1 << self.spaces[space].table.geometry().va_bits());
        let range = Range { space, start, end };
        self.state().take(range).then_some(range)
    }

    pub fn finished(&self, range: Range) {
        self.state().busy.retain(|busy| *busy != range);
    }

    pub fn gather(&self, space: usize, gather: &mut Gather) {
        let table = &self.spaces[space].table;
        let flushed = gather.flush(table);
        gather.release(self.machine, &self.graves, &flushed);
    }

    /// Ends the spaces: every table destructed, every frame back.
    pub fn end(world: Arc<Self>) {
        world.machine.set_hook(None);
        world.machine.frames().fail_after(u64::MAX);
        world.machine.host().refuse_after(u64::MAX);
        (0..world.cpus).for_each(|cpu| world.deactivate(cpu));
        for space in 0..world.spaces.len() {
            let bits = world.spaces[space].table.geometry().va_bits();
            let (start, end) = (0, 1 << bits);
            world.zap(Range { space, start, end }, Zap::REGION_GONE);
        }
        world.state().pins.clear();
        world.check();
        world.state().zero = None;
        let Ok(mut world) = Arc::try_unwrap(world) else {
            panic!("the hook is gone, nobody else has the world");
        };
        let mut spaces = std::mem::take(&mut world.spaces);
        for space in &mut spaces {
            world.machine.operation(|| {
                let mut gather = Gather::new();
                space.table.retire(&mut gather);
                let flushed = gather.flush(&space.table);
                gather.release(world.machine, &world.graves, &flushed);
            });
        }
        // The next storm has identifiers of its own.
        let flush = [Step::FlushAll, Step::DsbNsh];
        (0..world.cpus).for_each(|cpu| world.machine.run(cpu, &flush));
        while !world.graves.is_empty() {
            world.graves.reap(world.machine, 99);
            world.machine.pass_grace_period();
        }
        world.expect_no_violation();
        if world.machine.stats().live() != 0 {
            world.fail("a table is lost");
        }
        let free = world.machine.host().free_frames();
        if free != world.free_at_first {
            world.fail(&format!(
                "{free} frames free, {} before",
                world.free_at_first
            ));
        }
    }

    /// Whether an error is one of those that a storm provokes.
    pub fn expect_shortage(&self, error: TableError) {
        if !matches!(error, TableError::NoMemory | TableError::Refused) {
            self.fail(&format!("{error:?}"));
        }
    }
}

impl State {
    fn take(&mut self, range: Range) -> bool {
        let free = self.busy.iter().all(|busy| {
            busy.space != range.space || busy.end <= range.start || range.end <= busy.start
        });
        if free {
            self.busy.push(range);
        }
        free
    }

    /// The ghost learns of a mapping; `folio` is the first frame of its folio.
    pub fn mapped(&mut self, space: usize, va: u64, page: Page, folio: u64) {
        self.ghosts[space].map(va, page);
        *self.references.entry(folio).or_default() += 1;
    }
}

impl Range {
    pub fn va(&self) -> VaRange {
        let (start, end) = (VirtAddr::new(self.start), VirtAddr::new(self.end));
        VaRange::new(start, end).expect("a range")
    }
}
