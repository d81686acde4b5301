//! Folios: sizes by policy, and what becomes of a block that there was no folio for.

mod common;

use arm64::attrs::Prot;
use arm64::pte::Format;
use common::{Space, World};
use frame::FreshFrame;
use mm::policy::FOLIO_64K;
use mm::{Access, Backing, FaultInput, FaultOutcome, MapFlags, MapRequest, Mode, Verb};
use pgtable::Machine;

const PAGE: u64 = 4096;
const BASE: u64 = 0x4000_0000;

fn map(space: &Space, addr: u64, len: u64) {
    let request = MapRequest {
        addr,
        len,
        prot: Prot::RW,
        flags: MapFlags::FIXED,
        backing: Backing::ANON,
        refusal: None,
    };
    let mut change = space.begin(Verb::Map(request)).unwrap();
    while change.step(space, 64).is_none() {}
}

fn write(space: &Space, va: u64, byte: u8) {
    let input = FaultInput {
        va,
        access: Access::Write,
        mode: Mode::User,
    };
    assert_eq!(space.fault(input), FaultOutcome::Done);
    assert_eq!(space.copy_out(va, &[byte]), Ok(1));
}

fn folds(space: &Space) -> u64 {
    let mut folds = 0;
    space
        .table_stats()
        .events()
        .each(&mut |name, value| folds += if name == "folds" { value } else { 0 });
    folds
}

/// Takes all frames, and gives every second one back: there is memory, but no folio.
fn fragment(world: &World) -> Vec<FreshFrame> {
    let frames = world.machine.frames();
    let mut all: Vec<FreshFrame> =
        core::iter::from_fn(|| frames.alloc_fresh(0, false).ok()).collect();
    all.sort_by_key(|frame| frame.pfn().raw());
    let (kept, given): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|frame| frame.pfn().raw() % 2 == 0);
    drop(given);
    assert!(frames.alloc_fresh(4, false).is_err(), "a folio is left");
    kept
}

#[test]
fn a_block_that_got_single_pages_gets_a_folio_when_there_are_some_again() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, BASE, 2 * FOLIO_64K);
    // The tables are there before memory is short.
    write(&space, BASE + FOLIO_64K, 1);
    let taken = fragment(&world);
    let pages = FOLIO_64K / PAGE;
    for page in 0..pages {
        write(&space, BASE + page * PAGE, 0x40 + page as u8);
    }
    let counters = space.counters();
    assert!(counters.folios_missed.get() >= 1);
    assert_eq!(folds(&space), 1, "the block written first");
    drop(taken);
    map(&space, BASE + 4 * FOLIO_64K, FOLIO_64K);
    write(&space, BASE + 4 * FOLIO_64K, 2);
    assert_eq!(counters.folios_reformed.get(), 1);
    assert_eq!(folds(&space), 3);
    for page in 0..pages {
        let mut byte = [0];
        assert_eq!(space.copy_in(BASE + page * PAGE, &mut byte), Ok(1));
        assert_eq!(byte, [0x40 + page as u8]);
        write(&space, BASE + page * PAGE, 3);
    }
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn a_block_with_a_hole_or_a_page_of_zeros_is_left_as_it_is() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, BASE, 2 * FOLIO_64K);
    write(&space, BASE + FOLIO_64K, 1);
    let taken = fragment(&world);
    write(&space, BASE, 7);
    drop(taken);
    map(&space, BASE + 4 * FOLIO_64K, FOLIO_64K);
    write(&space, BASE + 4 * FOLIO_64K, 2);
    assert_eq!(space.counters().folios_reformed.get(), 0);
    assert_eq!(folds(&space), 2);
    drop(space);
    world.assert_nothing_lost();
}

/// The whole folio lies in the area still, as the map has it, while a part of it has been changed in
/// the tables: a fault beside that part must not reach into it.
#[test]
fn a_folio_keeps_out_of_what_a_change_is_about() {
    let changes = [
        Verb::Protect {
            addr: BASE + 8 * PAGE,
            len: 8 * PAGE,
            prot: Prot::READ,
        },
        Verb::Unmap {
            addr: BASE,
            len: 8 * PAGE,
        },
    ];
    for (verb, (beside, changed)) in changes.into_iter().zip([(0, 8), (8, 0)]) {
        let world = World::new(512, Format::NORMAL);
        let space = world.space();
        map(&space, BASE, FOLIO_64K);
        // A page elsewhere keeps the table.
        map(&space, BASE + FOLIO_64K, PAGE);
        write(&space, BASE + FOLIO_64K, 1);
        let mut change = space.begin(verb).unwrap();
        assert!(change.step(&space, 1).is_none());
        write(&space, BASE + beside * PAGE, 1);
        while change.step(&space, 64).is_none() {}
        let reached = space.copy_out(BASE + changed * PAGE, b"x");
        assert!(reached.is_err(), "written without a right: {reached:?}");
    }
}
