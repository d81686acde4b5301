//! The spin lock: `spin`'s mutex with a place in the lock order.

use crate::const_fn;
use crate::rank::{Held, NO_KEY, Rank};
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

#[cfg(not(loom))]
mod raw {
    use crate::Relax;

    pub(super) type Mutex<T> = spin::mutex::SpinMutex<T, Relax>;
    pub(super) type Guard<'a, T> = spin::mutex::SpinMutexGuard<'a, T, Relax>;

    #[inline(always)]
    pub(super) fn lock<T>(mutex: &Mutex<T>) -> Guard<'_, T> {
        mutex.lock()
    }

    #[inline(always)]
    pub(super) fn try_lock<T>(mutex: &Mutex<T>) -> Option<Guard<'_, T>> {
        mutex.try_lock()
    }
}

#[cfg(loom)]
mod raw {
    pub(super) type Mutex<T> = loom::sync::Mutex<T>;
    pub(super) type Guard<'a, T> = loom::sync::MutexGuard<'a, T>;

    pub(super) fn lock<T>(mutex: &Mutex<T>) -> Guard<'_, T> {
        mutex.lock().unwrap()
    }

    pub(super) fn try_lock<T>(mutex: &Mutex<T>) -> Option<Guard<'_, T>> {
        mutex.try_lock().ok()
    }
}

/// Mutual exclusion between CPUs, for a few dozen instructions, never across a return to EL0 (D3).
///
/// `R` is the lock's rank; with debug assertions a CPU that takes locks in a wrong order panics.
pub struct SpinLock<T, R: Rank> {
    rank: PhantomData<fn() -> R>,
    inner: raw::Mutex<T>,
}

impl<T, R: Rank> SpinLock<T, R> {
    const_fn! {
        /// A free lock around `value`.
        pub const fn new(value: T) -> Self {
            Self { rank: PhantomData, inner: raw::Mutex::new(value) }
        }
    }

    /// Waits for the lock. Nothing of the same or a greater rank may be held.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T, R> {
        self.lock_nested(NO_KEY)
    }

    /// Waits for the lock, where another of the same rank may be held if its key is smaller.
    ///
    /// Both must be taken by this method; the key is what the rank orders by (an address).
    #[inline]
    pub fn lock_nested(&self, key: u64) -> SpinGuard<'_, T, R> {
        let held = Held::ordered::<R>(key);
        SpinGuard::new(raw::lock(&self.inner), held)
    }

    /// Takes the lock if it is free. Allowed in any order, since it does not wait.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T, R>> {
        let guard = raw::try_lock(&self.inner)?;
        Some(SpinGuard::new(guard, Held::tried::<R>()))
    }

    /// The value, by exclusive access to the lock itself.
    #[cfg(not(loom))]
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T: Default, R: Rank> Default for SpinLock<T, R> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T, R: Rank> core::fmt::Debug for SpinLock<T, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SpinLock<{}>", R::NAME)
    }
}

/// Access to what a [`SpinLock`] protects; dropping it releases the lock.
///
/// It stays on the CPU that took it: the record of held locks is that CPU's.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct SpinGuard<'a, T, R: Rank> {
    // Field order is drop order: the lock is released before the record forgets it.
    inner: raw::Guard<'a, T>,
    _held: Held,
    rank: PhantomData<(R, *mut ())>,
}

impl<'a, T, R: Rank> SpinGuard<'a, T, R> {
    #[inline(always)]
    fn new(inner: raw::Guard<'a, T>, held: Held) -> Self {
        Self {
            inner,
            _held: held,
            rank: PhantomData,
        }
    }
}

impl<T, R: Rank> Deref for SpinGuard<'_, T, R> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T, R: Rank> DerefMut for SpinGuard<'_, T, R> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::rank::{FrameList, Leaf, Object, RunQueue, Table};
    use std::thread;

    #[test]
    fn four_threads_count_exactly() {
        let counter = SpinLock::<u64, Leaf>::new(0);
        let rounds = if cfg!(miri) { 50 } else { 10_000 };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..rounds).for_each(|_| *counter.lock() += 1));
            }
        });
        assert_eq!(*counter.lock(), 4 * rounds);
    }

    #[test]
    fn ascending_ranks_may_nest_and_be_released_in_any_order() {
        let table = SpinLock::<(), Table>::new(());
        let frames = SpinLock::<(), FrameList>::new(());
        let leaf = SpinLock::<(), Leaf>::new(());
        for _ in 0..3 {
            let first = table.lock();
            let second = frames.lock();
            drop(first);
            let third = leaf.lock();
            drop(second);
            drop(third);
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "Table wanted while RunQueue is held")]
    fn a_lower_rank_under_a_higher_one_is_caught() {
        let queue = SpinLock::<(), RunQueue>::new(());
        let table = SpinLock::<(), Table>::new(());
        let _queue = queue.lock();
        let _table = table.lock();
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "second Leaf lock")]
    fn taking_the_same_lock_twice_is_caught_instead_of_hanging() {
        let lock = SpinLock::<(), Leaf>::new(());
        let _once = lock.lock();
        let _twice = lock.lock();
    }

    #[test]
    fn equal_ranks_nest_by_ascending_key() {
        let (a, b) = (
            SpinLock::<(), Object>::new(()),
            SpinLock::<(), Object>::new(()),
        );
        let _a = a.lock_nested(1);
        let _b = b.lock_nested(2);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "second Object lock")]
    fn equal_ranks_by_descending_key_are_caught() {
        let (a, b) = (
            SpinLock::<(), Object>::new(()),
            SpinLock::<(), Object>::new(()),
        );
        let _b = b.lock_nested(2);
        let _a = a.lock_nested(1);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "second Object lock")]
    fn a_lock_without_key_forbids_a_second_of_its_rank() {
        let (a, b) = (
            SpinLock::<(), Object>::new(()),
            SpinLock::<(), Object>::new(()),
        );
        let _a = a.lock();
        let _b = b.lock_nested(2);
    }

    #[test]
    fn try_lock_fails_on_a_held_lock_and_ignores_the_order() {
        let queue = SpinLock::<(), RunQueue>::new(());
        let table = SpinLock::<(), Table>::new(());
        let held = queue.lock();
        assert!(queue.try_lock().is_none());
        assert!(table.try_lock().is_some());
        drop(held);
        assert!(queue.try_lock().is_some());
    }
}
