//! One sleeper and those who may end its sleep.

use ipc::park::ParkWord;
use loom::sync::Arc;
use loom::thread;
use sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

use crate::run::explore;

sync::models! {
    of_two_wakers_one_wins { ClaimTwice: "woken twice" }
    a_late_time_out_against_the_next_sleep {}
    death_against_parking { ParkWithoutCheck: "sleeps for ever" }
}

struct Sleeper {
    park: ParkWord,
    woken: AtomicUsize,
    dying: AtomicBool,
}

impl Sleeper {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            park: ParkWord::new(),
            woken: AtomicUsize::new(0),
            dying: AtomicBool::new(false),
        })
    }

    /// Whoever has claimed the sleep makes the thread runnable.
    fn wake_if(&self, claimed: bool) {
        if claimed {
            self.woken.fetch_add(1, Relaxed);
        }
    }
}

/// A waker that has found the sleeper in its queue, and the time-out.
fn of_two_wakers_one_wins() {
    explore(|| {
        let sleeper = Sleeper::new();
        let sleep = sleeper.park.next();
        sleeper.park.begin();
        let other = sleeper.clone();
        let timer = thread::spawn(move || other.wake_if(other.park.claim(sleep)));
        sleeper.wake_if(sleeper.park.claim_any());
        timer.join().unwrap();
        let woken = sleeper.woken.load(Relaxed);
        assert!(woken != 0, "sleeps for ever");
        assert!(woken == 1, "woken twice");
    });
}

/// The time-out of a first sleep comes while the sleeper, woken by others, parks once more.
fn a_late_time_out_against_the_next_sleep() {
    explore(|| {
        let sleeper = Sleeper::new();
        let first = sleeper.park.next();
        sleeper.park.begin();
        let other = sleeper.clone();
        let timer = thread::spawn(move || other.wake_if(other.park.claim(first)));
        sleeper.wake_if(sleeper.park.claim_any());
        let second = sleeper.park.next();
        sleeper.park.begin();
        timer.join().unwrap();
        assert_eq!(sleeper.woken.load(Relaxed), 1);
        assert!(
            sleeper.park.claim(second),
            "the time-out ended another sleep"
        );
    });
}

/// A process ends while one of its threads parks: whoever ends it sees the sleep, or the thread sees
/// the end.
fn death_against_parking() {
    explore(|| {
        let sleeper = Sleeper::new();
        let other = sleeper.clone();
        let killer = thread::spawn(move || {
            other.dying.store(true, Relaxed);
            other.wake_if(other.park.claim_any());
        });
        let sleep = sleeper.park.next();
        sleeper.park.begin();
        let is_over = || sleeper.dying.load(Relaxed);
        sleeper.wake_if(sleeper.park.look_again(sleep, is_over));
        killer.join().unwrap();
        let woken = sleeper.woken.load(Relaxed);
        assert!(woken != 0, "sleeps for ever");
        assert!(woken == 1, "woken twice");
    });
}
