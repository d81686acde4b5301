//! A spin lock that is one 32-bit word, for records whose layout is fixed (frame metadata).

use crate::atomic::{AtomicU32, Ordering};
use crate::rank::{Held, Rank};
use crate::{const_fn, cpu_index, relax};
use core::marker::PhantomData;

/// A lock word: 0 is free, otherwise the holder's CPU index plus one.
///
/// It protects nothing by type: the code that owns the record says what it covers. All zeroes is a
/// valid free lock, so zeroed metadata needs no initialisation.
#[repr(transparent)]
pub struct LockWord<R: Rank> {
    word: AtomicU32,
    rank: PhantomData<fn() -> R>,
}

impl<R: Rank> LockWord<R> {
    const_fn! {
        /// A free lock.
        pub const fn new() -> Self {
            Self { word: AtomicU32::new(0), rank: PhantomData }
        }
    }

    /// Waits for the lock. Others of its rank may be held if their keys are smaller than `key`.
    #[inline]
    pub fn lock(&self, key: u64) -> WordGuard<'_, R> {
        let held = Held::ordered::<R>(key);
        while !self.take() {
            while self.word.load(Ordering::Relaxed) != 0 {
                relax();
            }
        }
        WordGuard {
            lock: self,
            _held: held,
            on_this_cpu: PhantomData,
        }
    }

    /// Takes the lock if it is free. Allowed in any order, since it does not wait.
    #[inline]
    pub fn try_lock(&self) -> Option<WordGuard<'_, R>> {
        let taken = self.take();
        taken.then(|| WordGuard {
            lock: self,
            _held: Held::tried::<R>(),
            on_this_cpu: PhantomData,
        })
    }

    /// The CPU that holds the lock at this moment, for reports and assertions.
    pub fn holder(&self) -> Option<usize> {
        (self.word.load(Ordering::Relaxed) as usize).checked_sub(1)
    }

    #[inline(always)]
    fn take(&self) -> bool {
        let me = cpu_index() as u32 + 1;
        self.word
            .compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

impl<R: Rank> Default for LockWord<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Rank> core::fmt::Debug for LockWord<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "LockWord<{}>({:?})", R::NAME, self.holder())
    }
}

/// Proof that a [`LockWord`] is held by this CPU; dropping it releases the lock.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct WordGuard<'a, R: Rank> {
    lock: &'a LockWord<R>,
    _held: Held,
    on_this_cpu: PhantomData<*mut ()>,
}

impl<'a, R: Rank> WordGuard<'a, R> {
    /// The lock this guard holds, to check that a guard belongs to a record.
    pub fn lock_word(&self) -> &'a LockWord<R> {
        self.lock
    }
}

impl<R: Rank> Drop for WordGuard<'_, R> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.word.store(0, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::rank::Table;

    #[test]
    fn the_word_names_its_holder_and_is_free_again_after_the_guard() {
        let lock = LockWord::<Table>::new();
        let guard = lock.lock(7);
        assert_eq!(lock.holder(), Some(cpu_index()));
        assert!(lock.try_lock().is_none());
        drop(guard);
        assert_eq!(lock.holder(), None);
        assert!(lock.try_lock().is_some());
    }

    #[test]
    fn the_lock_is_one_word() {
        assert_eq!(size_of::<LockWord<Table>>(), 4);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "second Table lock")]
    fn tables_in_descending_order_are_caught() {
        let (low, high) = (LockWord::<Table>::new(), LockWord::<Table>::new());
        let _high = high.lock(2);
        let _low = low.lock(1);
    }
}
