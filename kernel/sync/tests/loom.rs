//! The lock-free protocols of this crate, as shipped, under loom: every interleaving and every value
//! that weak ordering allows, for toy numbers of CPUs.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p sync --release --test loom`
//!
//! Each protocol comes with a variant that leaves out what the protocol is about, and must fail: a
//! model that cannot see the bug proves nothing.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::sync::atomic::AtomicUsize as Uncontrolled;
use sync::atomic::{AtomicU64, AtomicUsize, Ordering::*, fence};
use sync::grace::Grace;
use sync::rank::{Leaf, Table};
use sync::{Link, Linked, LockWord, OwnerId, Ownership, Queue, RefCount, Ring, SeqCount, SpinLock};

const CPUS: usize = 2;

/// Something a lockless walker reads and a writer unlinks and frees. Freeing is a mutable access:
/// loom reports it if a read may happen at the same time.
struct Published {
    linked: AtomicUsize,
    thing: UnsafeCell<u32>,
}

impl Published {
    fn new() -> Self {
        Self {
            linked: AtomicUsize::new(1),
            thing: UnsafeCell::new(1),
        }
    }

    fn walk(&self) {
        if self.linked.load(Relaxed) == 1 {
            self.thing.with(|thing| {
                // SAFETY: loom checks that no mutable access is concurrent.
                assert_eq!(unsafe { *thing }, 1);
            });
        }
    }

    fn unlink(&self) {
        self.linked.store(0, Relaxed);
    }

    fn free(&self) {
        // SAFETY: loom checks that no other access is concurrent.
        self.thing.with_mut(|thing| unsafe { *thing = 0 });
    }
}

struct World {
    grace: Grace<CPUS>,
    published: Published,
}

/// CPU 0 walks and leaves the kernel, twice; CPU 1 unlinks, and frees if it finds the grace period
/// over at one of two looks. Every execution in which it does is one that the protocol must have
/// ordered.
fn walker_against_writer(walker: fn(&World), freed: &'static Uncontrolled) {
    loom::model(move || {
        let world = Arc::new(World {
            grace: Grace::new(),
            published: Published::new(),
        });
        world.grace.online(0);
        let other = world.clone();
        let cpu0 = thread::spawn(move || walker(&other));
        world.published.unlink();
        let ticket = world.grace.start();
        for _ in 0..2 {
            if world.grace.is_over(ticket) {
                world.published.free();
                freed.fetch_add(1, Relaxed);
                break;
            }
        }
        cpu0.join().unwrap();
    });
}

#[test]
fn nothing_is_freed_under_a_walker_that_reports_quiescence() {
    static FREED: Uncontrolled = Uncontrolled::new(0);
    walker_against_writer(
        |world| {
            world.published.walk();
            world.grace.quiescent(0);
            world.published.walk();
            world.grace.quiescent(0);
        },
        &FREED,
    );
    assert!(
        FREED.load(Relaxed) > 0,
        "the model never got as far as freeing"
    );
}

#[test]
fn nothing_is_freed_under_a_walker_that_comes_back_from_idle() {
    static FREED: Uncontrolled = Uncontrolled::new(0);
    walker_against_writer(
        |world| {
            world.published.walk();
            world.grace.idle_enter(0);
            world.grace.idle_exit(0);
            world.published.walk();
        },
        &FREED,
    );
    assert!(
        FREED.load(Relaxed) > 0,
        "the model never got as far as freeing"
    );
}

#[test]
fn nothing_is_freed_under_a_walker_that_comes_online() {
    static FREED: Uncontrolled = Uncontrolled::new(0);
    loom::model(|| {
        let world = Arc::new(World {
            grace: Grace::new(),
            published: Published::new(),
        });
        let other = world.clone();
        let cpu0 = thread::spawn(move || {
            other.grace.online(0);
            other.published.walk();
        });
        world.published.unlink();
        let ticket = world.grace.start();
        if world.grace.is_over(ticket) {
            world.published.free();
            FREED.fetch_add(1, Relaxed);
        }
        cpu0.join().unwrap();
    });
    assert!(
        FREED.load(Relaxed) > 0,
        "the model never got as far as freeing"
    );
}

#[test]
fn over_stays_over_and_orders_a_second_cpu_that_frees() {
    loom::model(|| {
        let world = Arc::new(World {
            grace: Grace::new(),
            published: Published::new(),
        });
        world.grace.online(0);
        let other = world.clone();
        let cpu0 = thread::spawn(move || {
            other.published.walk();
            other.grace.quiescent(0);
        });
        world.published.unlink();
        let ticket = world.grace.start();
        let other = world.clone();
        let asker = thread::spawn(move || other.grace.is_over(ticket));
        // Whoever finds the answer, the one that frees must be ordered after the walk.
        if world.grace.is_over(ticket) {
            assert!(world.grace.is_over(ticket));
            world.published.free();
        }
        asker.join().unwrap();
        cpu0.join().unwrap();
    });
}

/// The variant that DESIGN D3 rules out: a CPU bumps a counter of its own; a grace period is over
/// when every counter has changed since it began.
#[test]
#[should_panic(expected = "Causality violation")]
fn a_bumped_counter_is_not_enough() {
    loom::model(|| {
        let published = Arc::new(Published::new());
        let counter = Arc::new(AtomicU64::new(0));
        let (theirs, bumped) = (published.clone(), counter.clone());
        let cpu0 = thread::spawn(move || {
            theirs.walk();
            bumped.fetch_add(1, AcqRel);
            theirs.walk();
        });
        published.unlink();
        fence(SeqCst);
        let before = counter.load(Acquire);
        if counter.load(Acquire) != before {
            published.free();
        }
        cpu0.join().unwrap();
    });
}

/// Coming back from idle without the barrier: the store of the number may pass the walk.
#[test]
#[should_panic(expected = "Causality violation")]
fn idle_exit_needs_its_barrier() {
    const IDLE: u64 = u64::MAX;
    loom::model(|| {
        let published = Arc::new(Published::new());
        let seen = Arc::new(AtomicU64::new(IDLE));
        let (theirs, mine) = (published.clone(), seen.clone());
        let cpu0 = thread::spawn(move || {
            mine.store(0, Release);
            theirs.walk();
        });
        published.unlink();
        fence(SeqCst);
        if seen.load(Acquire) == IDLE {
            published.free();
        }
        cpu0.join().unwrap();
    });
}

struct Waiter {
    link: Link<Handle>,
}

/// Loom's `Arc` behind a local name, so that `Linked` can be said of it.
type Handle = Arc<Waiter>;

impl Linked<Handle> for Waiter {
    fn link(&self) -> &Link<Handle> {
        &self.link
    }
}

fn waiter() -> Handle {
    Arc::new(Waiter { link: Link::new() })
}

type Parked = SpinLock<Queue<Handle>, Leaf>;

const OWNER: OwnerId = OwnerId::new(1).unwrap();
const SECOND: OwnerId = OwnerId::new(2).unwrap();

/// Returns whether the waiter was left parked with nobody to wake it, in any execution.
fn park_against_release(ask_again: bool) {
    loom::model(move || {
        let map = Arc::new(Ownership::new());
        let parked: Arc<Parked> = Arc::new(SpinLock::new(Queue::new()));
        map.try_acquire(OWNER).unwrap();
        let (their_map, their_queue) = (map.clone(), parked.clone());
        let waiter_thread = thread::spawn(move || {
            if their_map.try_acquire(SECOND).is_ok() {
                their_map.release(SECOND);
                return;
            }
            let mut queue = their_queue.lock();
            if !ask_again || their_map.is_owned() {
                queue.push(waiter()).unwrap();
            }
        });
        map.release(OWNER);
        drop(parked.lock().take());
        waiter_thread.join().unwrap();
        assert!(parked.lock().is_empty(), "a waiter sleeps for ever");
    });
}

#[test]
fn no_wakeup_is_lost_if_a_waiter_asks_again_under_the_queue_lock() {
    park_against_release(true);
}

#[test]
#[should_panic(expected = "sleeps for ever")]
fn a_waiter_that_does_not_ask_again_is_lost() {
    park_against_release(false);
}

#[test]
fn ownership_excludes_and_passes_on_what_was_written() {
    loom::model(|| {
        let shared = Arc::new((Ownership::new(), UnsafeCell::new(0)));
        let add_one = |shared: &(Ownership, UnsafeCell<u32>), id| {
            if shared.0.try_acquire(id).is_ok() {
                // SAFETY: loom checks that no other access is concurrent.
                shared.1.with_mut(|count| unsafe { *count += 1 });
                shared.0.release(id);
            }
        };
        let other = shared.clone();
        let second = thread::spawn(move || add_one(&other, SECOND));
        add_one(&shared, OWNER);
        second.join().unwrap();
    });
}

#[test]
fn an_element_enters_only_one_of_two_queues() {
    loom::model(|| {
        let element = waiter();
        let theirs = element.clone();
        let second = thread::spawn(move || {
            let mut queue = Queue::new();
            let entered = queue.push(theirs).is_ok();
            // The queue is dropped here, and lets its element go.
            (entered, queue.pop().is_some())
        });
        let mut queue = Queue::new();
        let mine = queue.push(element.clone()).is_ok();
        assert_eq!(queue.len(), usize::from(mine));
        let (entered, popped) = second.join().unwrap();
        assert_eq!(entered, popped);
        // Both succeed only one after the other.
        assert!(mine || entered);
        assert_eq!(element.link().is_queued(), mine);
    });
}

#[test]
fn the_last_reference_sees_what_the_others_did() {
    loom::model(|| {
        let shared = Arc::new((RefCount::new(1), UnsafeCell::new(0u32)));
        shared.0.inc();
        let give_back = |shared: &(RefCount, UnsafeCell<u32>)| {
            // SAFETY: reads; the only write is by the last holder.
            shared.1.with(|value| assert_eq!(unsafe { *value }, 0));
            if shared.0.dec() {
                // SAFETY: loom checks that no other access is concurrent.
                shared.1.with_mut(|value| unsafe { *value = 1 });
            }
        };
        let other = shared.clone();
        let second = thread::spawn(move || give_back(&other));
        give_back(&shared);
        second.join().unwrap();
    });
}

/// A walker with a stale frame number against the frame's reuse: it gets no reference before the
/// frame is published, and then sees what was put in.
#[test]
fn a_reference_is_got_only_to_a_published_object() {
    loom::model(|| {
        let shared = Arc::new((RefCount::new(0), UnsafeCell::new(0u32)));
        let other = shared.clone();
        let walker = thread::spawn(move || {
            if other.0.try_get() {
                // SAFETY: loom checks that no mutable access is concurrent.
                other.1.with(|value| assert_eq!(unsafe { *value }, 7));
                assert!(!other.0.dec());
            }
        });
        // SAFETY: loom checks that no other access is concurrent.
        shared.1.with_mut(|value| unsafe { *value = 7 });
        shared.0.publish();
        walker.join().unwrap();
    });
}

#[test]
fn a_reference_is_never_got_from_the_last_holder_behind_his_back() {
    loom::model(|| {
        let shared = Arc::new((RefCount::new(1), UnsafeCell::new(0u32)));
        let free = |shared: &(RefCount, UnsafeCell<u32>)| {
            if shared.0.dec() {
                // SAFETY: loom checks that no other access is concurrent.
                shared.1.with_mut(|value| unsafe { *value = 1 });
            }
        };
        let other = shared.clone();
        let walker = thread::spawn(move || {
            if other.0.try_get() {
                // SAFETY: loom checks that no mutable access is concurrent.
                other.1.with(|value| assert_eq!(unsafe { *value }, 0));
                free(&other);
            }
        });
        free(&shared);
        walker.join().unwrap();
    });
}

#[test]
fn a_reader_of_a_sequence_never_accepts_half_a_write() {
    loom::model(|| {
        let shared = Arc::new((SeqCount::new(), AtomicU64::new(0), AtomicU64::new(0)));
        let other = shared.clone();
        let writer = thread::spawn(move || {
            let _write = other.0.write();
            other.1.store(1, Relaxed);
            other.2.store(1, Relaxed);
        });
        let (a, b) = shared
            .0
            .read(|| (shared.1.load(Relaxed), shared.2.load(Relaxed)));
        assert_eq!(a, b);
        writer.join().unwrap();
    });
}

#[test]
fn a_lock_word_excludes() {
    loom::model(|| {
        let shared = Arc::new((LockWord::<Table>::new(), UnsafeCell::new(0u32)));
        let add_one = |shared: &(LockWord<Table>, UnsafeCell<u32>)| {
            let _guard = shared.0.lock(1);
            // SAFETY: loom checks that no other access is concurrent.
            shared.1.with_mut(|count| unsafe { *count += 1 });
        };
        let other = shared.clone();
        let second = thread::spawn(move || add_one(&other));
        add_one(&shared);
        second.join().unwrap();
        // SAFETY: both are done.
        shared.1.with(|count| assert_eq!(unsafe { *count }, 2));
    });
}

#[test]
fn a_record_of_a_ring_is_read_whole_or_not_at_all() {
    loom::model(|| {
        let slots: Box<[[AtomicU64; 2]]> = Box::new([[AtomicU64::new(0), AtomicU64::new(0)]]);
        let ring = Arc::new(Ring::new(slots));
        ring.push([10, 20]);
        let other = ring.clone();
        let writer = thread::spawn(move || other.push([11, 21]));
        if let Some(record) = ring.get(0) {
            assert_eq!(record, [10, 20]);
        }
        if let Some(record) = ring.get(1) {
            assert_eq!(record, [11, 21]);
        }
        writer.join().unwrap();
        assert_eq!((ring.get(0), ring.get(1)), (None, Some([11, 21])));
    });
}
