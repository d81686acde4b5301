//! Grace periods: when has every CPU let go of what it may have read without a lock?
//!
//! Being in the kernel is the read side of a lockless walk (D3). Whoever unlinks something that a
//! walker may be reading [`start`](Grace::start)s a grace period and frees the thing when
//! [`is_over`](Grace::is_over) says so. Nobody waits: the freeing is a work item that asks again.
//!
//! A CPU reports by storing, on its way out of the kernel, *the number it has just loaded*. The
//! pair of arguments, for a CPU `c` and a grace period `n`:
//!
//! - *its past reads are over*: they come before the release store of `seen[c]`, which the acquire
//!   load in `is_over` reads;
//! - *its future reads see the unlinking*: `c` stored at least `n`, so its acquire load had read a
//!   number written by `start` after the unlinking.
//!
//! A counter that `c` merely bumps gives the first argument but not the second: the bump may pass
//! between the unlinking and its becoming visible to `c`. `tests/loom.rs` shows that variant fail.
//!
//! An idle (or offline) CPU reads nothing, so it counts as having seen every number. Going idle
//! and coming back are full barriers, paired with the one in `start`: if `is_over` still finds the
//! CPU idle, then its barrier on the way back comes after the one in `start`, and its reads see the
//! unlinking.

use crate::atomic::{AtomicU64, Ordering, fence};
use crate::{CachePadded, MAX_CPUS, const_fn};

/// Idle or offline: nothing is being read.
const IDLE: u64 = u64::MAX;

/// The names of grace periods begun; over when every CPU has seen the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Grace periods over `CPUS` processors (at most 64).
pub struct Grace<const CPUS: usize = MAX_CPUS> {
    /// The number of the grace period begun last.
    current: CachePadded<AtomicU64>,
    /// All up to this number are known to be over. Keeps an answer of "over" from being taken back
    /// by a CPU that returns from idle with an old number.
    completed: CachePadded<AtomicU64>,
    seen: [CachePadded<AtomicU64>; CPUS],
}

impl<const CPUS: usize> Grace<CPUS> {
    const_fn! {
        /// No grace period begun, all CPUs offline.
        pub const fn new() -> Self {
            #[cfg(not(loom))]
            let seen = [const { CachePadded::new(AtomicU64::new(IDLE)) }; CPUS];
            #[cfg(loom)]
            let seen = core::array::from_fn(|_| CachePadded::new(AtomicU64::new(IDLE)));
            Self {
                current: CachePadded::new(AtomicU64::new(0)),
                completed: CachePadded::new(AtomicU64::new(0)),
                seen,
            }
        }
    }

    /// `cpu` begins to take part. To be called by that CPU before it reads anything shared.
    pub fn online(&self, cpu: usize) {
        self.idle_exit(cpu);
    }

    /// `cpu` leaves the kernel: what it read before, it no longer uses. Called by that CPU.
    #[inline]
    pub fn quiescent(&self, cpu: usize) {
        let current = self.current.load(Ordering::Acquire);
        // The remainder changes nothing and lets the compiler leave out the bounds check.
        self.seen[cpu % CPUS].store(current, Ordering::Release);
    }

    /// `cpu` begins an extended quiescent state. Called by that CPU.
    pub fn idle_enter(&self, cpu: usize) {
        fence(Ordering::SeqCst);
        self.seen[cpu].store(IDLE, Ordering::Release);
    }

    /// `cpu` ends its extended quiescent state and may read again. Called by that CPU.
    pub fn idle_exit(&self, cpu: usize) {
        let current = self.current.load(Ordering::Acquire);
        self.seen[cpu].store(current, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Begins a grace period for what the caller has unlinked before this call.
    pub fn start(&self) -> Ticket {
        let number = self.current.fetch_add(1, Ordering::AcqRel) + 1;
        fence(Ordering::SeqCst);
        Ticket(number)
    }

    /// Whether nobody can still be reading what was unlinked before `ticket` was made. Once true,
    /// always true. Reads one word per CPU, or one in all if the answer is known already.
    pub fn is_over(&self, ticket: Ticket) -> bool {
        if self.completed.load(Ordering::Acquire) >= ticket.0 {
            return true;
        }
        // The acquire loads are what lets the caller free: every CPU's reads have happened before.
        let over = self
            .seen
            .iter()
            .all(|seen| seen.load(Ordering::Acquire) >= ticket.0);
        if over {
            self.completed.fetch_max(ticket.0, Ordering::AcqRel);
        }
        over
    }

    /// The CPUs that `ticket` still waits for, one bit each: those to send an interrupt to.
    pub fn laggards(&self, ticket: Ticket) -> u64 {
        let late = |seen: &CachePadded<AtomicU64>| seen.load(Ordering::Relaxed) < ticket.0;
        let bits = self.seen.iter().enumerate();
        bits.fold(0, |mask, (cpu, seen)| mask | u64::from(late(seen)) << cpu)
    }

    /// Whether a grace period is open, so that a timer must stay armed.
    pub fn pending(&self) -> bool {
        !self.is_over(Ticket(self.current.load(Ordering::Relaxed)))
    }

    /// The grace period begun last: when it is over, all are.
    pub fn newest(&self) -> Ticket {
        Ticket(self.current.load(Ordering::Acquire))
    }
}

impl<const CPUS: usize> Default for Grace<CPUS> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_grace_period_waits_for_every_online_cpu_and_no_other() {
        let grace = Grace::<4>::new();
        grace.online(0);
        grace.online(2);
        let ticket = grace.start();
        assert!(!grace.is_over(ticket));
        assert_eq!(grace.laggards(ticket), 0b101);
        grace.quiescent(0);
        assert_eq!(grace.laggards(ticket), 0b100);
        assert!(grace.pending());
        grace.quiescent(2);
        assert!(grace.is_over(ticket));
        assert!(!grace.pending());
    }

    #[test]
    fn an_idle_cpu_is_not_waited_for() {
        let grace = Grace::<2>::new();
        grace.online(0);
        grace.online(1);
        grace.idle_enter(1);
        let ticket = grace.start();
        grace.quiescent(0);
        assert!(grace.is_over(ticket));
    }

    #[test]
    fn an_answer_of_over_is_never_taken_back() {
        let grace = Grace::<2>::new();
        grace.online(0);
        let first = grace.start();
        grace.quiescent(0);
        assert!(grace.is_over(first));
        let second = grace.start();
        assert!(!grace.is_over(second));
        assert!(grace.is_over(first));
    }

    #[test]
    fn a_report_before_the_start_does_not_count() {
        let grace = Grace::<1>::new();
        grace.online(0);
        grace.quiescent(0);
        let ticket = grace.start();
        assert!(!grace.is_over(ticket));
    }
}
