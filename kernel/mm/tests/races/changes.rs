//! The order of a change of the map (D5): busy, retired, taken out, flushed, published.

use std::sync::Arc;
use std::sync::Mutex;

use arm64::attrs::Prot;
use mm::{Backing, FaultOutcome, MapFlags, MapRequest, Verb};
use pgtable::Pause;

use crate::stage::*;

/// Four pages of anonymous memory, all but one of them touched.
fn stage() -> Stage {
    let stage = Stage::new();
    map(&stage.space, BASE, 4, Backing::ANON, MapFlags::empty());
    for page in [0, 2, 3] {
        put(&stage.space, BASE + page * PAGE, 1).unwrap();
    }
    stage
}

fn unmapping(pages: u64) -> Verb {
    let (addr, len) = (BASE, pages * PAGE);
    Verb::Unmap { addr, len }
}

/// What a write to page 1 came to when what the change took out was not flushed yet.
fn written_before_the_flush(stage: &Stage, verb: Verb) -> FaultOutcome {
    let seen = Arc::new(Mutex::new(None));
    let (other, outcome) = (stage.space.clone(), seen.clone());
    stage.machine.script(Pause::BeforeFlush, move || {
        *outcome.lock().unwrap() = Some(write(&other, BASE + PAGE));
    });
    run(&stage.space, verb).unwrap();
    let outcome = seen.lock().unwrap().take();
    outcome.expect("a flush")
}

#[test]
fn a_fault_waits_for_the_change_of_its_area_and_no_other() {
    let stage = stage();
    let change = stage.space.begin(unmapping(2)).unwrap();
    assert_eq!(write(&stage.space, BASE + PAGE), FaultOutcome::Busy);
    discardable_neighbour(&stage);
    finish(&stage.space, change).unwrap();
    assert!(!is_mapped(&stage.space, BASE + PAGE));
    stage.end();
}

/// A page that no change is about is taken and given as ever.
fn discardable_neighbour(stage: &Stage) {
    put(&stage.space, BASE + 2 * PAGE, 5).unwrap();
    assert_eq!(get(&stage.space, BASE + 2 * PAGE), Ok(5));
}

#[test]
fn nothing_is_published_before_it_is_flushed() {
    let stage = stage();
    let outcome = written_before_the_flush(&stage, unmapping(4));
    assert_eq!(outcome, FaultOutcome::Busy);
    assert!(!is_mapped(&stage.space, BASE + PAGE), "mapped in no area");
    stage.end();
}

#[test]
fn a_mapping_over_another_shows_nothing_of_it() {
    let stage = stage();
    let verb = Verb::Map(MapRequest {
        addr: BASE,
        len: 4 * PAGE,
        prot: Prot::READ,
        flags: MapFlags::FIXED,
        backing: Backing::ANON,
        refusal: None,
    });
    let outcome = written_before_the_flush(&stage, verb);
    assert_eq!(outcome, FaultOutcome::Busy);
    for page in 0..4 {
        assert_eq!(get(&stage.space, BASE + page * PAGE), Ok(0));
        assert!(put(&stage.space, BASE + page * PAGE, 1).is_err());
    }
    stage.end();
}

#[test]
fn rights_are_published_when_the_entries_have_them() {
    let stage = stage();
    let (addr, len, prot) = (BASE, 4 * PAGE, Prot::READ);
    let verb = Verb::Protect { addr, len, prot };
    let outcome = written_before_the_flush(&stage, verb);
    assert_eq!(outcome, FaultOutcome::Busy);
    assert!(put(&stage.space, BASE + PAGE, 1).is_err());
    stage.end();
}

/// Giving up pages leaves the areas as they are: faults go on, and what they map after the visit
/// stays.
#[test]
fn faults_go_on_while_pages_are_given_up() {
    let stage = stage();
    let (addr, len) = (BASE, 4 * PAGE);
    let outcome = written_before_the_flush(&stage, Verb::DontNeed { addr, len });
    assert_eq!(outcome, FaultOutcome::Done);
    assert!(is_mapped(&stage.space, BASE + PAGE));
    assert_eq!(get(&stage.space, BASE), Ok(0));
    stage.end();
}

#[test]
fn a_mapping_is_visited_until_its_pages_are_out() {
    let stage = Stage::new();
    let (object, space) = (stage.object(4), &stage.space);
    map_shared(space, BASE, 4, &object);
    assert_eq!(read(space, BASE), FaultOutcome::Done);
    let change = space.begin(unmapping(4)).unwrap();
    resize(&object, 0);
    let left = (0..4).filter(|page| is_mapped(space, BASE + page * PAGE));
    assert_eq!(left.count(), 0, "mapped, and freed by the object");
    finish(space, change).unwrap();
    assert_eq!(object.mapping_count(), 0);
    drop(object);
    stage.end();
}
