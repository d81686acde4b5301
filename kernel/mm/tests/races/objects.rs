//! What truncation and fault-around ask of each other (D5, check 4), and how far fault-around goes.

use mm::object::{Punch, Resize};
use mm::{Access, Backing, FaultOutcome, MapFlags, VmaFlags};

use crate::stage::*;

fn mapped(space: &crate::common::Space, pages: u64) -> Vec<u64> {
    let is_mapped = |&page: &u64| is_mapped(space, BASE + page * PAGE);
    (0..pages).filter(is_mapped).collect()
}

#[test]
fn a_new_end_holds_before_the_mappings_are_visited() {
    let stage = Stage::new();
    let (object, space) = (stage.object(8), &stage.space);
    map_shared(space, BASE, 8, &object);
    let mut change = Resize::begin(&object, 3 * PAGE).unwrap();
    loop {
        assert_eq!(read(space, BASE + 5 * PAGE), FaultOutcome::Bus);
        if change.step(1) {
            break;
        }
    }
    assert_eq!(mapped(space, 8), []);
    drop((change, object));
    stage.end();
}

#[test]
fn nothing_is_mapped_around_behind_the_end() {
    let stage = Stage::new();
    let (object, space) = (stage.object(8), &stage.space);
    map_shared(space, BASE, 8, &object);
    let mut change = Resize::begin(&object, 3 * PAGE).unwrap();
    loop {
        // A page inside is given up and comes back with its neighbours.
        discard(space, BASE, 1);
        assert_eq!(read(space, BASE), FaultOutcome::Done);
        if change.step(1) {
            break;
        }
    }
    assert_eq!(mapped(space, 8), [0, 1, 2]);
    drop((change, object));
    stage.end();
}

#[test]
fn a_page_mapped_between_the_visits_of_a_hole_goes_with_the_second() {
    let stage = Stage::new();
    let (object, space) = (stage.object(8), &stage.space);
    map_shared(space, BASE, 8, &object);
    let mut hole = Punch::begin(&object, 2 * PAGE, 4 * PAGE).unwrap();
    while !hole.is_unmapped() {
        assert!(!hole.step(1));
    }
    assert_eq!(read(space, BASE + 3 * PAGE), FaultOutcome::Done);
    assert_eq!(mapped(space, 8).len(), 8, "mapped around");
    while !hole.step(1) {}
    assert_eq!(mapped(space, 8), [0, 1, 6, 7]);
    assert_eq!(get(space, BASE + 3 * PAGE), Ok(0));
    drop((hole, object));
    stage.end();
}

#[test]
fn nothing_is_mapped_around_beside_the_area() {
    let stage = Stage::new();
    let (object, space) = (stage.object(8), &stage.space);
    let backing = Backing::object(object.clone(), 2 * PAGE);
    map(space, BASE + 2 * PAGE, 3, backing, MapFlags::SHARED);
    assert_eq!(read(space, BASE + 3 * PAGE), FaultOutcome::Done);
    assert_eq!(mapped(space, 8), [2, 3, 4]);
    drop(object);
    stage.end();
}

#[test]
fn nothing_is_mapped_around_where_writes_or_pages_are_watched() {
    for modes in [VmaFlags::UFFD_WP, VmaFlags::UFFD_MINOR] {
        let stage = Stage::new();
        let (object, space) = (stage.object(8), &stage.space);
        map_shared(space, BASE, 8, &object);
        space.arm(BASE, 8 * PAGE, modes).unwrap();
        touch(space, BASE, Access::Read);
        assert!(mapped(space, 8).len() <= 1, "{modes:?}");
        drop(object);
        stage.end();
    }
}
