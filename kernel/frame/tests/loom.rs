//! The life of a frame under loom: the shipped allocator, records and typed frames, on toy lists.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p frame --release --test loom`
#![cfg(loom)]

use frame::{Class, FramePins, Frames, PageSlots, arena};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

const PAGES: u64 = 8;

/// Few switches suffice for every race between two operations, and keep the allocator's many
/// steps explorable.
fn model(check: impl Fn(&'static Frames) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.max_branches = 20_000;
    builder.check(move || check(arena::frames(PAGES)));
}

/// Stands for the frame's contents: a reader with a reference against the next owner's writes.
struct Contents(UnsafeCell<u32>);

impl Contents {
    fn read(&self) {
        // SAFETY: loom checks that no mutable access is concurrent.
        self.0.with(|value| assert_eq!(unsafe { *value }, 0));
    }

    fn overwrite(&self) {
        // SAFETY: loom checks that no other access is concurrent.
        self.0.with_mut(|value| unsafe { *value = 1 });
    }
}

/// A walker against the frame's reuse as a table. The table is written to if it has got the same
/// frame, or, in the wrong variant, as if a walker's number alone did not keep a frame from reuse.
fn walk_against_reuse(believe_the_allocator: bool) {
    model(move |frames| {
        let contents = Arc::new(Contents(UnsafeCell::new(0)));
        let user = frames.alloc_fresh(0, false).unwrap().into_user();
        let pfn = user.pfn();
        let theirs = contents.clone();
        let walker = thread::spawn(move || {
            if let Some(frame) = frames.try_pin_user(pfn) {
                theirs.read();
                drop(frame);
            }
        });
        drop(user);
        // The frame freed last is the one handed out next, if the walker did not keep it.
        let table = frames.alloc_table().unwrap();
        if table.pfn() == pfn || !believe_the_allocator {
            contents.overwrite();
        }
        frames.free_table(table);
        walker.join().unwrap();
        assert_eq!(frames.stats().of(Class::User), 0);
    });
}

#[test]
fn a_walker_never_holds_a_frame_that_has_become_a_table() {
    walk_against_reuse(true);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_sees_a_walker_hold_a_frame_while_it_is_reused() {
    walk_against_reuse(false);
}

#[test]
fn a_walker_with_a_stale_number_finds_the_new_block_or_nothing() {
    model(|frames| {
        // A block of two; the walker remembers its second frame.
        let block = frames.alloc_fresh(1, false).unwrap().into_user();
        let second = block.page(1);
        let pfn = second.pfn();
        drop(block);
        let walker = thread::spawn(move || {
            if let Some(frame) = frames.try_pin_user(pfn) {
                assert_eq!(frame.pfn(), pfn);
                assert_eq!(pfn.raw() - frame.block().raw(), u64::from(frame.order()));
            }
        });
        drop(second);
        let single = frames.alloc_fresh(0, false).unwrap().into_user();
        walker.join().unwrap();
        assert!(single.is_unique());
        drop(single);
        assert_eq!(frames.stats().free, PAGES);
    });
}

/// A page taken out of its slot and claimed is nobody else's: a lookup that had seen it there either
/// is counted, or finds the slot changed.
#[test]
fn what_is_claimed_out_of_a_slot_nobody_else_has() {
    model(|frames| {
        let contents = Arc::new(Contents(UnsafeCell::new(0)));
        let slots = Arc::new(PageSlots::new(frames));
        let page = frames.alloc_fresh(0, false).unwrap().into_user();
        assert!(slots.put(0, page).is_ok());
        let (theirs, known) = (contents.clone(), slots.clone());
        let reader = thread::spawn(move || {
            if let Some(page) = known.pin(0) {
                theirs.read();
                drop(page);
            }
        });
        let mut pins = FramePins::new(frames);
        pins.put(0, slots.take(0).expect("a page"));
        if let Some(block) = pins.claim() {
            contents.overwrite();
            drop(block);
        }
        reader.join().unwrap();
        drop((pins, slots));
        assert_eq!(frames.stats().of(Class::User), 0);
    });
}

#[test]
fn two_cpus_never_get_the_same_frame() {
    model(|frames| {
        let get = move || frames.alloc_fresh(0, false).unwrap();
        let other = thread::spawn(get);
        let mine = get();
        let theirs = other.join().unwrap();
        assert_ne!(mine.pfn(), theirs.pfn());
        drop((mine, theirs));
        assert_eq!(frames.stats().free, PAGES);
    });
}

/// A table that one CPU fills and publishes, and another reads through what was published.
fn read_published_table(publish: Ordering) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let frames = arena::frames_with_tables(2, 4);
        assert_eq!(frames.cells_per_table(), 4);
        let table = frames.alloc_table().unwrap();
        let pfn = table.pfn();
        let cell = move |index: usize| {
            // SAFETY: the frame is a table for the whole of this run, and the index is below 4.
            unsafe { &*frames.cells(pfn).add(index).as_ptr() }
        };
        let root = Arc::new(AtomicU64::new(0));
        let theirs = root.clone();
        let walker = thread::spawn(move || {
            if theirs.load(Ordering::Acquire) != 0 {
                assert_eq!(cell(3).load(Ordering::Relaxed), 7, "an entry was missed");
                assert_eq!(cell(2).load(Ordering::Relaxed), 0);
            }
        });
        cell(3).store(7, Ordering::Relaxed);
        root.store(1, publish);
        walker.join().unwrap();
        frames.free_table(table);
        let again = frames.alloc_table().unwrap();
        assert_eq!((again.pfn(), cell(3).load(Ordering::Relaxed)), (pfn, 0));
        frames.free_table(again);
    });
}

#[test]
fn entries_of_a_published_table_are_seen() {
    read_published_table(Ordering::Release);
}

#[test]
#[should_panic(expected = "an entry was missed")]
fn the_model_sees_a_table_published_too_early() {
    read_published_table(Ordering::Relaxed);
}

/// A lookup in a page cache against the page's removal and the frame's next life.
#[test]
fn a_lookup_gets_the_page_in_the_slot_or_none() {
    model(|frames| {
        let contents = Arc::new(Contents(UnsafeCell::new(0)));
        let slots = Arc::new(PageSlots::new(frames));
        let page = frames.alloc_fresh(0, false).unwrap().into_object(7);
        let pfn = page.pfn();
        slots.put(0, page).unwrap();
        let (theirs, seen) = (slots.clone(), contents.clone());
        let reader = thread::spawn(move || {
            if let Some(frame) = theirs.pin(0) {
                assert_eq!((frame.pfn(), frame.owner()), (pfn, 7));
                seen.read();
                drop(frame);
            }
        });
        drop(slots.take(0));
        // Anonymous memory gets the frame if nobody holds it.
        let next = frames.alloc_fresh(0, false).unwrap();
        if next.pfn() == pfn {
            contents.overwrite();
        }
        let next = next.into_user();
        reader.join().unwrap();
        assert_eq!(next.owner(), 0);
        drop(next);
        drop(slots);
        assert_eq!(frames.stats().free, PAGES);
    });
}

/// A lookup of many pages against the removal of one that is a block of its own, and the frame's next
/// life.
#[test]
fn a_lookup_of_many_gets_the_pages_in_the_slots_or_none() {
    lookup_of_many(0);
}

/// The same where the pages are a folio, which lives as long as one of them is there.
#[test]
fn a_lookup_of_many_gets_the_parts_of_a_folio_in_the_slots_or_none() {
    lookup_of_many(1);
}

fn lookup_of_many(order: u8) {
    model(move |frames| {
        let contents = Arc::new(Contents(UnsafeCell::new(0)));
        let slots = Arc::new(PageSlots::new(frames));
        let page = frames.alloc_fresh(order, false).unwrap().into_object(7);
        let pfn = page.pfn();
        for index in 0..1 << order {
            slots.put(index, page.page(index as u64)).unwrap();
        }
        drop(page);
        let (theirs, seen) = (slots.clone(), contents.clone());
        let reader = thread::spawn(move || {
            let mut pins = FramePins::new(frames);
            theirs.pin_group(0, 2, 0, 3, &mut pins);
            for place in 0..2 {
                if let Some(found) = pins.pfn(place) {
                    assert_eq!(found, pfn.add(place as u64));
                    seen.read();
                }
            }
        });
        (0..2).for_each(|index| drop(slots.take(index)));
        let next = frames.alloc_fresh(order, false).unwrap();
        if next.pfn() == pfn {
            contents.overwrite();
        }
        let next = next.into_user();
        reader.join().unwrap();
        assert_eq!(next.owner(), 0);
        drop(next);
        drop(slots);
        assert_eq!(frames.stats().free, PAGES);
    });
}

/// A lookup against a page that comes while it looks, in the same frame as the one before.
#[test]
fn a_lookup_sees_a_page_with_all_that_was_written_before() {
    model(|frames| {
        let contents = Arc::new(Contents(UnsafeCell::new(0)));
        let slots = Arc::new(PageSlots::new(frames));
        let (theirs, seen) = (slots.clone(), contents.clone());
        let reader = thread::spawn(move || {
            if let Some(frame) = theirs.pin(0) {
                // SAFETY: loom checks that no mutable access is concurrent.
                seen.0.with(|value| assert_eq!(unsafe { *value }, 1));
                assert!(theirs.holds(0, frame.pfn()));
            }
        });
        let page = frames.alloc_fresh(0, false).unwrap();
        contents.overwrite();
        slots.put(0, page.into_object(7)).unwrap();
        let second = frames.alloc_fresh(0, false).unwrap().into_object(7);
        assert!(slots.put(0, second).is_err(), "a slot has one page");
        reader.join().unwrap();
    });
}
