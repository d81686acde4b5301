//! Futexes: waiting on a word of user memory.
//!
//! A waiter takes the bucket's lock, reads the word *without lock or fault*, compares, and enters
//! the bucket's queue before the lock is released; a waker takes the same lock. So a wake that
//! follows a change of the word finds either the waiter in the queue or a waiter that will read
//! the new value (D4).
//!
//! Who takes a waiter out of its bucket has claimed its sleep before ([`park`](crate::park)), and
//! makes it runnable: a waker under the bucket's lock, a time-out or the end of a process by
//! [`Futexes::leave`].

mod op;
mod waking;

use core::ops::Deref;

use sync::planted::{Fault, is};
use sync::{CachePadded, Linked, Queue, SpinLock, rank};

use crate::park::{ParkWord, Sleep};
pub use op::WakeOp;
pub use waking::Waking;

/// Matches every wake.
pub const ANY: u32 = u32::MAX;

/// What a futex is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Number of a space, or of an object: with bit 0 set.
    owner: u64,
    at: u64,
}

impl Key {
    /// The word at `va` in the space of number `space`.
    pub const fn private(space: u32, va: u64) -> Self {
        Self {
            owner: (space as u64) << 1,
            at: va,
        }
    }

    /// The word at `offset` in the memory object of number `object`, wherever it is mapped.
    pub const fn shared(object: u32, offset: u64) -> Self {
        Self {
            owner: (object as u64) << 1 | 1,
            at: offset,
        }
    }

    fn bucket(self, buckets: usize) -> usize {
        // The golden ratio spreads neighbouring words over the buckets.
        let hash = (self.at >> 2 ^ self.owner << 39).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash >> 58) as usize % buckets
    }
}

/// A thread, as far as futexes are concerned.
pub trait Waiter {
    /// Who may wake it.
    fn park(&self) -> &ParkWord;

    /// The futex that it waits for, or has waited for last, and the bits of wakes that concern it.
    fn futex(&self) -> Option<(Key, u32)>;

    /// It waits for another futex from here on.
    fn set_futex(&self, key: Key);
}

/// Waiters of one bucket.
pub type Waiters<H> = Queue<H>;
type Bucket<H> = CachePadded<SpinLock<Waiters<H>, rank::FutexBucket>>;

/// All waiters of a machine, in `N` buckets, at most 64.
pub struct Futexes<H, const N: usize>
where
    H: Clone + Deref,
    H::Target: Linked<H>,
{
    buckets: [Bucket<H>; N],
}

impl<H, const N: usize> Futexes<H, N>
where
    H: Clone + Deref,
    H::Target: Linked<H>,
{
    /// Nobody waits.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        const { assert!(N != 0 && N <= 64) };
        Self {
            buckets: [const { CachePadded::new(SpinLock::new(Queue::new())) }; N],
        }
    }

    /// Nobody waits.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            buckets: core::array::from_fn(|_| CachePadded::new(SpinLock::new(Queue::new()))),
        }
    }

    fn bucket(&self, key: Key) -> &Bucket<H> {
        &self.buckets[key.bucket(N)]
    }

    /// Locks the buckets of both keys in the order of their addresses. The second is `None` when
    /// they share one.
    fn with_both<R>(
        &self,
        from: Key,
        to: Key,
        act: impl FnOnce(&mut Waiters<H>, Option<&mut Waiters<H>>) -> R,
    ) -> R {
        let (a, b) = (from.bucket(N), to.bucket(N));
        if a == b {
            return act(&mut self.buckets[a].lock(), None);
        }
        if a < b || is(Fault::RequeueUnordered) {
            let mut from = self.buckets[a].lock_nested(a as u64);
            let mut to = self.buckets[b].lock_nested(b as u64);
            return act(&mut from, Some(&mut to));
        }
        let mut to = self.buckets[b].lock_nested(b as u64);
        let mut from = self.buckets[a].lock_nested(a as u64);
        act(&mut from, Some(&mut to))
    }
}

impl<H, const N: usize> Futexes<H, N>
where
    H: Clone + Deref,
    H::Target: Linked<H> + Waiter,
{
    /// Lets `thread` wait for `key` if its word is `expected`. `load` reads the word, without a lock
    /// and without a fault; `begin` starts the sleep, with the key in the thread's record. `None`:
    /// the word differs, and there is no sleep. After a sleep has begun the caller looks again
    /// whether it is to be ended at once ([`ParkWord::look_again`]), by [`Self::leave`].
    ///
    /// # Errors
    /// Those of `load`: the word is to be faulted in, with no lock held, and the wait to be begun
    /// anew.
    #[inline]
    pub fn wait<E>(
        &self,
        key: Key,
        thread: &H,
        expected: u32,
        load: impl Fn() -> Result<u32, E>,
        begin: impl FnOnce() -> Sleep,
    ) -> Result<Option<Sleep>, E> {
        let early = is(Fault::FutexCompareUnlocked).then(&load);
        let mut bucket = self.bucket(key).lock();
        if early.unwrap_or_else(load)? != expected {
            return Ok(None);
        }
        let sleep = begin();
        let pushed = bucket.push(thread.clone());
        debug_assert!(pushed.is_ok());
        Ok(Some(sleep))
    }

    /// Takes a thread whose sleep was claimed out of its bucket. It may be moved to another one
    /// meanwhile, so the key is read again under the lock.
    pub fn leave(&self, thread: &H) {
        while let Some((key, _)) = thread.futex() {
            let mut bucket = self.bucket(key).lock();
            if thread.futex().is_some_and(|(now, _)| now == key) {
                let left = bucket.remove(thread);
                drop(bucket);
                drop(left);
                return;
            }
        }
    }

    /// Takes one waiter out that matches `bitset`, and whose sleep is over: to be made runnable.
    pub fn wake_one(&self, key: Key, bitset: u32) -> Option<H> {
        take_one(&mut self.bucket(key).lock(), key, bitset)
    }
}

impl<H, const N: usize> Default for Futexes<H, N>
where
    H: Clone + Deref,
    H::Target: Linked<H>,
{
    fn default() -> Self {
        Self::new()
    }
}

fn is_waiting(thread: &(impl Waiter + ?Sized), key: Key, bitset: u32) -> bool {
    thread
        .futex()
        .is_some_and(|(waits, bits)| waits == key && bits & bitset != 0)
}

/// Takes the first waiter out whose sleep nobody else has claimed.
fn take_one<H>(bucket: &mut Waiters<H>, key: Key, bitset: u32) -> Option<H>
where
    H: Clone + Deref,
    H::Target: Linked<H> + Waiter,
{
    bucket.remove_first(|t| is_waiting(&**t, key, bitset) && t.park().claim_any())
}

#[cfg(all(test, not(loom)))]
mod tests;
