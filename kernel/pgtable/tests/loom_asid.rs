//! Identifiers by generations under loom: the shipped source, two CPUs, the fewest identifiers.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p pgtable --release --test loom_asid`
//!
//! A TLB is the set of what a CPU has walked since its last flush. Each protocol comes with a
//! variant that leaves out what it is about, and must fail.
#![cfg(loom)]

use loom::sync::{Arc, Mutex};
use loom::thread;
use pgtable::asid::{AsidCell, Asids, Switched};
use sync::atomic::{AtomicU64, Ordering::*, fence};

const CPUS: usize = 2;
/// With 0 set aside, three identifiers for two CPUs: one is free after a rollover, or two.
const BITS: u8 = 2;

/// Few switches suffice for every race between two changes.
fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.max_branches = 50_000;
    builder.check(check);
}

/// One entry of a table: 1 while it is valid.
struct Space {
    cell: AsidCell,
    entry: AtomicU64,
}

impl Space {
    fn new() -> Self {
        Self {
            cell: AsidCell::new(),
            entry: AtomicU64::new(1),
        }
    }
}

/// Which space's valid entry is cached under each identifier.
#[derive(Default)]
struct Tlb([Option<usize>; 1 << BITS]);

struct World {
    asids: Asids<CPUS>,
    spaces: Vec<Space>,
    tlbs: [Mutex<Tlb>; CPUS],
}

impl World {
    fn new(spaces: usize) -> Self {
        Self {
            asids: Asids::new(BITS, CPUS, 1).unwrap(),
            spaces: (0..spaces).map(|_| Space::new()).collect(),
            tlbs: [Mutex::new(Tlb::default()), Mutex::new(Tlb::default())],
        }
    }

    /// Changes to a space as the kernel does, and uses it.
    fn switch(&self, cpu: usize, space: usize) -> u16 {
        let switched = self.asids.switch_to(&self.spaces[space].cell, cpu);
        self.flush_local(cpu, switched);
        self.walk(cpu, space, switched.asid);
        switched.asid
    }

    fn flush_local(&self, cpu: usize, switched: Switched) {
        if switched.flush_local {
            *self.tlbs[cpu].lock().unwrap() = Tlb::default();
        }
    }

    /// A hit must be of this space; a miss is filled from the table.
    fn walk(&self, cpu: usize, space: usize, asid: u16) {
        let mut tlb = self.tlbs[cpu].lock().unwrap();
        let place = &mut tlb.0[usize::from(asid)];
        match *place {
            Some(origin) => assert_eq!(origin, space, "another space's translation"),
            None if self.spaces[space].entry.load(Relaxed) == 1 => *place = Some(space),
            None => {}
        }
    }

    /// Takes the entry out and invalidates it on every CPU, as the engine does.
    fn tear_out(&self, space: usize, barrier: bool) {
        self.spaces[space].entry.store(0, Relaxed);
        if barrier {
            fence(SeqCst);
        }
        let asid = self.spaces[space].cell.current();
        for tlb in &self.tlbs {
            tlb.lock().unwrap().0[usize::from(asid)] = None;
        }
    }
}

/// After `before` (CPU, space), CPU 0 changes to the spaces `mine` while CPU 1 changes to `theirs`.
/// What they run at the same time is never under one identifier, and no TLB answers for another
/// space.
fn two_cpus(before: &'static [(usize, usize)], mine: &'static [usize], theirs: &'static [usize]) {
    model(move || {
        let world = Arc::new(World::new(6));
        let mut last = [(0, 0); CPUS];
        for &(cpu, space) in before {
            last[cpu] = (space, world.switch(cpu, space));
        }
        let run = |world: &World, cpu: usize, spaces: &[usize], last| {
            let change = |_, &space: &usize| (space, world.switch(cpu, space));
            spaces.iter().fold(last, change)
        };
        let (other, of_cpu1) = (world.clone(), last[1]);
        let cpu1 = thread::spawn(move || run(&other, 1, theirs, of_cpu1));
        let last = [run(&world, 0, mine, last[0]), cpu1.join().unwrap()];
        let [(first, a), (second, b)] = last;
        assert_eq!(first == second, a == b, "identifiers {a} and {b}");
        for (cpu, (space, asid)) in last.into_iter().enumerate() {
            let named = world.spaces[space].cell.current();
            assert_eq!(named, asid, "an invalidation misses CPU {cpu}");
            world.walk(cpu, space, asid);
        }
    });
}

#[test]
fn rollovers_on_two_cpus_keep_their_spaces_apart() {
    two_cpus(&[(0, 0), (1, 1)], &[2, 3], &[4, 5]);
}

#[test]
fn a_space_on_two_cpus_has_one_identifier_through_a_rollover() {
    two_cpus(&[(1, 0), (0, 1), (0, 2)], &[3, 0], &[4, 0]);
}

/// All three identifiers are given. CPU 1 goes back to a space of this generation by the fast path
/// while CPU 0 begins the next one, in which that space's identifier is free unless CPU 1 came
/// first.
#[test]
fn coming_back_without_the_lock_races_with_a_rollover() {
    two_cpus(&[(1, 0), (1, 1), (0, 2)], &[3], &[0]);
    two_cpus(&[(1, 0), (1, 1), (0, 2)], &[3, 4], &[0]);
}

#[test]
fn a_cpu_that_stays_keeps_its_identifier_from_rollovers() {
    two_cpus(&[(1, 0), (0, 1), (0, 2)], &[3, 4, 5, 1], &[]);
}

/// A CPU changes to a space that gets a new identifier meanwhile, while another one takes an entry
/// out: afterwards nobody has it.
fn tear_out_against_switch(barrier: bool) {
    model(move || {
        let world = Arc::new(World::new(6));
        // The space had an identifier in the first generation; no CPU has it now.
        world.switch(1, 0);
        world.switch(1, 1);
        for space in 2..4 {
            world.switch(0, space);
        }
        let other = world.clone();
        let cpu1 = thread::spawn(move || other.switch(1, 0));
        world.tear_out(0, barrier);
        let asid = cpu1.join().unwrap();
        assert_eq!(world.spaces[0].cell.current(), asid);
        let stale = world.tlbs[1].lock().unwrap().0[usize::from(asid)];
        assert_eq!(stale, None, "a translation outlived its invalidation");
    });
}

#[test]
fn an_invalidation_finds_the_identifier_or_the_walk_finds_the_entry_gone() {
    tear_out_against_switch(true);
}

#[test]
#[should_panic(expected = "outlived its invalidation")]
fn without_the_barrier_both_can_miss() {
    tear_out_against_switch(false);
}
