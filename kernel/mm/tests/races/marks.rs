//! Marks against writing: what they outlive (UF-05, UF-20 to UF-24), and the loss of data that they
//! are there to prevent (UF-04).

use mm::object::Punch;
use mm::{Backing, CopyStop, FaultOutcome, MapFlags, RemapFlags, Verb, VmaFlags};

use crate::stage::*;

const ELSEWHERE: u64 = BASE + (8 << 20);

/// Watches the pages for writes and marks them all.
fn mark(stage: &Stage, addr: u64, pages: u64) {
    let (space, end) = (&stage.space, addr + pages * PAGE);
    space.arm(addr, pages * PAGE, VmaFlags::UFFD_WP).unwrap();
    let mut at = addr;
    while at < end {
        at = space.write_protect(at, end, true).unwrap();
    }
}

/// The thread's schedule: the pages of a hole to be are unmapped; a read beside it maps around; a
/// write comes to a page of the hole that is marked; the pages of the hole are freed.
#[test]
fn a_write_to_a_marked_page_is_asked_about_while_its_hole_is_punched() {
    let stage = Stage::new();
    let (object, space) = (stage.object(16), &stage.space);
    map_shared(space, BASE, 16, &object);
    for page in 0..16 {
        assert_eq!(read(space, BASE + page * PAGE), FaultOutcome::Done);
    }
    discard(space, BASE, 1);
    mark(&stage, BASE + 4 * PAGE, 4);
    space.arm(BASE, 16 * PAGE, VmaFlags::UFFD_WP).unwrap();
    let beside = stage.world.space();
    map_shared(&beside, BASE, 16, &object);

    let mut hole = Punch::begin(&object, 4 * PAGE, 4 * PAGE).unwrap();
    while !hole.is_unmapped() {
        assert!(!hole.step(1));
    }
    assert_eq!(read(space, BASE), FaultOutcome::Done);
    let mapped_around = is_mapped(space, BASE + 5 * PAGE);
    let written = put(space, BASE + 5 * PAGE, 0xee);
    if written.is_ok() {
        while !hole.step(1) {}
        let left = get(space, BASE + 5 * PAGE);
        panic!("nobody was asked about a write, and what was written is lost: {left:?}");
    }
    assert!(!mapped_around, "mapped unasked (UF-01)");
    assert_eq!(written, Err(CopyStop::Fault));
    assert_eq!(space.counters().faults_asked.get(), 1);
    // Another space, which watches nothing, is not concerned (UF-06).
    put(&beside, BASE + 5 * PAGE, 0x11).unwrap();

    while !hole.step(1) {}
    assert_eq!(get(&beside, BASE + 5 * PAGE), Ok(0), "punched");
    // What is read after that is marked still, and a write asked about.
    assert_eq!(get(space, BASE + 5 * PAGE), Ok(0));
    assert!(put(space, BASE + 5 * PAGE, 0xee).is_err());
    assert_eq!(space.counters().faults_asked.get(), 2);
    assert_eq!(beside.counters().faults_asked.get(), 0);
    drop((hole, beside, object));
    stage.end();
}

#[test]
fn a_page_that_comes_back_is_marked_still() {
    let stage = Stage::new();
    let (object, space) = (stage.object(4), &stage.space);
    map_shared(space, BASE, 4, &object);
    mark(&stage, BASE, 4);
    assert_eq!(read(space, BASE), FaultOutcome::Done);
    assert!(is_mapped(space, BASE) && is_marked(space, BASE));
    assert_eq!(write(space, BASE), FaultOutcome::Bus);
    assert_eq!(write(space, BASE + PAGE), FaultOutcome::Bus);
    assert_eq!(space.counters().faults_asked.get(), 2);
    drop(object);
    stage.end();
}

/// A mark that nobody watches any more is dropped by the next access, which comes through at once
/// (UF-25), whatever is around it.
#[test]
fn a_stray_marker_keeps_nobody_out() {
    let stage = Stage::new();
    let (object, space) = (stage.object(16), &stage.space);
    map_shared(space, BASE, 16, &object);
    mark(&stage, BASE, 2);
    space.arm(BASE, 2 * PAGE, VmaFlags::empty()).unwrap();
    assert_eq!(read(space, BASE), FaultOutcome::Done);
    assert!(is_mapped(space, BASE), "faults for ever");
    put(space, BASE, 5).unwrap();
    put(space, BASE + PAGE, 6).unwrap();
    assert!(!is_marked(space, BASE) && !is_marked(space, BASE + PAGE));
    assert_eq!(object.resident_pages(), 16);
    drop(object);
    stage.end();
}

/// What is behind the pages of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    Anonymous,
    Shared,
    Private,
}

/// Two pages of the memory, of which the first was written to, and both marked. In anonymous memory
/// there is a mark only where there is a page.
fn marked(memory: Memory) -> (Stage, frame::slab::Ref<mm::MemObject>) {
    let stage = Stage::new();
    let object = stage.object(2);
    match memory {
        Memory::Anonymous => map(&stage.space, BASE, 2, Backing::ANON, MapFlags::empty()),
        Memory::Shared => map_shared(&stage.space, BASE, 2, &object),
        Memory::Private => map_private(&stage.space, BASE, 2, &object),
    }
    put(&stage.space, BASE, 7).unwrap();
    if memory == Memory::Anonymous {
        put(&stage.space, BASE + PAGE, 7).unwrap();
    }
    mark(&stage, BASE, 2);
    (stage, object)
}

fn marks(stage: &Stage, at: u64) -> [bool; 2] {
    [0, 1].map(|page| is_marked(&stage.space, at + page * PAGE))
}

#[test]
fn giving_pages_up_keeps_the_marks_of_objects_and_drops_those_of_anonymous_memory() {
    for (memory, kept) in [
        (Memory::Anonymous, false),
        (Memory::Shared, true),
        (Memory::Private, true),
    ] {
        let (stage, object) = marked(memory);
        discard(&stage.space, BASE, 2);
        assert_eq!(marks(&stage, BASE), [kept; 2], "{memory:?}");
        assert!(!is_mapped(&stage.space, BASE));
        drop(object);
        stage.end();
    }
}

#[test]
fn holes_and_ends_of_objects_keep_marks() {
    for memory in [Memory::Shared, Memory::Private] {
        let (stage, object) = marked(memory);
        punch(&object, 0, 2);
        assert_eq!(marks(&stage, BASE), [true; 2], "{memory:?}: a hole");
        resize(&object, 0);
        resize(&object, 2);
        assert_eq!(marks(&stage, BASE), [true; 2], "{memory:?}: cut and grown");
        assert!(put(&stage.space, BASE + PAGE, 1).is_err(), "{memory:?}");
        drop(object);
        stage.end();
    }
}

#[test]
fn marks_end_with_their_area() {
    for memory in [Memory::Anonymous, Memory::Shared, Memory::Private] {
        let (stage, object) = marked(memory);
        unmap(&stage.space, BASE, 2);
        assert_eq!(marks(&stage, BASE), [false; 2], "{memory:?}");
        map_shared(&stage.space, BASE, 2, &object);
        put(&stage.space, BASE, 1).unwrap();
        drop(object);
        stage.end();
    }
}

#[test]
fn marks_move_and_stay_when_areas_are_split_and_merged() {
    for memory in [Memory::Anonymous, Memory::Shared, Memory::Private] {
        let (stage, object) = marked(memory);
        let space = &stage.space;
        protect(space, BASE, 1, arm64::attrs::Prot::READ);
        assert_eq!((space.area_count(), marks(&stage, BASE)), (2, [true; 2]));
        protect(space, BASE, 1, RW);
        assert_eq!((space.area_count(), marks(&stage, BASE)), (1, [true; 2]));
        let verb = Verb::Remap {
            old: BASE,
            old_len: 2 * PAGE,
            new_len: 2 * PAGE,
            flags: RemapFlags::MAYMOVE | RemapFlags::FIXED,
            new: ELSEWHERE,
        };
        assert_eq!(run(space, verb), Ok(ELSEWHERE));
        assert_eq!(marks(&stage, ELSEWHERE), [true; 2], "{memory:?}");
        assert_eq!(get(space, ELSEWHERE), Ok(7));
        assert!(put(space, ELSEWHERE, 1).is_err(), "{memory:?}");
        drop(object);
        stage.end();
    }
}
