//! Who may wake a parked thread: exactly one of several.
//!
//! A thread that waits can be woken by what it waits for, by its time-out and by the end of its
//! process, at the same moment and on different CPUs. Each of them first *claims* the sleep; the
//! one that succeeds takes the thread out of its queues and makes it runnable, the others leave it
//! alone. Sleeps are numbered, so that a late time-out cannot end the next sleep instead. A saved reply may
//! be as late as it likes, so the numbers never come round: 2^63 sleeps are centuries.

use sync::atomic::{AtomicU64, Ordering, fence};
use sync::const_fn;
use sync::planted::{Fault, is};

/// One sleep of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sleep(u64);

/// The word of a thread: odd while it sleeps, and bigger with every sleep.
#[derive(Debug, Default)]
pub struct ParkWord(AtomicU64);

impl ParkWord {
    const_fn! {
        /// Awake.
        pub const fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// The sleep that [`begin`](Self::begin) will start: what a time-out is registered for.
    /// Called by the thread itself, which is awake.
    pub fn next(&self) -> Sleep {
        Sleep(self.0.load(Ordering::Relaxed) | 1)
    }

    /// The thread sleeps from here on. Called for itself, after everything that a waker looks at
    /// is in place. Full barrier, paired with the one in [`claim_any`](Self::claim_any): either
    /// who ends the process sees the sleep, or the thread sees afterwards that its process ends.
    pub fn begin(&self) {
        let word = self.0.load(Ordering::Relaxed);
        self.0.store(word | 1, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Ends `sleep`, if nobody else has.
    #[must_use]
    pub fn claim(&self, sleep: Sleep) -> bool {
        let awake = sleep.0.wrapping_add(1);
        if is(Fault::ClaimTwice) {
            let asleep = self.0.load(Ordering::Acquire) == sleep.0;
            self.0.store(awake, Ordering::Release);
            return asleep;
        }
        self.0
            .compare_exchange(sleep.0, awake, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether `sleep` has not ended.
    pub fn is_asleep(&self, sleep: Sleep) -> bool {
        self.0.load(Ordering::Acquire) == sleep.0
    }

    /// The sleep that the thread is in, if it sleeps at this moment.
    pub fn asleep(&self) -> Option<Sleep> {
        let word = self.0.load(Ordering::Acquire);
        (word & 1 == 1).then_some(Sleep(word))
    }

    /// The look after [`begin`](Self::begin) (law 11): ends `sleep` if what it would have been woken
    /// by has happened before anybody could see it. True: nobody else has woken the thread, so it is
    /// to be made runnable.
    #[must_use]
    pub fn look_again(&self, sleep: Sleep, is_over: impl FnOnce() -> bool) -> bool {
        !is(Fault::ParkWithoutCheck) && is_over() && self.claim(sleep)
    }

    /// Ends whatever sleep there is, if there is one. Only where that is known to be the right one:
    /// under the lock of the queue in which the thread was found (it leaves the queue before it can
    /// sleep again), or because every sleep has to end.
    #[must_use]
    pub fn claim_any(&self) -> bool {
        fence(Ordering::SeqCst);
        let word = self.0.load(Ordering::Acquire);
        word & 1 == 1 && self.claim(Sleep(word))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_claimed_once() {
        let word = ParkWord::new();
        assert!(!word.claim_any());
        let sleep = word.next();
        assert!(!word.claim(sleep), "not asleep yet");
        word.begin();
        assert!(word.claim(sleep));
        assert!(!word.claim(sleep) && !word.claim_any());
    }

    #[test]
    fn a_late_time_out_does_not_end_the_next_sleep() {
        let word = ParkWord::new();
        let first = word.next();
        word.begin();
        assert!(word.claim_any());
        word.begin();
        assert!(!word.claim(first));
        assert!(word.claim_any());
    }

    #[test]
    fn who_looks_again_ends_its_own_sleep_at_most() {
        let word = ParkWord::new();
        let sleep = word.next();
        word.begin();
        assert!(!word.look_again(sleep, || false));
        assert!(word.look_again(sleep, || true));
        word.begin();
        assert!(!word.look_again(sleep, || true));
        assert!(word.claim_any());
    }

    #[test]
    fn of_many_wakers_one_wins() {
        let word = ParkWord::new();
        for _ in 0..if cfg!(miri) { 10 } else { 200 } {
            let sleep = word.next();
            word.begin();
            let wins: usize = std::thread::scope(|s| {
                let all = [0, 1, 2].map(|_| s.spawn(|| word.claim(sleep)));
                all.into_iter()
                    .map(|t| usize::from(t.join().unwrap()))
                    .sum()
            });
            assert_eq!(wins, 1);
        }
    }
}
