//! Identifiers by generations against a simple model of what TLBs hold.
#![cfg(not(loom))]

use std::collections::HashMap;

use pgtable::asid::{AsidCell, AsidError, Asids, usable_bits};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

const CPUS: usize = 3;
/// Seven identifiers for three CPUs: each rollover leaves four at least.
const BITS: u8 = 3;

/// A space: its cell, and how often what it maps was torn out.
struct Space {
    cell: AsidCell,
    version: u32,
}

/// What a TLB entry came from: which space, and its version then.
type Origin = (usize, u32);

struct Machine {
    asids: Asids<CPUS>,
    spaces: Vec<Space>,
    /// What each CPU has loaded: space and identifier.
    loaded: [Option<(usize, u16)>; CPUS],
    tlbs: [HashMap<u16, Origin>; CPUS],
    flushes: u64,
}

impl Machine {
    fn new(bits: u8, spaces: usize) -> Self {
        let space = || Space {
            cell: AsidCell::new(),
            version: 0,
        };
        Self {
            asids: Asids::new(bits, CPUS, 1).unwrap(),
            spaces: (0..spaces).map(|_| space()).collect(),
            loaded: [None; CPUS],
            tlbs: Default::default(),
            flushes: 0,
        }
    }

    fn switch(&mut self, cpu: usize, space: usize) {
        let switched = self.asids.switch_to(&self.spaces[space].cell, cpu);
        if switched.flush_local {
            self.tlbs[cpu].clear();
            self.flushes += 1;
        }
        self.loaded[cpu] = Some((space, switched.asid));
        self.touch(cpu);
    }

    /// The CPU uses its space: a hit must be what the space maps now; a miss is filled.
    fn touch(&mut self, cpu: usize) {
        let Some((space, asid)) = self.loaded[cpu] else {
            return;
        };
        let origin = (space, self.spaces[space].version);
        let hit = *self.tlbs[cpu].entry(asid).or_insert(origin);
        assert_eq!(
            hit, origin,
            "CPU {cpu} hit a stale entry of identifier {asid}"
        );
    }

    fn idle(&mut self, cpu: usize) {
        self.loaded[cpu] = None;
    }

    /// Something of the space is torn out and invalidated, everywhere.
    fn invalidate(&mut self, space: usize) {
        self.spaces[space].version += 1;
        let asid = self.spaces[space].cell.current();
        self.tlbs
            .iter_mut()
            .for_each(|tlb| tlb.retain(|&named, _| named != asid));
    }

    /// The space ends, loaded nowhere, and another one comes in its place.
    fn replace(&mut self, space: usize) {
        if self
            .loaded
            .iter()
            .flatten()
            .any(|&(loaded, _)| loaded == space)
        {
            return;
        }
        self.invalidate(space);
        self.spaces[space].cell = AsidCell::new();
    }

    fn check(&self) {
        let loaded = || self.loaded.iter().flatten();
        for &(space, asid) in loaded() {
            assert_ne!(asid, 0, "the reserved root's identifier was handed out");
            let owners = loaded().filter(|&&(_, other)| other == asid);
            for &(other, _) in owners {
                assert_eq!(other, space, "one identifier for two spaces");
            }
            let named = self.spaces[space].cell.current();
            assert_eq!(
                named, asid,
                "an invalidation would miss a CPU that has the space"
            );
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Switch(usize, usize),
    Touch(usize),
    Idle(usize),
    Invalidate(usize),
    Replace(usize),
}

fn op(spaces: usize) -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..CPUS, 0..spaces).prop_map(|(cpu, space)| Op::Switch(cpu, space)),
        2 => (0..CPUS).prop_map(Op::Touch),
        1 => (0..CPUS).prop_map(Op::Idle),
        2 => (0..spaces).prop_map(Op::Invalidate),
        1 => (0..spaces).prop_map(Op::Replace),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 96 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_cpu_ever_uses_what_a_tlb_holds_of_another_space(
        ops in proptest::collection::vec(op(20), 1..400),
        tight in any::<bool>(),
    ) {
        // 7 identifiers, or 15, for 20 spaces on 3 CPUs.
        let mut machine = Machine::new(if tight { BITS } else { 4 }, 20);
        for op in ops {
            match op {
                Op::Switch(cpu, space) => machine.switch(cpu, space),
                Op::Touch(cpu) => machine.touch(cpu),
                Op::Idle(cpu) => machine.idle(cpu),
                Op::Invalidate(space) => machine.invalidate(space),
                Op::Replace(space) => machine.replace(space),
            }
            machine.check();
        }
        assert_eq!(machine.asids.local_flushes(), machine.flushes);
        let most = machine.asids.rollovers() * CPUS as u64;
        assert!(machine.flushes <= most, "flushed without a rollover");
    }
}

#[test]
fn every_identifier_is_handed_out_once_before_the_first_rollover() {
    let asids = Asids::<CPUS>::new(4, CPUS, 2).unwrap();
    assert_eq!(asids.capacity(), 14);
    let cells: Vec<_> = (0..14).map(|_| AsidCell::new()).collect();
    for (cell, expected) in cells.iter().zip(2..) {
        assert_eq!(cell.current(), 0, "nobody had it yet");
        let switched = asids.switch_to(cell, 0);
        assert!(switched.assigned && !switched.flush_local);
        assert_eq!((switched.asid, cell.current()), (expected, expected));
    }
    assert_eq!(asids.rollovers(), 0);
    let switched = asids.switch_to(&AsidCell::new(), 0);
    assert!(switched.assigned && switched.flush_local);
    assert_eq!((asids.rollovers(), asids.local_flushes()), (1, 1));
}

#[test]
#[cfg_attr(
    miri,
    ignore = "130000 switches, all alike: minutes for an interpreter"
)]
fn all_sixteen_bits_are_used() {
    let asids = Asids::<1>::new(16, 1, 1).unwrap();
    let mut last = 0;
    for expected in 1..=u16::MAX {
        last = asids.switch_to(&AsidCell::new(), 0).asid;
        assert_eq!(last, expected);
    }
    assert_eq!((last, asids.rollovers()), (u16::MAX, 0));
    // What the CPU ran when the generation began is kept from it.
    assert_eq!(asids.switch_to(&AsidCell::new(), 0).asid, 1);
    for expected in 2..u16::MAX {
        assert_eq!(asids.switch_to(&AsidCell::new(), 0).asid, expected);
    }
    assert_eq!(asids.rollovers(), 1);
    assert_eq!(asids.switch_to(&AsidCell::new(), 0).asid, 1);
    assert_eq!(asids.rollovers(), 2);
}

/// What every CPU holds at the rollover is dropped before the CPU changes to another space.
#[test]
fn a_new_generation_begins_with_a_flush_on_every_cpu() {
    let mut machine = Machine::new(BITS, 20);
    machine.switch(1, 0);
    machine.idle(1);
    let old = machine.spaces[0].cell.current();
    machine.switch(1, 1);
    // The other CPU uses up the rest; the next generation hands out the first space's again.
    (2..20).for_each(|space| machine.switch(0, space));
    let heir = (2..20).find(|&space| machine.spaces[space].cell.current() == old);
    let heir = heir.expect("20 spaces need every identifier");
    assert!(machine.asids.rollovers() > 0);
    machine.switch(1, heir);
    machine.check();
    assert!(machine.flushes >= 2);
}

/// A CPU that stays with its space through rollovers keeps its identifier, and so does the space
/// on every other CPU, and nobody else gets it.
#[test]
fn what_a_cpu_has_loaded_survives_rollovers() {
    let mut machine = Machine::new(BITS, 41);
    machine.switch(1, 40);
    let kept = machine.spaces[40].cell.current();
    for space in (0..40).chain(0..40) {
        machine.switch(0, space);
        machine.touch(1);
        machine.check();
    }
    assert!(machine.asids.rollovers() >= 10);
    machine.switch(2, 40);
    assert_eq!(machine.spaces[40].cell.current(), kept);
    machine.invalidate(40);
    machine.touch(1);
    machine.touch(2);
    machine.check();
}

/// The same while the CPU is idle: it may come back to the space without the lock.
#[test]
fn an_idle_cpu_comes_back_to_what_it_had() {
    let mut machine = Machine::new(BITS, 20);
    machine.switch(1, 0);
    machine.idle(1);
    (1..20).for_each(|space| machine.switch(0, space));
    machine.invalidate(0);
    machine.switch(1, 0);
    machine.check();
}

#[test]
fn the_fast_path_assigns_and_flushes_nothing() {
    let asids = Asids::<CPUS>::new(4, CPUS, 1).unwrap();
    let (a, b) = (AsidCell::new(), AsidCell::new());
    assert!(asids.switch_to(&a, 0).assigned && asids.switch_to(&b, 0).assigned);
    for cell in [&a, &b, &a] {
        let switched = asids.switch_to(cell, 0);
        assert_eq!((switched.assigned, switched.flush_local), (false, false));
        assert_eq!(switched.asid, cell.current());
    }
    // Another CPU's first change takes the slow path to the same identifier.
    let first = asids.switch_to(&a, 1);
    assert_eq!((first.asid, first.assigned), (a.current(), false));
}

#[test]
fn too_few_identifiers_are_refused_and_the_boot_argument_is_raised_to_what_suffices() {
    let refused = |bits, cpus, aside| Asids::<16>::new(bits, cpus, aside).err();
    assert_eq!(refused(4, 14, 2), Some(AsidError::TooFew));
    assert_eq!(refused(4, 13, 2), None);
    assert_eq!(refused(17, 1, 1), Some(AsidError::TooManyBits));
    assert_eq!(usable_bits(16, None, 16), 16);
    assert_eq!(usable_bits(8, Some(16), 1), 8);
    assert_eq!(usable_bits(16, Some(1), 4), 4);
    assert_eq!(usable_bits(16, Some(4), 13), 4);
    assert_eq!(usable_bits(16, Some(4), 14), 5);
}

#[test]
fn a_cpu_notices_a_space_that_changed_its_levels() {
    let cell = AsidCell::new();
    assert!(!cell.changes_levels(0, 3), "nothing was cached before");
    assert!(!cell.changes_levels(0, 3));
    assert!(cell.changes_levels(0, 4));
    assert!(!cell.changes_levels(0, 4), "told once");
    assert!(!cell.changes_levels(1, 4), "each CPU for itself");
}
