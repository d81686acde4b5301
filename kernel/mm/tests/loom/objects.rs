//! Pages of an object against what takes them away, and entries that move meanwhile (D5, D14).

use frame::slab::Ref;
use loom::thread;
use mm::object::{Punch, Resize};
use mm::{Access, FaultOutcome, MemObject, RemapFlags, Verb};
use pgtable::Machine;

use crate::machine::PAGE;
use crate::run::explore_bounded;
use crate::stage::{ENTRIES, FRAMES, Space, World, fault, map, rights, run, space};

fn truncate(object: &Ref<MemObject>, pages: u64) {
    let mut resize = Resize::begin(object, pages * PAGE).expect("a shorter object");
    while !resize.step(1) {}
}

fn punch(object: &Ref<MemObject>) {
    let mut punch = Punch::begin(object, 0, PAGE).expect("a hole");
    while !punch.step(1) {}
}

/// A read of page 1, the only one of an object, while `take` takes it away. `with_table`: page 0,
/// of another area, is mapped.
fn fault_against(
    with_table: bool,
    take: impl Fn(&Ref<MemObject>) + Send + Sync + 'static,
    check: impl Fn(&Space, FaultOutcome) + Send + Sync + 'static,
) {
    explore_bounded(3, FRAMES, ENTRIES, move |machine| {
        let world = World::new(machine);
        let object = world.object(1);
        let space = space(world.context, 1, 1, Some(&object));
        if with_table {
            map(&space, 0, 1, None);
            assert_eq!(fault(&space, 0, Access::Write), FaultOutcome::Done);
        }
        let theirs = space.clone();
        let faulting = thread::spawn(move || fault(&theirs, 1, Access::Read));
        take(&object);
        let outcome = faulting.join().expect("a fault ends");
        check(&space, outcome);
        drop(object);
        world.end(space);
    });
}

fn truncated(space: &Space, outcome: FaultOutcome) {
    assert_eq!(rights(space, 1), None, "a page is behind the end");
    assert!(matches!(outcome, FaultOutcome::Done | FaultOutcome::Bus));
}

fn fault_against_truncate_with_a_table() {
    fault_against(true, |object| truncate(object, 0), truncated);
}

fn fault_against_truncate_without_a_table() {
    fault_against(false, |object| truncate(object, 0), truncated);
}

/// What is mapped after a hole was punched is the page that the object has then.
fn fault_against_punch() {
    fault_against(true, punch, |space, outcome| {
        assert_eq!(outcome, FaultOutcome::Done);
        let stay = ();
        let section = space.table().machine().read_side(&stay);
        if let Ok(frame) = space.table().pin(PAGE, &section) {
            // The entry's reference, ours, and the object's.
            assert!(frame.references() >= 3, "mapped, and not the object's");
        }
    });
}

/// A page inside is read, and its neighbour is behind the end by then, or soon.
fn around_against_truncate() {
    explore_bounded(3, FRAMES, ENTRIES, |machine| {
        let world = World::new(machine);
        let object = world.object(2);
        let space = space(world.context, 0, 2, Some(&object));
        let theirs = space.clone();
        let faulting = thread::spawn(move || fault(&theirs, 0, Access::Read));
        truncate(&object, 1);
        let outcome = faulting.join().expect("a fault ends");
        assert_eq!(outcome, FaultOutcome::Done);
        assert!(rights(&space, 0).is_some());
        assert_eq!(rights(&space, 1), None, "a page is behind the end");
        drop(object);
        world.end(space);
    });
}

/// A page moves to the other table of the space while `take` takes it away.
fn move_against(from: u64, take: impl Fn(&Ref<MemObject>) + Send + Sync + 'static) {
    explore_bounded(3, FRAMES, ENTRIES, move |machine| {
        let world = World::new(machine);
        let object = world.object(1);
        let space = space(world.context, from, 1, Some(&object));
        assert_eq!(fault(&space, from, Access::Write), FaultOutcome::Done);
        let theirs = space.clone();
        let to = 2 - from;
        let moving = thread::spawn(move || {
            let verb = Verb::Remap {
                old: from * PAGE,
                old_len: PAGE,
                new_len: PAGE,
                flags: RemapFlags::MAYMOVE | RemapFlags::FIXED,
                new: to * PAGE,
            };
            assert_eq!(run(&theirs, verb), Ok(to * PAGE));
        });
        take(&object);
        moving.join().expect("a move ends");
        for page in [from, to] {
            assert_eq!(
                rights(&space, page),
                None,
                "page {page} outlived its object"
            );
        }
        drop(object);
        world.end(space);
    });
}

fn move_down_against_truncate() {
    move_against(2, |object| truncate(object, 0));
}

fn move_up_against_truncate() {
    move_against(0, |object| truncate(object, 0));
}

fn move_down_against_punch() {
    move_against(2, punch);
}

sync::models! {
    fault_against_truncate_with_a_table {
        MapDetached: "a page is behind the end",
        ShrinkLate: "a page is behind the end",
    }
    fault_against_truncate_without_a_table { ShrinkLate: "a page is behind the end" }
    fault_against_punch { MapDetached: "mapped, and not the object's" }
    around_against_truncate { AroundBeyondEnd: "a page is behind the end" }
    move_down_against_truncate {
        MoveUnlocked: "outlived its object",
        MoveBeforeLink: "outlived its object",
    }
    move_up_against_truncate {}
    move_down_against_punch { MoveUnlocked: "outlived its object" }
}
