//! A sequence count: readers of several words notice that a writer was at work.

use crate::atomic::{AtomicU64, Ordering, fence};
use crate::{const_fn, relax};

/// Odd while a write is going on. The data beside it must be atomics (relaxed is enough).
///
/// Writers exclude each other by a lock of their own; readers never write. Boehm, "Can seqlocks
/// get along with programming language memory models?" (MSPC 2012), has the ordering argument.
pub struct SeqCount {
    sequence: AtomicU64,
}

impl SeqCount {
    const_fn! {
        /// A count with no write begun.
        pub const fn new() -> Self {
            Self { sequence: AtomicU64::new(0) }
        }
    }

    /// Runs `read` until no write came in between, and returns its last answer.
    pub fn read<T>(&self, mut read: impl FnMut() -> T) -> T {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before & 1 == 0 {
                let value = read();
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return value;
                }
            }
            relax();
        }
    }

    /// Begins a write; dropping the result ends it.
    ///
    /// # Panics
    /// If a write is going on: the caller's lock does not exclude writers.
    pub fn write(&self) -> SeqWrite<'_> {
        let before = self.sequence.load(Ordering::Relaxed);
        assert_eq!(before & 1, 0, "two writers of one sequence count");
        self.sequence.store(before + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        SeqWrite { count: self }
    }
}

impl Default for SeqCount {
    fn default() -> Self {
        Self::new()
    }
}

/// A write in progress.
#[must_use = "the write ends when this is dropped"]
pub struct SeqWrite<'a> {
    count: &'a SeqCount,
}

impl Drop for SeqWrite<'_> {
    fn drop(&mut self) {
        let odd = self.count.sequence.load(Ordering::Relaxed);
        self.count.sequence.store(odd + 1, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn readers_never_see_half_a_write() {
        let (count, a, b) = (SeqCount::new(), AtomicU64::new(0), AtomicU64::new(0));
        let done = AtomicBool::new(false);
        let rounds = if cfg!(miri) { 30 } else { 20_000 };
        thread::scope(|scope| {
            scope.spawn(|| {
                for i in 1..=rounds {
                    let _write = count.write();
                    a.store(i, Ordering::Relaxed);
                    b.store(2 * i, Ordering::Relaxed);
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                let pair = || (a.load(Ordering::Relaxed), b.load(Ordering::Relaxed));
                let (a, b) = count.read(pair);
                assert_eq!(b, 2 * a);
            }
        });
    }

    #[test]
    #[should_panic(expected = "two writers")]
    fn a_second_writer_is_caught() {
        let count = SeqCount::new();
        let _first = count.write();
        let _second = count.write();
    }
}
