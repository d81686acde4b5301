//! Tests of caches, boxes and references.

use super::*;
use crate::{Class, arena};
use std::boxed::Box;
use std::rc::Rc;
use std::sync::Mutex;
use std::vec::Vec;

/// Keeps leaked caches reachable, so that leak checkers know they are meant.
fn keep<T: 'static>(cache: Cache<T>) -> &'static Cache<T> {
    struct Kept(#[expect(dead_code, reason = "held, not read")] *const ());
    // SAFETY: the pointer is only stored.
    unsafe impl Send for Kept {}
    static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

    let cache: &'static Cache<T> = Box::leak(Box::new(cache));
    KEPT.lock().unwrap().push(Kept((&raw const *cache).cast()));
    cache
}

fn cache<T>(pages: u64) -> (&'static Cache<T>, &'static Frames) {
    let frames = arena::frames(pages);
    let cache = keep(Cache::new("test"));
    cache.init(frames);
    (cache, frames)
}

#[test]
fn objects_keep_their_values_and_empty_blocks_go_back() {
    let (cache, frames) = cache::<[u64; 4]>(64);
    let before = frames.stats().free;
    let rounds = if cfg!(miri) { 120 } else { 1000 };
    let mut boxes: Vec<_> = (0..rounds).map(|i| cache.alloc([i; 4]).unwrap()).collect();
    assert_eq!(cache.stats().objects, rounds);
    assert!(frames.stats().of(Class::Slab) > 0);
    for (i, object) in (0..).zip(&mut boxes) {
        assert_eq!(**object, [i; 4]);
        object[1] = 7;
    }
    // Every other one first: blocks become partial, then empty.
    let mut keep = Vec::new();
    for (i, object) in boxes.into_iter().enumerate() {
        if i % 2 == 0 {
            drop(object)
        } else {
            keep.push(object)
        }
    }
    let refilled: Vec<_> = (0..rounds / 2)
        .map(|i| cache.alloc([i; 4]).unwrap())
        .collect();
    drop((keep, refilled));
    assert_eq!(
        cache.stats(),
        CacheStats {
            name: "test",
            objects: 0,
            pages: 0
        }
    );
    assert_eq!(frames.stats().free, before);
}

#[test]
fn the_last_reference_drops_the_object_once() {
    let (cache, frames) = cache::<Rc<()>>(8);
    let witness = Rc::new(());
    let first = cache.alloc_ref(witness.clone()).unwrap();
    let second = first.clone();
    assert!(Ref::ptr_eq(&first, &second));
    assert_eq!(Ref::count(&first), 2);
    drop(first);
    assert_eq!(Rc::strong_count(&witness), 2);
    drop(second);
    assert_eq!(Rc::strong_count(&witness), 1);
    assert_eq!(frames.stats().of(Class::Slab), 0);
}

#[test]
fn raw_pointers_carry_the_reference() {
    let (cache, _) = cache::<u32>(8);
    let first = cache.alloc_ref(5).unwrap();
    let raw = Ref::into_raw(first.clone());
    assert_eq!(Ref::count(&first), 2);
    // SAFETY: from `into_raw`, once.
    let second = unsafe { Ref::from_raw(raw) };
    assert!(Ref::ptr_eq(&first, &second));
    assert_eq!(*second, 5);
}

#[test]
fn exclusive_access_needs_the_only_reference() {
    let (cache, _) = cache::<u32>(8);
    let mut first = cache.alloc_ref(5).unwrap();
    let second = first.clone();
    assert!(Ref::get_mut(&mut first).is_none());
    drop(second);
    *Ref::get_mut(&mut first).unwrap() = 6;
    assert_eq!(*first, 6);
}

#[test]
fn boxes_can_be_emptied_and_shared() {
    let (cache, _) = cache::<Box<u32>>(8);
    let moved = SlabBox::into_inner(cache.alloc(Box::new(9)).unwrap());
    assert_eq!(*moved, 9);
    let shared = SlabBox::share(cache.alloc(Box::new(3)).unwrap());
    assert_eq!(Ref::count(&shared), 1);
    assert_eq!(**shared, 3);
    drop(shared);
    assert_eq!(cache.stats().objects, 0);
}

#[test]
fn large_and_aligned_objects_fit() {
    #[repr(align(64))]
    struct Aligned(#[expect(dead_code, reason = "only its place matters")] [u8; 600]);

    let (large, _) = cache::<[u8; MAX_OBJECT]>(64);
    let objects: Vec<_> = (0..20)
        .map(|i| large.alloc([i; MAX_OBJECT]).unwrap())
        .collect();
    assert!(
        objects
            .iter()
            .zip(0..)
            .all(|(object, i)| **object == [i; MAX_OBJECT])
    );
    assert!(large.stats().pages <= 12, "{:?}", large.stats());

    let (aligned, _) = cache::<Aligned>(64);
    let objects: Vec<_> = (0..20)
        .map(|i| aligned.alloc(Aligned([i; 600])).unwrap())
        .collect();
    assert!(
        objects
            .iter()
            .all(|object| (&raw const **object).addr() % 64 == 0)
    );
}

#[test]
fn a_failed_allocation_drops_the_value_and_keeps_the_counts() {
    let (cache, frames) = cache::<Rc<()>>(8);
    let witness = Rc::new(());
    frames.fail_after(0);
    assert!(cache.alloc(witness.clone()).is_err());
    assert!(cache.alloc_ref(witness.clone()).is_err());
    frames.fail_after(u64::MAX);
    assert_eq!(Rc::strong_count(&witness), 1);
    assert_eq!(cache.stats().objects, 0);
    assert!(cache.alloc(witness).is_ok());
}

#[test]
fn a_cache_without_frames_fails_softly() {
    let cache = keep(Cache::<u8>::new("bare"));
    assert!(cache.alloc(1).is_err());
}

#[test]
fn threads_share_a_cache() {
    let (cache, frames) = cache::<u64>(1024);
    let rounds = if cfg!(miri) { 10 } else { 5_000 };
    std::thread::scope(|scope| {
        for t in 0..3 {
            scope.spawn(move || {
                let mut kept = Vec::new();
                for i in 0..rounds {
                    kept.push(cache.alloc_ref(t * rounds + i).unwrap());
                    if i % 3 == 0 {
                        kept.swap_remove(kept.len() / 2);
                    }
                }
                assert!(kept.iter().all(|r| **r / rounds == t));
            });
        }
    });
    assert_eq!(cache.stats().objects, 0);
    assert_eq!(frames.stats().free, 1024);
}
