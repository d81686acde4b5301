//! A fault against what changes its area, or gives up its page.

use arm64::attrs::Prot;
use loom::thread;
use mm::{Access, FaultOutcome, Verb, VmaFlags};

use crate::machine::PAGE;
use crate::run::explore_bounded;
use crate::stage::{ENTRIES, FRAMES, Space, World, fault, map, rights, run, space};

/// A write to page 1 while `change` runs. `with_table`: page 0 is mapped before.
fn fault_against(
    with_table: bool,
    change: impl Fn(&Space) + Send + Sync + 'static,
    check: impl Fn(&Space, FaultOutcome) + Send + Sync + 'static,
) {
    explore_bounded(4, FRAMES, ENTRIES, move |machine| {
        let world = World::new(machine);
        let space = space(world.context, 0, 2, None);
        if with_table {
            assert_eq!(fault(&space, 0, Access::Write), FaultOutcome::Done);
        }
        let theirs = space.clone();
        let faulting = thread::spawn(move || fault(&theirs, 1, Access::Write));
        change(&space);
        let outcome = faulting.join().expect("a fault ends");
        check(&space, outcome);
        world.end(space);
    });
}

fn unmap(space: &Space) {
    let (addr, len) = (0, 2 * PAGE);
    run(space, Verb::Unmap { addr, len }).expect("an unmapping");
}

fn unmapped(space: &Space, _outcome: FaultOutcome) {
    for page in 0..2 {
        assert_eq!(
            rights(space, page),
            None,
            "page {page} is mapped in no area"
        );
    }
    assert_eq!(space.table_stats().live(), 1, "a table is left");
}

fn fault_against_munmap_without_a_table() {
    fault_against(false, unmap, unmapped);
}

fn fault_against_munmap_with_a_table() {
    fault_against(true, unmap, unmapped);
}

fn fault_against_mprotect_without_a_table() {
    fault_against(false, protect, protected);
}

fn fault_against_mprotect_with_a_table() {
    fault_against(true, protect, protected);
}

fn protect(space: &Space) {
    let (addr, len, prot) = (0, 2 * PAGE, Prot::READ);
    run(space, Verb::Protect { addr, len, prot }).expect("a change of rights");
}

fn protected(space: &Space, _outcome: FaultOutcome) {
    let may_write = rights(space, 1).is_some_and(|prot| prot.contains(Prot::WRITE));
    assert!(!may_write, "writable where the area is not");
}

/// The new mapping shows nothing of what a fault made of the old one.
fn fault_against_a_mapping_over_it() {
    fault_against(
        true,
        |space| map(space, 0, 1, None),
        |space, outcome| {
            assert_eq!(rights(space, 0), None, "what was mapped before");
            assert_eq!(outcome, FaultOutcome::Done, "another area's fault waits");
            assert!(rights(space, 1).is_some());
        },
    );
}

/// Giving up the other page of the table reclaims it, or does not: the fault is not lost.
fn fault_against_reclaim_of_its_table() {
    let discard = |space: &Space| {
        let (addr, len) = (0, PAGE);
        run(space, Verb::DontNeed { addr, len }).expect("pages given up");
    };
    fault_against(true, discard, |space, outcome| {
        assert_eq!(outcome, FaultOutcome::Done);
        assert!(rights(space, 1).is_some(), "a page is lost with its table");
        assert_eq!(rights(space, 0), None);
    });
}

/// After arming, whoever asks about a page that nobody has mapped by then is told to wait for a
/// monitor.
fn fault_against_arm() {
    for with_table in [false, true] {
        let arm = |space: &Space| {
            let armed = space.arm(0, 2 * PAGE, VmaFlags::UFFD_MISSING);
            armed.expect("an area to watch");
        };
        fault_against(with_table, arm, |space, outcome| {
            let mapped = rights(space, 1).is_some();
            assert_eq!(mapped, outcome == FaultOutcome::Done);
            assert!(mapped || outcome == FaultOutcome::Bus);
            if !mapped {
                assert_eq!(fault(space, 1, Access::Write), FaultOutcome::Bus);
            }
        });
    }
}

sync::models! {
    fault_against_munmap_without_a_table {
        SkipCurrent: "page 1 is mapped in no area",
        RetireNothing: "page 1 is mapped in no area",
        RetireLate: "page 1 is mapped in no area",
    }
    fault_against_munmap_with_a_table { SkipCurrent: "page 1 is mapped in no area" }
    fault_against_mprotect_without_a_table { SkipCurrent: "writable where the area is not" }
    fault_against_mprotect_with_a_table { SkipCurrent: "writable where the area is not" }
    fault_against_a_mapping_over_it {}
    fault_against_reclaim_of_its_table { UnlinkUnlocked: "is lost" }
    fault_against_arm {}
}
