//! Typed frames: what each may do, and what is caught.

use crate::{Class, SpaceKind, TableState, UserFrame, arena};
use arm64::addr::Pfn;
use arm64::geometry::Level;
use std::vec::Vec;

#[test]
fn a_zeroed_frame_is_zero_even_if_its_last_holder_wrote_to_it() {
    let frames = arena::frames(4);
    for order in [0, 1, 2] {
        let mut dirty = frames.alloc_fresh(order, false).unwrap();
        dirty.bytes_mut().fill(0xa5);
        let pfn = dirty.pfn();
        drop(dirty);
        let mut clean = frames.alloc_fresh(order, true).unwrap();
        assert_eq!(
            clean.pfn(),
            pfn,
            "this arena is too small to hand out another"
        );
        assert!(clean.bytes_mut().iter().all(|&byte| byte == 0));
        drop(clean);
        frames.drain_cpu_lists();
    }
}

#[test]
fn the_last_reference_frees_a_user_frame_and_no_other_does() {
    let frames = arena::frames(16);
    let first = frames.alloc_fresh(0, true).unwrap().into_user();
    assert!(first.is_unique());
    let second = first.clone();
    assert!(!first.is_unique());
    assert_eq!(frames.stats().of(Class::User), 1);
    drop(first);
    assert!(second.is_unique());
    assert_eq!(frames.stats().of(Class::User), 1);
    drop(second);
    assert_eq!(frames.stats().free, 16);
}

#[test]
fn an_entry_keeps_the_reference_it_was_given() {
    let frames = arena::frames(16);
    let frame = frames.alloc_fresh(0, true).unwrap().into_user();
    let pfn = frame.into_entry();
    assert_eq!(frames.meta(pfn).unwrap().references(), 1);
    // SAFETY: the reference given to the "entry" above.
    let back = unsafe { frames.from_entry(pfn) };
    assert_eq!(back.pfn(), pfn);
    drop(back);
    assert_eq!(frames.stats().free, 16);
}

#[test]
fn a_walker_gets_references_to_published_user_frames_only() {
    let frames = arena::frames(16);
    let fresh = frames.alloc_fresh(0, true).unwrap();
    let pfn = fresh.pfn();
    assert!(
        frames.try_pin_user(pfn).is_none(),
        "a fresh frame is its holder's alone"
    );
    let user = fresh.into_user();
    let walker = frames.try_pin_user(pfn).expect("a published user frame");
    drop(user);
    assert!(walker.is_unique());
    drop(walker);
    assert!(frames.try_pin_user(pfn).is_none(), "the frame is free");

    let table = frames.alloc_table().unwrap();
    assert!(frames.try_pin_user(table.pfn()).is_none());
    frames.free_table(table);
    let stack = frames.alloc_kernel(1, Class::Stack).unwrap();
    assert!(frames.try_pin_user(stack.pfn()).is_none());
    assert!(
        frames.try_pin_user(Pfn::new(1)).is_none(),
        "outside of all banks"
    );
}

#[test]
fn the_pages_of_a_block_share_one_count() {
    let frames = arena::frames(16);
    let head = frames.alloc_fresh(2, true).unwrap().into_user();
    let pages: Vec<UserFrame> = (0..4).map(|page| head.page(page)).collect();
    for (i, page) in (0..).zip(&pages) {
        assert_eq!(page.pfn(), head.pfn().add(i));
        assert_eq!((page.block(), page.order()), (head.pfn(), 2));
        page.write(0, &[i as u8 + 1]);
    }
    let walker = frames.try_pin_user(head.pfn().add(3)).unwrap();
    let mut byte = [0];
    walker.read(0, &mut byte);
    assert_eq!(byte, [4]);
    drop((head, walker));
    assert_eq!(frames.stats().of(Class::User), 4);
    drop(pages);
    assert_eq!(frames.stats().free, 16);
    // The block's shape is gone with it.
    let single = frames.alloc_fresh(0, true).unwrap().into_user();
    assert_eq!((single.block(), single.order()), (single.pfn(), 0));
}

#[test]
#[should_panic(expected = "an entry owned a table frame")]
fn a_table_cannot_become_a_user_frame() {
    let frames = arena::frames(16);
    let pfn = frames.alloc_table().unwrap().into_entry();
    // SAFETY: none: this is the wrong call that must be caught.
    let _ = unsafe { frames.from_entry(pfn) };
}

#[test]
fn a_table_carries_what_its_constructor_wrote_until_it_is_freed() {
    let frames = arena::frames(16);
    let mut table = frames.alloc_table().unwrap();
    let meta = table.meta();
    assert_eq!(
        (meta.table_state(), meta.table_level()),
        (TableState::Allocated, None)
    );
    for level in Level::ALL {
        table.set_level(level);
        assert_eq!(meta.table_level(), Some(level));
    }
    table.set_owner(7, SpaceKind::Special);
    table.set_state(TableState::Constructed);
    assert_eq!(
        (meta.owner(), meta.space_kind()),
        (7, Some(SpaceKind::Special))
    );
    assert_eq!(
        meta.table_level(),
        Some(Level::L3),
        "the state overwrote the level"
    );
    let pfn = table.into_entry();
    // SAFETY: the entry above.
    let mut table = unsafe { frames.table_from_entry(pfn) };
    table.set_state(TableState::Detached);
    frames.free_table(table);
    let meta = frames.meta(pfn).unwrap();
    assert_eq!(
        (meta.owner(), meta.space_kind(), meta.table_level()),
        (0, None, None)
    );
    assert_eq!(meta.table_state(), TableState::None);
    assert_eq!(frames.stats().free, 16);
}

#[test]
#[should_panic(expected = "law 8: a table freed without its destructor")]
fn freeing_a_constructed_table_is_caught() {
    let frames = arena::frames(16);
    let mut table = frames.alloc_table().unwrap();
    table.set_state(TableState::Constructed);
    frames.free_table(table);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "dropped instead of given back")]
fn dropping_a_table_is_caught() {
    drop(arena::frames(16).alloc_table().unwrap());
}

#[test]
#[should_panic(expected = "a table freed while locked")]
fn freeing_a_locked_table_is_caught() {
    let frames = arena::frames(16);
    let table = frames.alloc_table().unwrap();
    let _guard = table.meta().table_lock().lock(1);
    frames.free_table(table);
}

#[test]
fn boot_tables_become_tables_and_then_ordinary_memory() {
    let frames = arena::offline(16);
    // SAFETY: an arena's records exist, and nothing uses its memory.
    unsafe {
        frames.add_bank(arena::range(16)).unwrap();
        frames.release(arena::BASE.pfn().add(8)..arena::BASE.pfn().add(16));
    }
    frames.set_class(arena::range(4), Class::Image);
    // SAFETY: nobody else has this frame.
    let table = unsafe { frames.adopt_table(arena::BASE.pfn()) };
    assert_eq!(table.meta().table_state(), TableState::Allocated);
    let stats = frames.stats();
    assert_eq!((stats.of(Class::Image), stats.of(Class::Table)), (3, 1));
    frames.free_table(table);
    let stats = frames.stats();
    assert_eq!(
        (stats.of(Class::Image), stats.of(Class::Table), stats.free),
        (3, 0, 9)
    );
    assert_eq!(stats.by_class.iter().sum::<u64>(), 16);
}

#[test]
#[should_panic(expected = "a table frame adopted as a table")]
fn a_table_is_adopted_once() {
    let frames = arena::frames(16);
    let pfn = frames.alloc_table().unwrap().into_entry();
    // SAFETY: none: this is the wrong call that must be caught.
    let _ = unsafe { frames.adopt_table(pfn) }.into_entry();
}

#[test]
#[should_panic(expected = "a user frame freed as table")]
fn freeing_as_another_class_is_caught() {
    let frames = arena::frames(16);
    let pfn = frames
        .alloc_fresh(0, true)
        .unwrap()
        .into_user()
        .into_entry();
    frames.give_back(pfn, 0, Class::Table);
}

#[test]
#[should_panic(expected = "a free frame freed as user")]
fn freeing_twice_is_caught() {
    let frames = arena::frames(16);
    let fresh = frames.alloc_fresh(0, true).unwrap();
    let pfn = fresh.pfn();
    drop(fresh);
    frames.give_back(pfn, 0, Class::User);
}

#[test]
#[should_panic(expected = "part of a block freed")]
fn freeing_part_of_a_block_is_caught() {
    let frames = arena::frames(16);
    let block = frames.alloc_kernel(2, Class::Stack).unwrap().leak();
    frames.give_back(block.add(2), 1, Class::Stack);
}

#[test]
#[should_panic(expected = "user is no class for kernel frames")]
fn kernel_frames_are_not_of_class_user() {
    let _ = arena::frames(16).alloc_kernel(0, Class::User);
}

#[test]
fn injected_failures_come_when_asked_for_and_lose_nothing() {
    let frames = arena::frames(16);
    frames.fail_after(2);
    let kept = (
        frames.alloc_fresh(0, true).unwrap(),
        frames.alloc_kernel(1, Class::Stack).unwrap(),
    );
    assert!(frames.alloc_fresh(0, true).is_err());
    assert!(frames.alloc_table().is_err());
    frames.fail_after(u64::MAX);
    drop(kept);
    frames.free_table(frames.alloc_table().unwrap());
    assert_eq!(frames.stats().free, 16);
}
