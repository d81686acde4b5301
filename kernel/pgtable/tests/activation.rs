//! The steps of activation on a CPU that uses whatever the architecture allows.
#![cfg(not(loom))]

use std::collections::HashSet;

use arm64::addr::PhysAddr;
use pgtable::RootWord;
use pgtable::activation::{Activation, Needs, Step, is_plain, steps};

const RESERVED: PhysAddr = PhysAddr::new(0x1000);
const OLD: PhysAddr = PhysAddr::new(0x2000);
const NEW: PhysAddr = PhysAddr::new(0x3000);

/// A value written before the last ISB is in use; one written since may be.
#[derive(Clone, Copy)]
struct Register<T> {
    now: T,
    written: T,
}

impl<T: Copy> Register<T> {
    fn of(value: T) -> Self {
        Self {
            now: value,
            written: value,
        }
    }

    fn values(self) -> [T; 2] {
        [self.now, self.written]
    }
}

/// A translation that is cached: under which identifier, from which root with which T0SZ.
type Cached = (u16, PhysAddr, u8);

/// One CPU that walks at every moment, speculatively, and forgets nothing.
struct Cpu {
    ttbr: Register<(PhysAddr, u16)>,
    t0sz: Register<u8>,
    cached: HashSet<Cached>,
    /// Invalidated, but not complete before a barrier.
    doomed: HashSet<Cached>,
    published: bool,
}

impl Cpu {
    fn walk(&mut self) {
        for (root, asid) in self.ttbr.values() {
            for t0sz in self.t0sz.values() {
                if root != RESERVED {
                    self.cached.insert((asid, root, t0sz));
                }
            }
        }
    }

    fn execute(&mut self, step: Step) {
        self.walk();
        match step {
            Step::ReservedRoot => self.ttbr.written = (RESERVED, 0),
            Step::Root(target) => {
                assert_eq!(
                    self.t0sz.values(),
                    [target.t0sz; 2],
                    "the root comes after its T0SZ"
                );
                assert!(
                    self.published,
                    "an identifier is published before it is used"
                );
                self.ttbr.written = (target.root, target.asid);
            }
            Step::Tcr(t0sz) => self.t0sz.written = t0sz,
            Step::Isb => {
                self.ttbr.now = self.ttbr.written;
                self.t0sz.now = self.t0sz.written;
            }
            Step::FlushAsid(asid) => {
                let named = self.cached.iter().filter(|cached| cached.0 == asid);
                self.doomed.extend(named.copied().collect::<Vec<_>>());
            }
            Step::FlushAll => self.doomed.extend(self.cached.iter().copied()),
            Step::DsbNsh => {
                for gone in self.doomed.drain() {
                    self.cached.remove(&gone);
                }
            }
            Step::DsbIsh => self.published = true,
        }
        self.walk();
    }
}

/// From a CPU that has `from` loaded (or the reserved root, under its T0SZ) to `to`, with what its
/// TLB holds of before.
fn run(from: Option<Activation>, loaded_t0sz: u8, to: Activation, needs: Needs, cached: &[Cached]) {
    let root = from.map_or((RESERVED, 0), |from| (from.root, from.asid));
    let mut cpu = Cpu {
        ttbr: Register::of(root),
        t0sz: Register::of(loaded_t0sz),
        cached: cached.iter().copied().collect(),
        doomed: HashSet::new(),
        published: !needs.assigned,
    };
    let list = steps(loaded_t0sz, &to, needs);
    for &step in list.as_slice() {
        cpu.execute(step);
    }
    assert_eq!(cpu.ttbr.now, (to.root, to.asid), "the root is loaded");
    for &(asid, root, t0sz) in &cpu.cached {
        let whole = (root == to.root) == (t0sz == to.t0sz) || root == OLD && t0sz == loaded_t0sz;
        assert!(whole, "a root was walked with the other one's T0SZ");
        if asid == to.asid {
            assert_eq!(
                (root, t0sz),
                (to.root, to.t0sz),
                "what was cached before shows through"
            );
        }
    }
    let plain = is_plain(loaded_t0sz, &to, needs);
    let short = [Step::Root(to), Step::Isb];
    assert_eq!(
        plain,
        *list.as_slice() == short,
        "the short way is the same way"
    );
}

fn word(root: PhysAddr, levels: u8) -> RootWord {
    RootWord::new(root, levels)
}

const LEVELS: [u8; 3] = [3, 4, 5];

#[test]
fn t0sz_is_that_of_the_widest_range() {
    let t0sz = |levels| Activation::new(word(NEW, levels), 1).t0sz;
    assert_eq!(LEVELS.map(t0sz), [25, 16, 12]);
}

/// Every pair of sizes, from a space or from the reserved root, with and without a rollover.
#[test]
fn no_root_is_ever_walked_with_another_ones_size() {
    for (from, to) in LEVELS.iter().flat_map(|&f| LEVELS.map(|t| (f, t))) {
        let old = Activation::new(word(OLD, from), 1);
        let new = Activation::new(word(NEW, to), 2);
        for loaded in [Some(old), None] {
            for (assigned, flush_all) in
                [(false, false), (true, false), (true, true), (false, true)]
            {
                let needs = Needs {
                    assigned,
                    flush_all,
                    regrown: false,
                };
                // After a rollover the identifier may be one that another space had before.
                let stale = [(2, OLD, old.t0sz)];
                let cached = if flush_all { &stale[..] } else { &[] };
                run(loaded, old.t0sz, new, needs, cached);
            }
        }
    }
}

/// A space that has grown keeps its identifier: what was cached with fewer levels must go, whether
/// the CPU has the old root loaded (a fault above its range), another space, or none.
#[test]
fn what_was_cached_with_fewer_levels_goes_before_the_grown_root_is_loaded() {
    for (from, to) in [(3, 4), (3, 5), (4, 5)] {
        let old = Activation::new(word(OLD, from), 1);
        let new = Activation::new(word(NEW, to), 1);
        let needs = Needs {
            regrown: true,
            ..Needs::default()
        };
        let cached = [(1, OLD, old.t0sz)];
        run(Some(old), old.t0sz, new, needs, &cached);
        run(None, old.t0sz, new, needs, &cached);
        // It had a space of the new size in between.
        run(None, new.t0sz, new, needs, &cached);
    }
}

#[test]
fn an_ordinary_switch_is_one_register_and_a_barrier() {
    let new = Activation::new(word(NEW, 3), 2);
    let list = steps(25, &new, Needs::default());
    assert_eq!(list.as_slice(), [Step::Root(new), Step::Isb]);
}

#[test]
fn a_reload_after_growth_is_the_sequence_of_the_decision() {
    let new = Activation::new(word(NEW, 4), 7);
    let needs = Needs {
        regrown: true,
        ..Needs::default()
    };
    let expected = [
        Step::ReservedRoot,
        Step::Isb,
        Step::Tcr(16),
        Step::Isb,
        Step::FlushAsid(7),
        Step::DsbNsh,
        Step::Isb,
        Step::Root(new),
        Step::Isb,
    ];
    assert_eq!(steps(25, &new, needs).as_slice(), expected);
}
