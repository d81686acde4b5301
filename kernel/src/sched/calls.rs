//! Which unknown system calls were made, by number, in constant time.
//!
//! Each CPU counts for itself, so that counting takes neither a lock nor an exclusive access; a
//! report adds up. One program runs at a time, and the counters start again with each.

use sync::atomic::{AtomicU32, Ordering};
use sync::{CachePadded, MAX_CPUS, cpu_index};

/// Numbers below this have a counter of their own: all that Linux has given out for arm64.
const NUMBERS: usize = 480;

/// Further numbers that have a counter of their own, in the order in which they are first used.
const FURTHER: usize = 16;

/// Counters of one CPU, written by that CPU only.
#[derive(Debug)]
struct CallCounts {
    by_number: [AtomicU32; NUMBERS],
    /// Number and count; a count of zero ends the list.
    further: [(AtomicU32, AtomicU32); FURTHER],
    /// Calls for which there was no place left.
    rest: AtomicU32,
}

impl CallCounts {
    const fn new() -> Self {
        Self {
            by_number: [const { AtomicU32::new(0) }; NUMBERS],
            further: [const { (AtomicU32::new(0), AtomicU32::new(0)) }; FURTHER],
            rest: AtomicU32::new(0),
        }
    }

    #[inline]
    fn count(&self, number: u32) {
        match self.by_number.get(number as usize) {
            Some(counter) => add_one(counter),
            None => self.count_further(number),
        }
    }

    #[inline]
    fn count_further(&self, number: u32) {
        for (place, counter) in &self.further {
            if counter.load(Ordering::Relaxed) == 0 {
                place.store(number, Ordering::Relaxed);
            }
            if place.load(Ordering::Relaxed) == number {
                return add_one(counter);
            }
        }
        add_one(&self.rest);
    }

    fn of(&self, number: u32) -> u32 {
        let further = || {
            let mut used = self.further.iter();
            used.find(|(place, _)| place.load(Ordering::Relaxed) == number)
                .map(|(_, counter)| counter)
        };
        let counter = self.by_number.get(number as usize).or_else(further);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

static COUNTS: [CachePadded<CallCounts>; MAX_CPUS] =
    [const { CachePadded::new(CallCounts::new()) }; MAX_CPUS];

/// Counts a call.
#[inline]
pub fn count(number: u32) {
    COUNTS[cpu_index() % MAX_CPUS].count(number);
}

#[inline]
fn add_one(counter: &AtomicU32) {
    let next = counter.load(Ordering::Relaxed).wrapping_add(1);
    counter.store(next, Ordering::Relaxed);
}

/// Forgets all counts: another program begins.
pub fn reset() {
    for calls in COUNTS.iter() {
        let further = calls
            .further
            .iter()
            .flat_map(|(place, counter)| [place, counter]);
        let counters = calls.by_number.iter().chain(further).chain([&calls.rest]);
        counters.for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

fn sum(number: u32) -> u32 {
    COUNTS.iter().map(|calls| calls.of(number)).sum()
}

/// Calls `see` with each number that was used and how often. A number above the table that more
/// than one CPU met is seen once, with its sum.
pub fn each(mut see: impl FnMut(u32, u32)) {
    for number in 0..NUMBERS as u32 {
        match sum(number) {
            0 => {}
            count => see(number, count),
        }
    }
    for (cpu, calls) in COUNTS.iter().enumerate() {
        for (place, counter) in &calls.further {
            let number = place.load(Ordering::Relaxed);
            let used = counter.load(Ordering::Relaxed) != 0;
            if used && COUNTS[..cpu].iter().all(|earlier| earlier.of(number) == 0) {
                see(number, sum(number));
            }
        }
    }
}

/// All unknown calls.
pub fn total() -> u64 {
    let mut total: u64 = COUNTS
        .iter()
        .map(|calls| u64::from(calls.rest.load(Ordering::Relaxed)))
        .sum();
    each(|_, count| total += u64::from(count));
    total
}
