//! Futexes as a table: who is woken, moved and left, and what is counted.

use std::sync::Arc;
use std::vec::Vec;

use sync::{Link, Linked, Queue, SpinLock, rank};

use super::{ANY, Futexes, Key, Waiter, Waking};
use crate::park::{ParkWord, Sleep};

struct Thread {
    id: u32,
    link: Link<Arc<Thread>>,
    park: ParkWord,
    waits: SpinLock<Option<(Key, u32)>, rank::Leaf>,
}

impl Linked<Arc<Thread>> for Thread {
    fn link(&self) -> &Link<Arc<Thread>> {
        &self.link
    }
}

impl Waiter for Thread {
    fn park(&self) -> &ParkWord {
        &self.park
    }

    fn futex(&self) -> Option<(Key, u32)> {
        *self.waits.lock()
    }

    fn set_futex(&self, key: Key) {
        if let Some((waits, _)) = &mut *self.waits.lock() {
            *waits = key;
        }
    }
}

type Table = Futexes<Arc<Thread>, 64>;

const A: Key = Key::private(1, 0x1000);
const B: Key = Key::private(1, 0x1004);

fn wait(table: &Table, id: u32, key: Key, bits: u32) -> (Arc<Thread>, Option<Sleep>) {
    let thread = Arc::new(Thread {
        id,
        link: Link::new(),
        park: ParkWord::new(),
        waits: SpinLock::new(Some((key, bits))),
    });
    let begin = || {
        let sleep = thread.park.next();
        thread.park.begin();
        sleep
    };
    let sleep = table.wait(key, &thread, 5, || Ok::<_, ()>(5), begin);
    (thread.clone(), sleep.unwrap())
}

fn waiters(table: &Table, key: Key, count: u32) -> Vec<Arc<Thread>> {
    (0..count).map(|id| wait(table, id, key, ANY).0).collect()
}

/// Carries a wake to its end: who was woken, and what the call returns.
fn carry(table: &Table, mut waking: Waking) -> (Vec<u32>, u64) {
    let mut woken = Queue::new();
    while waking.step(table, &mut woken) {}
    (ids(woken), waking.done())
}

fn ids(mut woken: Queue<Arc<Thread>>) -> Vec<u32> {
    core::iter::from_fn(|| woken.pop())
        .map(|thread| thread.id)
        .collect()
}

#[test]
fn a_word_that_differs_lets_nobody_wait() {
    let table = Table::new();
    let (thread, sleep) = wait(&table, 0, A, ANY);
    assert!(sleep.is_some());
    assert!(thread.link.is_queued());
    let begin = || panic!("a sleep begins");
    assert_eq!(
        table.wait(A, &thread, 5, || Ok::<_, ()>(6), begin),
        Ok(None)
    );
    assert_eq!(table.wait(A, &thread, 5, || Err(()), begin), Err(()));
}

#[test]
fn wakes_take_those_who_wait_for_the_word_and_the_bits_in_their_order() {
    let table = Table::new();
    let _threads = [
        wait(&table, 0, A, 1),
        wait(&table, 1, B, ANY),
        wait(&table, 2, A, 2),
        wait(&table, 3, A, 3),
    ];
    assert_eq!(carry(&table, Waking::new(A, ANY, 4)), (vec![], 0));
    assert_eq!(carry(&table, Waking::new(A, 1, 2)), (vec![2], 1));
    assert_eq!(carry(&table, Waking::new(A, ANY, ANY)), (vec![0, 3], 2));
    assert!(table.wake_one(B, 0).is_none());
    assert_eq!(table.wake_one(B, ANY).map(|thread| thread.id), Some(1));
    assert!(table.wake_one(B, ANY).is_none());
}

#[test]
fn many_are_woken_in_steps_and_counted_once() {
    let table = Table::new();
    let _threads = waiters(&table, A, 100);
    let mut waking = Waking::new(A, 90, ANY);
    let mut woken = Queue::new();
    let mut steps = 1;
    while waking.step(&table, &mut woken) {
        steps += 1;
    }
    assert_eq!((steps, woken.len(), waking.done()), (3, 90, 90));
    assert_eq!(carry(&table, Waking::new(A, ANY, ANY)).1, 10);
}

#[test]
fn moved_waiters_wait_for_the_other_word() {
    let table = Table::new();
    let _threads = waiters(&table, A, 80);
    let requeue = Waking::requeue(A, 2, B, 70);
    let (woken, done) = carry(&table, requeue);
    assert_eq!((woken, done), (vec![0, 1], 72));
    assert_eq!(carry(&table, Waking::new(A, ANY, ANY)).1, 8);
    let (moved, _) = carry(&table, Waking::new(B, ANY, ANY));
    assert_eq!(moved, (2..72).collect::<Vec<_>>());
    // To where they are already, nobody is moved.
    let _threads = waiters(&table, A, 3);
    assert_eq!(carry(&table, Waking::requeue(A, 1, A, 9)), (vec![0], 1));
}

#[test]
fn a_requeue_compares_first() {
    let table = Table::new();
    let _threads = waiters(&table, A, 3);
    let mut requeue = Waking::requeue(A, 1, B, 9);
    let mut woken = Queue::new();
    let other = requeue.step_if(&table, &mut woken, 5, || Ok::<_, ()>(4));
    assert_eq!((other, woken.len()), (Ok(None), 0));
    let unread = requeue.step_if(&table, &mut woken, 5, || Err(7));
    assert_eq!((unread, woken.len()), (Err(7), 0));
    let equal = requeue.step_if(&table, &mut woken, 5, || Ok::<_, ()>(5));
    assert_eq!(
        (equal, woken.len(), requeue.done()),
        (Ok(Some(false)), 1, 3)
    );
}

#[test]
fn one_word_and_then_the_other() {
    let table = Table::new();
    let _threads = [waiters(&table, A, 40), waiters(&table, B, 40)];
    let (woken, done) = carry(&table, Waking::both(A, 35, B, 2));
    assert_eq!((woken.len(), done), (37, 37));
    assert_eq!(woken[35..], [0, 1]);
    assert_eq!(carry(&table, Waking::both(A, 0, B, 1)).1, 1);
}

#[test]
fn who_leaves_is_in_no_queue_wherever_it_was_moved() {
    let table = Table::new();
    let (thread, sleep) = wait(&table, 0, A, ANY);
    carry(&table, Waking::requeue(A, 0, B, 1));
    assert!(thread.park.claim(sleep.unwrap()));
    table.leave(&thread);
    assert!(!thread.link.is_queued());
    assert_eq!(carry(&table, Waking::new(B, ANY, ANY)).1, 0);
    table.leave(&thread);
}

#[test]
fn words_of_spaces_and_of_objects_are_different_ones() {
    let keys = [
        Key::private(1, 0),
        Key::private(2, 0),
        Key::shared(1, 0),
        Key::shared(2, 0),
        Key::shared(1, 4),
    ];
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(keys.iter().position(|other| other == key), Some(at));
    }
}
