//! Supplies, collections and drops against what others do to the same pages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;

use frame::slab::Ref;
use mm::object::{Collect, DropClean};
use mm::{Backing, FaultOutcome, MapFlags, MemObject, MoveStop};
use pgtable::{Machine, Pause};

use crate::common::Space;
use crate::stage::*;

const DATA: u64 = 0x2000_0000;

/// An object with a pager, shown by the stage's space, and all of its pages supplied by nobody.
fn paged(stage: &Stage, pages: u64) -> Ref<MemObject> {
    let objects = stage.world.context.objects();
    let object = objects.pager(pages * PAGE, 1, 16).unwrap();
    map_shared(&stage.space, BASE, pages, &object);
    object
}

/// A space with `pages` pages that hold `byte`.
fn supplier(stage: &Stage, pages: u64, byte: u8) -> Space {
    let space = stage.world.space();
    map(&space, DATA, pages, Backing::ANON, MapFlags::empty());
    for page in 0..pages {
        put(&space, DATA + page * PAGE, byte).unwrap();
    }
    space
}

fn supplied(stage: &Stage, pages: u64) -> Ref<MemObject> {
    let object = paged(stage, pages);
    let pager = supplier(stage, pages, 7);
    let moved = pager.move_pages(DATA, pages, &object, 0, 1000);
    assert_eq!((moved.pages, moved.stop), (pages, None));
    object
}

fn is_written(object: &Ref<MemObject>, page: u64) -> bool {
    let mut written = [0];
    let mut collect = Collect::begin(object, 0, 64);
    while !collect.step(&mut written, 100) {}
    written[0] >> page & 1 != 0
}

/// Two pagers give the same pages: each page is one's, whole, and the other is told of it.
#[test]
fn of_two_supplies_of_a_page_one_wins() {
    let stage = Stage::new();
    stage.world.context.policy().set_anon(mm::policy::Sizes {
        kib64: mm::policy::SizeMode::Never,
        mib2: mm::policy::SizeMode::Never,
    });
    let object = paged(&stage, 32);
    for _ in 0..if cfg!(miri) { 1 } else { 20 } {
        let pagers = [1, 2].map(|byte| supplier(&stage, 32, byte));
        let (start, given) = (Barrier::new(2), AtomicU64::new(0));
        thread::scope(|scope| {
            for pager in &pagers {
                scope.spawn(|| {
                    start.wait();
                    let mut index = 0;
                    while index < 32 {
                        let va = DATA + index * PAGE;
                        let moved = pager.move_pages(va, 32 - index, &object, index, 5);
                        given.fetch_add(moved.pages, Ordering::Relaxed);
                        index += moved.pages;
                        match moved.stop {
                            None => {}
                            Some(MoveStop::Exists) => index += 1,
                            Some(stop) => panic!("{stop:?}"),
                        }
                    }
                });
            }
        });
        assert_eq!(
            given.into_inner(),
            32,
            "a page was given twice, or by nobody"
        );
        for page in 0..32 {
            let byte = get(&stage.space, BASE + page * PAGE).unwrap();
            let left = pagers
                .each_ref()
                .map(|pager| get(pager, DATA + page * PAGE));
            let expected = if byte == 1 {
                [Ok(0), Ok(2)]
            } else {
                [Ok(1), Ok(0)]
            };
            assert_eq!(left, expected, "page {page}");
        }
        punch(&object, 0, 32);
        drop(pagers);
    }
    drop(object);
    stage.end();
}

/// An object that becomes shorter has no page behind its end, whoever supplies one meanwhile.
#[test]
fn nothing_is_supplied_behind_an_end_that_comes() {
    let stage = Stage::new();
    let object = paged(&stage, 32);
    for _ in 0..if cfg!(miri) { 1 } else { 20 } {
        let pager = supplier(&stage, 32, 3);
        let start = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                let moved = pager.move_pages(DATA, 32, &object, 0, 1000);
                assert!(matches!(moved.stop, None | Some(MoveStop::BeyondEnd)));
            });
            start.wait();
            resize(&object, 0);
        });
        assert_eq!(object.resident_pages(), 0);
        resize(&object, 32);
        assert_eq!(read(&stage.space, BASE), FaultOutcome::Busy);
        stage.world.context.asks().forget();
        drop(pager);
    }
    drop(object);
    stage.end();
}

/// What is written when the entry has been made clean and is not flushed yet, is collected the next
/// time.
#[test]
fn a_write_during_a_collection_is_not_lost() {
    let stage = Stage::new();
    let object = supplied(&stage, 8);
    put(&stage.space, BASE + PAGE, 1).unwrap();
    let other = stage.space.clone();
    stage.machine.script(Pause::BeforeFlush, move || {
        put(&other, BASE + PAGE, 2).unwrap();
    });
    assert!(is_written(&object, 1));
    assert!(is_written(&object, 1), "a write that nobody is told of");
    assert!(!is_written(&object, 1));
    assert_eq!(get(&stage.space, BASE + PAGE), Ok(2));
    drop(object);
    stage.end();
}

/// A page is unmapped, dirty, when the collection has not come to its entry.
#[test]
fn an_entry_that_goes_before_a_collection_comes_to_it_has_told() {
    let stage = Stage::new();
    let object = supplied(&stage, 8);
    put(&stage.space, BASE + PAGE, 1).unwrap();
    let collecting = || is_written(&object, 1);
    let written = between(stage.machine, Pause::BeforeLock, collecting, |go_on| {
        discard(&stage.space, BASE, 8);
        go_on();
    });
    assert!(written);
    drop(object);
    stage.end();
}

/// The pages are unmapped; one is written; the clean ones are dropped.
fn written_while_dropped(write: impl Fn(&Stage, &Ref<MemObject>)) {
    let stage = Stage::new();
    let object = supplied(&stage, 8);
    assert_eq!(read(&stage.space, BASE + PAGE), FaultOutcome::Done);
    let mut drop_clean = DropClean::begin(&object, 0, 8).unwrap();
    assert!(!drop_clean.step(100));
    while is_mapped(&stage.space, BASE + PAGE) {
        assert!(!drop_clean.step(100));
    }
    write(&stage, &object);
    while !drop_clean.step(100) {}
    assert_eq!(drop_clean.dropped(), 7);
    assert_eq!(get(&stage.space, BASE + PAGE), Ok(9), "a write is lost");
    assert!(is_written(&object, 1));
    drop((drop_clean, object));
    stage.end();
}

#[test]
fn a_page_that_is_written_while_it_is_dropped_stays() {
    written_while_dropped(|stage, _| {
        put(&stage.space, BASE + PAGE, 9).unwrap();
    });
    written_while_dropped(|stage, _| {
        put(&stage.space, BASE + PAGE, 9).unwrap();
        discard(&stage.space, BASE, 8);
    });
    written_while_dropped(|_, object| {
        object.write(PAGE, &[9], PAGE + 1).unwrap();
    });
}

/// A fault that has found the page and not mapped it yet keeps it.
#[test]
fn a_page_that_is_about_to_be_mapped_is_not_dropped() {
    let stage = Stage::new();
    let object = supplied(&stage, 8);
    map_beside(&stage.space, BASE);
    let other = object.clone();
    stage.machine.script(Pause::BeforeLock, move || {
        let mut drop_clean = DropClean::begin(&other, 0, 8).unwrap();
        while !drop_clean.step(100) {}
        assert_eq!(drop_clean.dropped(), 7);
    });
    assert_eq!(write(&stage.space, BASE + PAGE), FaultOutcome::Done);
    assert_eq!(get(&stage.space, BASE + PAGE), Ok(7));
    drop(object);
    stage.end();
}

/// Writers count in pages of an object while a pager collects what they write and drops what is
/// clean, and gives pages back with what was collected: no count is lost.
#[test]
fn no_write_is_lost_between_collecting_and_dropping() {
    const PAGES: u64 = 8;
    let stage = Stage::new();
    let object = supplied(&stage, PAGES);
    let backing: Vec<_> = (0..PAGES).map(|_| AtomicU64::new(7)).collect();
    let rounds = if cfg!(miri) { 10 } else { 300 };
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        let pager = supplier(&stage, PAGES, 0);
        let (object, backing, done) = (&object, &backing, &done);
        scope.spawn(move || {
            while done.load(Ordering::Acquire) == 0 {
                let mut written = [0];
                let mut collect = Collect::begin(object, 0, PAGES);
                while !collect.step(&mut written, 10) {}
                for page in (0..PAGES).filter(|page| written[0] >> page & 1 != 0) {
                    let held = object.resident(page).expect("it was written");
                    let mut byte = [0];
                    held.read(0, &mut byte);
                    backing[page as usize].store(byte[0].into(), Ordering::Release);
                }
                let mut drop_clean = DropClean::begin(object, 0, PAGES).unwrap();
                while !drop_clean.step(10) {}
                for page in 0..PAGES {
                    let byte = backing[page as usize].load(Ordering::Acquire) as u8;
                    put(&pager, DATA, byte).unwrap();
                    let moved = pager.move_pages(DATA, 1, object, page, 1);
                    assert!(matches!(moved.stop, None | Some(MoveStop::Exists)));
                }
            }
        });
        for round in 0..rounds {
            for page in 0..PAGES {
                let va = BASE + page * PAGE;
                let was = loop {
                    match get(&stage.space, va) {
                        Ok(byte) => break byte,
                        Err(_) => thread::yield_now(),
                    }
                };
                assert_eq!(was, (7 + round) as u8, "page {page} in round {round}");
                while put(&stage.space, va, was.wrapping_add(1)).is_err() {
                    thread::yield_now();
                }
            }
        }
        done.store(1, Ordering::Release);
    });
    stage.world.context.asks().forget();
    drop(object);
    stage.end();
}

/// A walker that has seen the entry takes its reference when the entry is gone: it finds that out and
/// gives it back, but until then the page has two holders.
#[test]
fn a_page_that_a_walker_takes_meanwhile_is_copied() {
    let stage = Stage::new();
    stage.world.context.policy().set_anon(mm::policy::Sizes {
        kib64: mm::policy::SizeMode::Never,
        mib2: mm::policy::SizeMode::Never,
    });
    let object = paged(&stage, 4);
    let pager = supplier(&stage, 4, 7);
    let (walker, machine) = (pager.clone(), stage.machine);
    let (seen, sees) = mpsc::channel();
    let (may_take, takes) = mpsc::channel();
    let (taken, has_taken) = mpsc::channel();
    let (may_look, looks) = mpsc::channel();
    machine.script(Pause::PinBeforeReference, move || {
        seen.send(()).unwrap();
        takes.recv().unwrap();
    });
    machine.script(Pause::BeforeFlush, move || {
        may_take.send(()).unwrap();
        has_taken.recv().unwrap();
    });
    machine.script(Pause::PinBeforeRecheck, move || {
        taken.send(()).unwrap();
        looks.recv().unwrap();
    });
    thread::scope(|scope| {
        let pinned = scope.spawn(move || {
            let stay = ();
            let side = machine.read_side(&stay);
            walker.table().pin(DATA, &side).is_ok()
        });
        sees.recv().unwrap();
        let moved = pager.move_pages(DATA, 4, &object, 0, 100);
        assert_eq!((moved.pages, moved.stop), (4, None));
        may_look.send(()).unwrap();
        assert!(!pinned.join().unwrap(), "a walker has a page that moved");
    });
    let counters = pager.counters();
    assert_eq!(counters.pages_supplied_copied.get(), 1);
    assert_eq!(counters.pages_supplied_moved.get(), 3);
    for page in 0..4 {
        assert_eq!(get(&stage.space, BASE + page * PAGE), Ok(7));
    }
    drop((pager, object));
    stage.end();
}
