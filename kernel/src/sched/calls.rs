//! Which unknown system calls were made, by number, in constant time.
//!
//! Each CPU counts for itself, so that counting takes neither a lock nor an exclusive access; a
//! report adds up. One program runs at a time, and the counters start again with each.

use sync::atomic::{AtomicU32, Ordering};
use sync::{CachePadded, MAX_CPUS, cpu_index};


/// Numbers below this have a counter of their own: all that Linux has given out for arm64.
const NUMBERS: usize = 480;

/// Counters of one CPU, written by that CPU only.
#[derive(Debug)]
struct CallCounts {
    by_number: [AtomicU32; NUMBERS],
    beyond: AtomicU32,
    beyond_first: AtomicU32,
}

impl CallCounts {
    const fn new() -> Self {
        Self {
            by_number: [const { AtomicU32::new(0) }; NUMBERS],
            beyond: AtomicU32::new(0),
            beyond_first: AtomicU32::new(0),
        }
    }

    #[inline]
    fn count(&self, number: u32) {
        match self.by_number.get(number as usize) {
            Some(counter) => add_one(counter),
            None => self.count_beyond(number),
        }
    }

    #[inline]
    fn count_beyond(&self, number: u32) {
        if self.beyond.load(Ordering::Relaxed) == 0 {
            self.beyond_first.store(number, Ordering::Relaxed);
        }
        add_one(&self.beyond);
    }
}

static COUNTS: [CachePadded<CallCounts>; MAX_CPUS] =
    [const { CachePadded::new(CallCounts::new()) }; MAX_CPUS];

/// Counts a call. Numbers beyond the table are counted together, under the first of them.
#[inline]
pub fn count(number: u32) {
    COUNTS[cpu_index() % MAX_CPUS].count(number);
}

#[inline]
fn add_one(counter: &AtomicU32) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// Forgets all counts: another program begins.
pub fn reset() {
    for calls in COUNTS.iter() {
        let counters = calls.by_number.iter().chain([&calls.beyond]);
        counters.for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

/// Calls `see` with each number that was used and how often.
pub fn each(mut see: impl FnMut(u32, u32)) {
    let sum = |of: &dyn Fn(&CallCounts) -> &AtomicU32| -> u32 {
        COUNTS.iter().map(|calls| of(calls).load(Ordering::Relaxed)).sum()
    };
    for number in 0..NUMBERS {
        match sum(&|calls| &calls.by_number[number]) {
            0 => {}
            count => see(number as u32, count),
        }
    }
    let beyond = sum(&|calls| &calls.beyond);
    let first = COUNTS.iter().find(|calls| calls.beyond.load(Ordering::Relaxed) != 0);
    if let Some(first) = first {
        see(first.beyond_first.load(Ordering::Relaxed), beyond);
    }
}

/// All unknown calls.
pub fn total() -> u64 {
    let mut total = 0;
    each(|_, count| total += u64::from(count));
    total
}
