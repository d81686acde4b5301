//! Pinning several pages without a lock against what takes them away (GUP-13): unmapping, with the
//! table they are in and without, and a copy that takes the place of one.

use arm64::attrs::Prot;
use arrayvec::ArrayVec;
use frame::UserFrame;
use loom::sync::Arc;
use loom::thread;
use pgtable::{Graveyard, Machine};

use crate::machine::{LoomMachine, PAGE, Space, alone, attrs, end, map, map_block, pages, unmap};
use crate::pin::{Contents, reuse};
use crate::replace::replace;
use crate::run::{explore, explore_bounded};

const FRAMES: u64 = 6;

/// Pins up to `count` pages from page number `first` on; none of them may be somebody else's.
fn gup(space: &Space, first: u64, count: u64, write: bool, contents: &[Arc<Contents>]) -> usize {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let mut pins = ArrayVec::<UserFrame, 2>::new();
    let declined = space.gup_fast(first * PAGE, count, write, &mut pins, &section);
    assert_eq!(declined.is_none(), pins.len() == count as usize);
    for (pin, contents) in pins.iter().zip(contents) {
        contents.read(pin.pfn());
    }
    pins.len()
}

/// A space of `shape` with two written pages, each with its contents.
fn two_pages(
    machine: &'static LoomMachine,
    shape: &[u8],
    at: [u64; 2],
) -> (Arc<Space>, [Arc<Contents>; 2]) {
    let space = crate::machine::space(machine, shape);
    let contents = at.map(|page| {
        let frame = machine.page();
        let contents = Arc::new(Contents::new(frame.pfn(), 1));
        map(&space, page, frame, attrs().with_dirty(true));
        contents
    });
    (Arc::new(space), contents)
}

/// Both pages are pinned at once while one after the other is unmapped.
fn gup_against_unmap() {
    explore(FRAMES, 2, |machine| {
        let ((space, contents), graves) = (two_pages(machine, &[1], [0, 1]), Graveyard::new());
        let (theirs, seen) = (space.clone(), contents.clone());
        let pinner = thread::spawn(move || gup(&theirs, 0, 2, true, &seen));
        unmap(&space, &graves, pages(0, 1));
        reuse(machine, 0, &contents[0]);
        unmap(&space, &graves, pages(1, 2));
        pinner.join().expect("a pin ends");
        end(alone(space), &graves, FRAMES, 1);
    });
}

/// The pages are on both sides of a boundary between tables, and each goes with its table: of the
/// looks at the entry and at its table either sees it.
fn gup_against_reclaim() {
    explore_bounded(3, FRAMES, 2, |machine| {
        let ((space, contents), graves) = (two_pages(machine, &[1, 1], [1, 2]), Graveyard::new());
        let (theirs, seen) = (space.clone(), contents.clone());
        let pinner = thread::spawn(move || gup(&theirs, 1, 2, false, &seen));
        unmap(&space, &graves, pages(2, 3));
        reuse(machine, 0, &contents[1]);
        graves.reap(machine, 9);
        unmap(&space, &graves, pages(1, 2));
        pinner.join().expect("a pin ends");
        end(alone(space), &graves, FRAMES, 1);
    });
}

/// A page that may only be read is replaced by a copy that may be written. Who wants to write gets
/// the copy or none.
fn gup_against_copy(write: bool) {
    explore(FRAMES, 2, move |machine| {
        let space = Arc::new(crate::machine::space(machine, &[1]));
        let (graves, old, new) = (Graveyard::new(), machine.page(), machine.page());
        let contents = [Arc::new(Contents::new(old.pfn(), 1))];
        let original = old.pfn();
        map(&space, 0, old, attrs().with_prot(Prot::READ | Prot::USER));
        let (theirs, seen) = (space.clone(), contents.clone());
        let pinner = thread::spawn(move || {
            let stay = ();
            let section = theirs.machine().read_side(&stay);
            let mut pins = ArrayVec::<UserFrame, 2>::new();
            theirs.gup_fast(0, 1, write, &mut pins, &section);
            for pin in &pins {
                assert!(!write || pin.pfn() != original, "pinned without the right");
                seen[0].read(pin.pfn());
            }
        });
        assert!(replace(&space, &graves, 0, new), "nobody else changes it");
        reuse(machine, 0, &contents[0]);
        pinner.join().expect("a pin ends");
        unmap(&space, &graves, pages(0, 1));
        end(alone(space), &graves, FRAMES, 1);
    });
}

fn gup_to_read_against_copy() {
    gup_against_copy(false);
}

fn gup_to_write_against_copy() {
    gup_against_copy(true);
}

/// Both pages of a contiguous block, which comes apart and goes.
fn gup_of_a_block_against_unmap() {
    explore_bounded(2, FRAMES, 2, |machine| {
        let space = Arc::new(crate::machine::space(machine, &[1]));
        let (graves, folio) = (Graveyard::new(), machine.folio(1));
        let contents = Arc::new(Contents::new(folio.pfn(), 2));
        map_block(&space, 0, folio, attrs());
        let (theirs, seen) = (space.clone(), [contents.clone(), contents.clone()]);
        let pinner = thread::spawn(move || gup(&theirs, 0, 2, false, &seen));
        unmap(&space, &graves, pages(0, 1));
        unmap(&space, &graves, pages(1, 2));
        reuse(machine, 1, &contents);
        pinner.join().expect("a pin ends");
        end(alone(space), &graves, FRAMES, 1);
    });
}

sync::models! {
    gup_against_unmap { PinWithoutRecheck: "somebody else's" }
    gup_against_reclaim {}
    gup_to_read_against_copy { PinWithoutRecheck: "somebody else's" }
    gup_to_write_against_copy {}
    gup_of_a_block_against_unmap { PinWithoutRecheck: "somebody else's" }
}
