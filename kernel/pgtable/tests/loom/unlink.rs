//! Unlinking empty tables against walkers and against faults that want to use them (CTOR-21, GUP-09,
//! GUP-10, PTE-17).

use arm64::addr::Pfn;
use arm64::attrs::Attrs;
use arm64::geometry::Level;
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;
use pgtable::{Graveyard, Machine, Walked};

use crate::machine::{LoomMachine, alone, attrs, end, map, pages, space, unmap, walk};
use crate::run::explore;

const FRAMES: u64 = 16;

/// Makes the free frame that comes next a table full of entries which nothing in the model maps: what
/// a walker must not meet in a table that was freed under it.
fn poison(machine: &'static LoomMachine, elsewhere: Pfn) {
    let frames = machine.frames();
    let table = frames.alloc_table().expect("a free frame");
    let pte = machine.format().leaf(
        elsewhere.start(),
        Attrs::user(arm64::attrs::Prot::RW),
        Level::L3,
    );
    for index in 0..frames.cells_per_table() {
        // SAFETY: the table is ours, and has so many cells.
        let cell = unsafe { &*frames.cells(table.pfn()).add(index).as_ptr() };
        cell.store(pte.raw(), Ordering::Relaxed);
    }
    frames.free_table(table);
}

/// A walk inside of a read-side section, while the tables on its way are emptied, unlinked, flushed,
/// and given back as soon as the grace period allows.
fn walk_against_unlink(shape: &'static [u8]) {
    explore(FRAMES, 2, move |machine| {
        let (space, graves) = (Arc::new(space(machine, shape)), Graveyard::new());
        let page = machine.page();
        let (pa, elsewhere) = (page.pfn().start(), page.pfn().add(1));
        map(&space, 0, page, attrs());
        machine.grace().online(1);
        let theirs = space.clone();
        let walker = thread::spawn(move || {
            let seen = walk(&theirs, 0);
            match seen {
                Walked::Seen { .. } => {
                    let found = seen.address(0, theirs.machine().format());
                    assert_eq!(found, Some(pa), "walked through a freed table");
                }
                Walked::Miss { value, .. } => assert!(value.is_none(), "decided on two values"),
            }
            theirs.machine().grace().quiescent(1);
        });
        unmap(&space, &graves, pages(0, 1));
        let freed = graves.reap(machine, 99);
        (0..freed).for_each(|_| poison(machine, elsewhere));
        if freed == 0 && graves.is_empty() {
            // Freed without a grace period, which only a fault does.
            poison(machine, elsewhere);
        }
        walker.join().expect("a walk ends");
        machine.grace().idle_enter(1);
        end(alone(space), &graves, FRAMES, 1);
    });
}

fn walk_against_unlink_of_a_table() {
    walk_against_unlink(&[1, 1]);
}

fn walk_against_unlink_of_two_tables() {
    walk_against_unlink(&[1, 1, 1]);
}

/// Unmapping the only page of a table against a fault that maps the other page of the same table, or
/// of the same table a level above: what the fault maps stays mapped.
fn fault_against_unlink(shape: &'static [u8], page: u64) {
    explore(FRAMES, 2, move |machine| {
        let (space, graves) = (Arc::new(space(machine, shape)), Graveyard::new());
        map(&space, 0, machine.page(), attrs());
        let (theirs, frame) = (space.clone(), machine.page());
        let pa = frame.pfn().start();
        let fault = thread::spawn(move || map(&theirs, page, frame, attrs()));
        unmap(&space, &graves, pages(0, 1));
        fault.join().expect("a fault ends");
        let found = walk(&space, page).address(page << 12, machine.format());
        assert_eq!(found, Some(pa), "what the fault mapped is gone");
        unmap(&space, &graves, pages(0, 4));
        end(alone(space), &graves, FRAMES, 1);
    });
}

fn fault_in_a_table_against_its_unlink() {
    fault_against_unlink(&[1, 1], 1);
}

fn fault_under_a_table_against_its_unlink() {
    fault_against_unlink(&[1, 1, 1], 2);
}

/// Two unmap, each its own page or both the same: every table and frame is given back once, and
/// neither waits for the other for ever.
fn unmap_against_unmap(shape: &'static [u8], second: u64) {
    explore(FRAMES, 2, move |machine| {
        let (space, graves) = (Arc::new(space(machine, shape)), Arc::new(Graveyard::new()));
        map(&space, 0, machine.page(), attrs());
        if second != 0 {
            map(&space, second, machine.page(), attrs());
        }
        let (theirs, buried) = (space.clone(), graves.clone());
        let other = thread::spawn(move || unmap(&theirs, &buried, pages(second, second + 1)));
        unmap(&space, &graves, pages(0, 1));
        other.join().expect("an unmapping ends");
        end(alone(space), &graves, FRAMES, 1);
    });
}

fn unmap_against_unmap_of_the_same() {
    unmap_against_unmap(&[1, 1], 0);
}

fn unmap_against_unmap_of_a_neighbour() {
    unmap_against_unmap(&[1, 1], 1);
}

fn unmap_against_unmap_under_one_table() {
    unmap_against_unmap(&[1, 1, 1], 2);
}

sync::models! {
    walk_against_unlink_of_a_table {
        DestructBeforeGrace: "walked through a freed table",
        ReloadInWalk: "decided on two values",
    }
    walk_against_unlink_of_two_tables { DestructBeforeGrace: "walked through a freed table" }
    fault_in_a_table_against_its_unlink { UnlinkUnlocked: "is gone" }
    fault_under_a_table_against_its_unlink {
        LinkUnderDeadParent: "tables are left",
        UnlinkUnlocked: "is gone",
    }
    unmap_against_unmap_of_the_same {}
    unmap_against_unmap_of_a_neighbour {}
    unmap_against_unmap_under_one_table {}
}
