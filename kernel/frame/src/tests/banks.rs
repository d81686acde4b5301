//! Banks of memory, their classes, and the layout of records.

use crate::{BankError, Class, FrameMeta, MAX_BANKS, SpaceKind, TableState, arena};
use arm64::addr::Pfn;
use arm64::geometry::Level;
use core::ops::Range;

fn part(from: u64, to: u64) -> Range<Pfn> {
    arena::BASE.pfn().add(from)..arena::BASE.pfn().add(to)
}

#[test]
fn a_bank_added_later_serves_like_the_first() {
    let frames = arena::offline(64);
    // SAFETY: an arena's records exist, and nothing uses its memory.
    unsafe {
        frames.add_bank(part(0, 16)).unwrap();
        frames.release(part(0, 16));
    }
    let low = frames.alloc_fresh(4, true).unwrap();
    assert!(frames.alloc_fresh(4, true).is_err());
    assert!(frames.meta(part(32, 33).start).is_none());
    // SAFETY: as above.
    unsafe { frames.add_bank(part(32, 64)).unwrap() };
    assert_eq!(frames.stats().of(Class::Reserved), 32);
    assert!(
        frames.alloc_fresh(4, true).is_err(),
        "known is not yet released"
    );
    // SAFETY: as above.
    unsafe { frames.release(part(32, 64)) };
    let high = frames.alloc_fresh(5, true).unwrap();
    assert_eq!(high.pfn(), part(32, 33).start);
    drop((low, high));
    let stats = frames.stats();
    assert_eq!((stats.total, stats.free), (48, 48));
    assert_eq!(stats.free_blocks[4..6], [1, 1]);
    assert_eq!(frames.banks().count(), 2);
}

#[test]
fn adjacent_banks_join_and_holes_do_not() {
    let frames = arena::offline(64);
    // SAFETY: an arena's records exist, and nothing uses its memory.
    unsafe {
        for range in [part(0, 8), part(8, 16), part(24, 32)] {
            frames.add_bank(range.clone()).unwrap();
            frames.release(range);
        }
    }
    assert_eq!(frames.stats().free_blocks[..6], [0, 0, 0, 1, 1, 0]);
}

#[test]
fn wrong_banks_are_refused_and_change_nothing() {
    let frames = arena::offline(64);
    // SAFETY: refused ranges are not looked at; the others exist.
    unsafe {
        assert_eq!(frames.add_bank(part(3, 3)), Err(BankError::Empty));
        assert_eq!(frames.add_bank(part(5, 3)), Err(BankError::Empty));
        frames.add_bank(part(8, 16)).unwrap();
        for overlapping in [part(0, 9), part(15, 20), part(9, 10), part(0, 64)] {
            assert_eq!(frames.add_bank(overlapping), Err(BankError::Overlap));
        }
        for i in 1..MAX_BANKS as u64 {
            frames.add_bank(part(15 + i, 16 + i)).unwrap();
        }
        assert_eq!(frames.add_bank(part(60, 61)), Err(BankError::TooMany));
    }
    assert_eq!(frames.stats().total, 8 + MAX_BANKS as u64 - 1);
}

#[test]
fn classes_set_by_hand_are_counted_and_kept_from_release() {
    let frames = arena::offline(64);
    // SAFETY: an arena's records exist.
    unsafe { frames.add_bank(part(0, 64)).unwrap() };
    frames.set_class(part(0, 10), Class::Image);
    frames.set_class(part(10, 12), Class::Initrd);
    // SAFETY: nothing uses this memory.
    unsafe { frames.release(part(12, 64)) };
    let stats = frames.stats();
    assert_eq!(
        (stats.of(Class::Image), stats.of(Class::Initrd), stats.free),
        (10, 2, 52)
    );
    // The initial RAM disk is no longer needed.
    frames.set_class(part(10, 12), Class::Reserved);
    // SAFETY: nothing uses this memory.
    unsafe { frames.release(part(10, 12)) };
    let stats = frames.stats();
    assert_eq!((stats.of(Class::Reserved), stats.free), (0, 54));
    assert_eq!(stats.by_class.iter().sum::<u64>(), stats.total);
}

#[test]
#[should_panic(expected = "only reserved frames can be released")]
fn releasing_twice_is_caught() {
    // SAFETY: none: this is the wrong call that must be caught.
    unsafe { arena::frames(16).release(part(4, 8)) };
}

#[test]
#[should_panic(expected = "not within a bank")]
fn releasing_what_is_not_there_is_caught() {
    // SAFETY: none: this is the wrong call that must be caught.
    unsafe { arena::frames(16).release(part(8, 20)) };
}

#[test]
#[should_panic(expected = "a free frame cannot become image")]
fn the_allocators_frames_are_not_set_by_hand() {
    arena::frames(16).set_class(part(0, 1), Class::Image);
}

#[test]
#[should_panic(expected = "class user is not set by hand")]
fn user_frames_are_not_made_by_hand() {
    arena::frames(16).set_class(part(0, 1), Class::User);
}

#[test]
fn the_numbers_of_classes_are_their_places() {
    for (number, class) in Class::ALL.into_iter().enumerate() {
        assert_eq!(class as usize, number);
    }
}

/// The bytes of a record, as a reader outside of the kernel sees them.
fn bytes(meta: &FrameMeta) -> [u8; 64] {
    // SAFETY: a record is 64 initialised bytes, and no other thread has this arena.
    unsafe { (&raw const *meta).cast::<[u8; 64]>().read() }
}

#[test]
fn records_have_the_documented_layout() {
    let frames = arena::frames(16);
    let user = frames.alloc_fresh(2, true).unwrap().into_user();
    let second = user.clone();
    let head = bytes(frames.meta(user.pfn()).unwrap());
    assert_eq!(head[..8], [2, 0, 0, 0, 5, 2, 0, 0]);
    let tail = bytes(frames.meta(user.pfn().add(3)).unwrap());
    assert_eq!(
        (tail[0], &tail[4..8], &tail[12..16]),
        (0, &[5, 2, 0, 0][..], &[0, 0, 3, 0][..])
    );
    drop((user, second));

    let mut table = frames.alloc_table().unwrap();
    table.set_level(Level::L2);
    table.set_owner(0x0102_0304, SpaceKind::Kernel);
    table.set_state(TableState::Constructed);
    table
        .meta()
        .table_live()
        .store(9, core::sync::atomic::Ordering::Relaxed);
    let guard = table.meta().table_lock().lock(1);
    let record = bytes(table.meta());
    assert_eq!(
        record[..16],
        [0, 0, 0, 0, 4, 0, 4, 2, 4, 3, 2, 1, 2, 0, 0, 0]
    );
    assert_eq!(record[16..20], (sync::cpu_index() as u32 + 1).to_le_bytes());
    assert_eq!(record[20..24], [9, 0, 0, 0]);
    drop(guard);
    table.set_state(TableState::Detached);
    let pfn = table.pfn();
    frames.free_table(table);
    let record = bytes(frames.meta(pfn).unwrap());
    assert_eq!(
        record[..24],
        [
            0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        ]
    );
    frames.drain_cpu_lists();
    let record = bytes(frames.meta(arena::BASE.pfn()).unwrap());
    assert_eq!(
        (&record[4..8], record[13]),
        (&[2, 4, 0, 0][..], 1),
        "one free block of order 4"
    );
    assert_eq!(record[24..40], [0xff; 16]);
}
