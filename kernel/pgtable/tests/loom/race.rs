//! The race of D5: a fault that creates the table of its page against an unmapping of the range.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use pgtable::{Graveyard, LockError, Machine, Walked};

use crate::machine::{PAGE, Space, alone, attrs, end, map, pages, space, unmap, walk};
use crate::run::{explore, explore_bounded};

const FRAMES: u64 = 16;

/// A fault on page number `page`: it was planned before the area was retired, or finds out.
fn fault(space: &Space, page: u64, retired: &AtomicBool) {
    let stay = ();
    let machine = space.machine();
    let section = machine.read_side(&stay);
    let frame = machine.page();
    let still = || !retired.load(Ordering::Relaxed);
    match space.lock_leaf(page * PAGE, &section, still) {
        Ok(leaf) => leaf
            .install(page * PAGE, frame, attrs())
            .expect("an empty slot"),
        Err(error) => assert_eq!(error, LockError::Retired),
    }
}

/// The unmapper announces, visits, flushes; afterwards nothing is mapped in the range, whatever the
/// fault did, and no table is left of it.
fn fault_against_unmap(shape: &'static [u8], with_table: bool) {
    let switches = if shape.len() > 2 { 4 } else { 5 };
    explore_bounded(switches, FRAMES, 2, move |machine| {
        let (space, graves) = (Arc::new(space(machine, shape)), Graveyard::new());
        if with_table {
            map(&space, 0, machine.page(), attrs());
        }
        let retired = Arc::new(AtomicBool::new(false));
        let (theirs, flag) = (space.clone(), retired.clone());
        let faulting = thread::spawn(move || fault(&theirs, 1, &flag));
        retired.store(true, Ordering::Relaxed);
        unmap(&space, &graves, pages(0, 2));
        faulting.join().expect("a fault ends");
        for page in 0..2 {
            let seen = matches!(walk(&space, page), Walked::Seen { .. });
            assert!(!seen, "page {page} is mapped after the unmapping");
        }
        end(alone(space), &graves, FRAMES, 1);
    });
}

fn fault_against_unmap_of_an_absent_table() {
    fault_against_unmap(&[1, 1], false);
}

fn fault_against_unmap_of_two_absent_tables() {
    fault_against_unmap(&[1, 1, 1], false);
}

fn fault_against_unmap_of_a_present_table() {
    fault_against_unmap(&[1, 1], true);
}

/// Two faults, of which each may find the table that the other has made, against the unmapper.
fn two_faults_against_unmap() {
    explore_bounded(1, FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, &[1, 1])), Graveyard::new());
        let retired = Arc::new(AtomicBool::new(false));
        let faults = [0, 1].map(|page| {
            let (theirs, flag) = (space.clone(), retired.clone());
            thread::spawn(move || fault(&theirs, page, &flag))
        });
        retired.store(true, Ordering::Relaxed);
        unmap(&space, &graves, pages(0, 2));
        for fault in faults {
            fault.join().expect("a fault ends");
        }
        for page in 0..2 {
            let seen = matches!(walk(&space, page), Walked::Seen { .. });
            assert!(!seen, "page {page} is mapped after the unmapping");
        }
        end(alone(space), &graves, FRAMES, 1);
    });
}

/// Two faults on one page: one page is mapped, the other is given back.
fn fault_against_fault() {
    explore(FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, &[1, 1])), Graveyard::new());
        let theirs = space.clone();
        let install = |space: &Space| {
            let stay = ();
            let section = space.machine().read_side(&stay);
            let frame = space.machine().page();
            let leaf = space.lock_leaf(0, &section, || true).expect("a leaf table");
            leaf.install(0, frame, attrs()).is_ok()
        };
        let other = thread::spawn(move || install(&theirs));
        let mine = install(&space);
        assert_ne!(mine, other.join().expect("a fault ends"));
        unmap(&space, &graves, pages(0, 4));
        end(alone(space), &graves, FRAMES, 1);
    });
}

sync::models! {
    fault_against_unmap_of_an_absent_table {
        SkipAbsentUnlocked: "is mapped after the unmapping",
        LinkRetired: "tables are left",
    }
    fault_against_unmap_of_two_absent_tables {
        SkipAbsentUnlocked: "is mapped after the unmapping",
        LinkRetired: "tables are left",
    }
    fault_against_unmap_of_a_present_table { MiscountEntries: "tables are left" }
    two_faults_against_unmap { SkipAbsentUnlocked: "is mapped after the unmapping" }
    fault_against_fault {}
}
