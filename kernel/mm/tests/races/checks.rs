//! The checks under the lock of a table (D5): whatever a fault was planned from and does not hold any
//! more, it begins again. The other CPU comes when the fault has decided and has no lock yet.

use arm64::attrs::Prot;
use mm::{Advice, Backing, FaultOutcome, MapFlags, SegvCode, Verb, VmaFlags};
use pgtable::{Machine, Pause};

use crate::stage::*;

const NO_AREA: FaultOutcome = FaultOutcome::Segv {
    code: SegvCode::MapErr,
};

/// A stage with `pages` of anonymous memory, the first of them touched.
fn anonymous(pages: u64) -> Stage {
    let stage = Stage::new();
    map(&stage.space, BASE, pages, Backing::ANON, MapFlags::empty());
    assert_eq!(write(&stage.space, BASE), FaultOutcome::Done);
    stage
}

#[test]
fn a_fault_planned_before_an_unmapping_maps_nothing_after_it() {
    let stage = anonymous(4);
    let other = stage.space.clone();
    stage
        .machine
        .script(Pause::BeforeLock, move || unmap(&other, BASE + PAGE, 1));
    assert_eq!(write(&stage.space, BASE + PAGE), NO_AREA);
    assert!(!is_mapped(&stage.space, BASE + PAGE));
    stage.end();
}

#[test]
fn a_fault_that_would_make_a_table_links_none_after_an_unmapping() {
    let stage = anonymous(4);
    let far = BASE + (2 << 20);
    map(&stage.space, far, 4, Backing::ANON, MapFlags::empty());
    let (other, tables) = (stage.space.clone(), stage.space.table_stats().live());
    stage
        .machine
        .script(Pause::TableMissing, move || unmap(&other, far, 4));
    assert_eq!(write(&stage.space, far), NO_AREA);
    assert_eq!(stage.space.table_stats().live(), tables);
    stage.end();
}

#[test]
fn what_is_planned_is_retired_before_the_first_visit() {
    let stage = anonymous(2);
    let (machine, space) = (stage.machine, &stage.space);
    let fault = || write(space, BASE + PAGE);
    let outcome = between(machine, Pause::BeforeLock, fault, |goes_on| {
        // Everything is taken out, and not flushed yet.
        machine.script(Pause::BeforeFlush, goes_on);
        unmap(space, BASE, 2);
    });
    assert!(!is_mapped(space, BASE + PAGE), "mapped in no area");
    assert_eq!(outcome, FaultOutcome::Busy);
    stage.end();
}

#[test]
fn a_fault_in_a_table_that_is_reclaimed_makes_another() {
    let stage = anonymous(64);
    let other = stage.space.clone();
    stage
        .machine
        .script(Pause::BeforeLock, move || discard(&other, BASE, 64));
    assert_eq!(write(&stage.space, BASE + 63 * PAGE), FaultOutcome::Done);
    assert!(!is_mapped(&stage.space, BASE));
    assert!(is_mapped(&stage.space, BASE + 63 * PAGE));
    stage.end();
}

#[test]
fn the_right_to_write_is_not_given_to_a_page_that_came_meanwhile() {
    let stage = Stage::new();
    let object = stage.object(1);
    let space = &stage.space;
    map_private(space, BASE, 1, &object);
    map_shared(space, BASE + PAGE, 1, &object);
    put(space, BASE, 7).unwrap();
    protect(space, BASE, 1, Prot::READ);
    protect(space, BASE, 1, RW);
    // The private copy may be read only; before it is made writable, it goes, and the object's page
    // comes.
    let other = space.clone();
    stage.machine.script(Pause::BeforeLock, move || {
        discard(&other, BASE, 1);
        assert_eq!(read(&other, BASE), FaultOutcome::Done);
    });
    assert_eq!(write(space, BASE), FaultOutcome::Done);
    put(space, BASE, 9).unwrap();
    assert_eq!(get(space, BASE), Ok(9));
    assert_eq!(
        get(space, BASE + PAGE),
        Ok(1),
        "written through a private mapping"
    );
    drop(object);
    stage.end();
}

#[test]
fn a_copy_does_not_take_the_place_of_a_page_that_came_meanwhile() {
    let stage = Stage::new();
    let space = &stage.space;
    map(space, BASE, 1, Backing::ANON, MapFlags::empty());
    assert_eq!(read(space, BASE), FaultOutcome::Done);
    let other = space.clone();
    stage.machine.script(Pause::BeforeLock, move || {
        discard(&other, BASE, 1);
        put(&other, BASE, 7).unwrap();
    });
    assert_eq!(write(space, BASE), FaultOutcome::Done);
    assert_eq!(get(space, BASE), Ok(7), "a write is lost");
    stage.end();
}

#[test]
fn a_page_that_left_its_object_is_not_mapped() {
    let stage = Stage::new();
    let (object, space) = (stage.object(2), &stage.space);
    map_shared(space, BASE, 1, &object);
    // The table is there and stays: what is stopped is the lock of the fault's own entry.
    map_beside(space, BASE);
    let other = object.clone();
    stage
        .machine
        .script(Pause::BeforeLock, move || punch(&other, 0, 1));
    assert_eq!(get(space, BASE), Ok(0), "what was in the hole");
    let other = object.clone();
    discard(space, BASE, 1);
    stage
        .machine
        .script(Pause::BeforeLock, move || resize(&other, 0));
    assert_eq!(read(space, BASE), FaultOutcome::Bus);
    assert!(!is_mapped(space, BASE));
    drop(object);
    stage.end();
}

#[test]
fn a_page_that_left_its_object_is_not_copied() {
    let stage = Stage::new();
    let (object, space) = (stage.object(2), &stage.space);
    map_private(space, BASE, 1, &object);
    map_beside(space, BASE);
    let other = object.clone();
    stage
        .machine
        .script(Pause::BeforeLock, move || resize(&other, 0));
    assert_eq!(write(space, BASE), FaultOutcome::Bus);
    assert!(!is_mapped(space, BASE));
    drop(object);
    stage.end();
}

#[test]
fn a_page_that_left_its_object_is_not_copied_over_a_marker() {
    let stage = Stage::new();
    let (object, space) = (stage.object(2), &stage.space);
    map_private(space, BASE, 1, &object);
    space.arm(BASE, PAGE, VmaFlags::UFFD_WP).unwrap();
    space.write_protect(BASE, BASE + PAGE, true).unwrap();
    space.arm(BASE, PAGE, VmaFlags::empty()).unwrap();
    let other = object.clone();
    stage
        .machine
        .script(Pause::BeforeLock, move || resize(&other, 0));
    assert_eq!(write(space, BASE), FaultOutcome::Bus);
    assert!(!is_mapped(space, BASE), "behind the end of the object");
    drop(object);
    stage.end();
}

#[test]
fn a_block_is_not_mapped_after_an_unmapping() {
    let stage = Stage::new();
    let (space, pages) = (&stage.space, 512);
    map(space, BASE, pages, Backing::ANON, MapFlags::empty());
    let advice = Advice::new(VmaFlags::HUGEPAGE, VmaFlags::empty());
    let (addr, len) = (BASE, pages * PAGE);
    run(space, Verb::Advise { addr, len, advice }).unwrap();
    assert_eq!(write(space, BASE), FaultOutcome::Again);
    let other = space.clone();
    stage
        .machine
        .script(Pause::TableMissing, move || unmap(&other, BASE, pages));
    assert_eq!(write(space, BASE), NO_AREA);
    assert!(!is_mapped(space, BASE));
    stage.end();
}

/// What was mapped around and never accessed is copied with what it holds.
#[test]
fn a_page_that_was_never_read_is_copied_as_it_is() {
    let stage = Stage::new();
    stage.machine.set_records_access(true);
    let (object, space) = (stage.object(4), &stage.space);
    map_private(space, BASE, 4, &object);
    assert_eq!(read(space, BASE), FaultOutcome::Done);
    let old = |va| {
        entry(space, va, |look| {
            !look.value.is_none() && !look.value.young()
        })
    };
    assert!(
        old(BASE + PAGE),
        "nothing was mapped around, or as accessed"
    );
    assert_eq!(write(space, BASE + PAGE), FaultOutcome::Done);
    assert_eq!(get(space, BASE + PAGE), Ok(2));
    // The kernel's own access takes the same way.
    assert!(old(BASE + 2 * PAGE));
    put(space, BASE + 2 * PAGE + 1, 1).unwrap();
    assert_eq!(get(space, BASE + 2 * PAGE), Ok(3));
    drop(object);
    stage.end();
}

#[test]
fn a_page_that_somebody_reads_is_copied_before_it_is_written() {
    let stage = Stage::new();
    let (object, space) = (stage.object(1), &stage.space);
    map_private(space, BASE, 1, &object);
    put(space, BASE, 7).unwrap();
    protect(space, BASE, 1, Prot::READ);
    protect(space, BASE, 1, RW);
    let stay = ();
    let side = stage.machine.read_side(&stay);
    let pinned = space.table().pin(BASE, &side).unwrap();
    put(space, BASE, 8).unwrap();
    let mut byte = [0];
    pinned.read(0, &mut byte);
    assert_eq!(byte, [7], "a reader sees what is written later");
    assert_eq!(get(space, BASE), Ok(8));
    drop((pinned, object));
    stage.end();
}
