//! Waiters in two buckets, and wakes, time-outs, moves and ends that meet them.

use ipc::futex::{ANY, Futexes, Key, Waiter, Waking};
use ipc::park::{ParkWord, Sleep};
use loom::sync::Arc;
use loom::thread;
use sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};
use sync::{Link, Linked, Queue, SpinLock, rank};

use crate::run::{explore, explore_bounded};

sync::models! {
    wait_against_wake { FutexCompareUnlocked: "sleeps for ever" }
    wake_against_time_out { ClaimTwice: "woken twice" }
    wait_against_death { ParkWithoutCheck: "sleeps for ever" }
    move_against_time_out { RequeueWithoutKey: "queued while it runs" }
    move_against_wake_of_either {}
    two_wakers_of_one_waiter {}
    moves_to_and_fro { RequeueUnordered: "deadlock" }
}

/// Two words in different buckets of two.
const FROM: Key = Key::private(0, 0);
const TO: Key = Key::private(0, 4);

type Handle = std::sync::Arc<Thread>;

struct Thread {
    link: Link<Handle>,
    park: ParkWord,
    waits: SpinLock<Option<(Key, u32)>, rank::Leaf>,
    dying: AtomicBool,
    /// How often it was made runnable.
    woken: AtomicUsize,
}

impl Linked<Handle> for Thread {
    fn link(&self) -> &Link<Handle> {
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
        *self.waits.lock() = Some((key, ANY));
    }
}

impl Thread {
    fn new() -> Handle {
        std::sync::Arc::new(Self {
            link: Link::new(),
            park: ParkWord::new(),
            waits: SpinLock::new(None),
            dying: AtomicBool::new(false),
            woken: AtomicUsize::new(0),
        })
    }

    /// Who has claimed the sleep makes the thread runnable, when it is in no queue any more.
    fn run(&self) {
        assert!(!self.link.is_queued(), "queued while it runs");
        self.woken.fetch_add(1, Relaxed);
    }

    /// The end of a model in which the thread has slept and was woken.
    fn has_run_once(&self) {
        let woken = self.woken.load(Relaxed);
        assert!(woken != 0, "sleeps for ever");
        assert!(woken == 1, "woken twice");
        assert!(!self.link.is_queued(), "queued while it runs");
    }
}

struct World {
    futexes: Futexes<Handle, 2>,
    word: AtomicU32,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            futexes: Futexes::new(),
            word: AtomicU32::new(0),
        })
    }

    /// Waits for `key` as long as the word is 0.
    fn wait(&self, thread: &Handle, key: Key) -> Option<Sleep> {
        let begin = || {
            let sleep = thread.park.next();
            thread.set_futex(key);
            thread.park.begin();
            sleep
        };
        let load = || Ok::<_, ()>(self.word.load(Relaxed));
        self.futexes.wait(key, thread, 0, load, begin).unwrap()
    }

    /// A thread that sleeps on `key`.
    fn sleeper(&self, key: Key) -> (Handle, Sleep) {
        let thread = Thread::new();
        let sleep = self.wait(&thread, key).unwrap();
        (thread, sleep)
    }

    fn carry(&self, mut waking: Waking) -> u64 {
        let mut woken = Queue::new();
        while waking.step(&self.futexes, &mut woken) {}
        while let Some(thread) = woken.pop() {
            thread.run();
        }
        waking.done()
    }

    fn wake(&self, key: Key) -> u64 {
        self.carry(Waking::new(key, ANY, ANY))
    }

    fn requeue(&self, from: Key, to: Key) {
        self.carry(Waking::requeue(from, 0, to, ANY));
    }

    /// A time-out of `sleep`, or its end by `claimed`.
    fn end(&self, thread: &Handle, claimed: bool) {
        if claimed {
            self.futexes.leave(thread);
            thread.run();
        }
    }
}

/// The word changes, then its waiters are woken: who waited for the old value does not sleep on.
fn wait_against_wake() {
    explore(|| {
        let world = World::new();
        let thread = Thread::new();
        let (w, t) = (world.clone(), thread.clone());
        let waiter = thread::spawn(move || w.wait(&t, FROM).is_some());
        world.word.store(1, Relaxed);
        world.wake(FROM);
        if waiter.join().unwrap() {
            thread.has_run_once();
        }
    });
}

fn wake_against_time_out() {
    explore(|| {
        let world = World::new();
        let (thread, sleep) = world.sleeper(FROM);
        let (w, t) = (world.clone(), thread.clone());
        let timer = thread::spawn(move || w.end(&t, t.park.claim(sleep)));
        world.wake(FROM);
        timer.join().unwrap();
        thread.has_run_once();
    });
}

/// The process ends while a thread begins to wait.
fn wait_against_death() {
    explore(|| {
        let world = World::new();
        let thread = Thread::new();
        let (w, t) = (world.clone(), thread.clone());
        let killer = thread::spawn(move || {
            t.dying.store(true, Relaxed);
            w.end(&t, t.park.claim_any());
        });
        let sleep = world.wait(&thread, FROM).unwrap();
        let is_over = || thread.dying.load(Relaxed);
        world.end(&thread, thread.park.look_again(sleep, is_over));
        killer.join().unwrap();
        thread.has_run_once();
    });
}

/// A waiter is moved while its time-out takes it out.
fn move_against_time_out() {
    explore(|| {
        let world = World::new();
        let (thread, sleep) = world.sleeper(FROM);
        let (w, t) = (world.clone(), thread.clone());
        let timer = thread::spawn(move || w.end(&t, t.park.claim(sleep)));
        world.requeue(FROM, TO);
        timer.join().unwrap();
        thread.has_run_once();
    });
}

/// A waiter is moved while one CPU wakes those of the old word, then those of the new one.
fn move_against_wake_of_either() {
    explore(|| {
        let world = World::new();
        let (thread, _) = world.sleeper(FROM);
        let w = world.clone();
        let waker = thread::spawn(move || w.wake(FROM) + w.wake(TO));
        world.requeue(FROM, TO);
        let early = waker.join().unwrap();
        assert_eq!(early + world.wake(TO), 1);
        thread.has_run_once();
    });
}

fn two_wakers_of_one_waiter() {
    explore(|| {
        let world = World::new();
        let (thread, _) = world.sleeper(FROM);
        let w = world.clone();
        let waker = thread::spawn(move || w.wake(FROM));
        let here = world.wake(FROM);
        assert_eq!(here + waker.join().unwrap(), 1);
        thread.has_run_once();
    });
}

/// Waiters of each word are moved to the other one, and time runs out for one of them.
fn moves_to_and_fro() {
    explore_bounded(3, || {
        let world = World::new();
        let (first, sleep) = world.sleeper(FROM);
        let (second, _) = world.sleeper(TO);
        let w = world.clone();
        let mover = thread::spawn(move || w.requeue(TO, FROM));
        let (w, t) = (world.clone(), first.clone());
        let timer = thread::spawn(move || w.end(&t, t.park.claim(sleep)));
        world.requeue(FROM, TO);
        mover.join().unwrap();
        timer.join().unwrap();
        first.has_run_once();
        assert_eq!(world.wake(FROM) + world.wake(TO), 1);
        second.has_run_once();
    });
}
