//! Waking and moving waiters, a bounded number in a step.

use core::ops::Deref;

use sync::planted::{Fault, is};
use sync::{Linked, Queue};

use super::{ANY, Futexes, Key, Waiter, Waiters, is_waiting, take_one};

/// Waiters that one step wakes or moves.
const BATCH: u32 = 32;

/// What follows when no more waiters of the first futex are to be woken.
#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    /// So many others are moved to another futex.
    Move(Key, u32),
    /// So many waiters of another futex are woken.
    Wake(Key, u32),
}

/// A wake in progress, and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Waking {
    key: Key,
    bitset: u32,
    left: u32,
    done: u64,
    then: Then,
}

impl Waking {
    /// Wakes up to `most` waiters that match `bitset`.
    pub const fn new(key: Key, most: u32, bitset: u32) -> Self {
        Self {
            key,
            bitset,
            left: most,
            done: 0,
            then: Then::Nothing,
        }
    }

    /// Wakes up to `most` waiters, then moves up to `moves` others to `to`.
    pub const fn requeue(key: Key, most: u32, to: Key, moves: u32) -> Self {
        Self {
            then: Then::Move(to, moves),
            ..Self::new(key, most, ANY)
        }
    }

    /// Wakes up to `most` waiters, then up to `more` of another futex.
    pub const fn both(key: Key, most: u32, other: Key, more: u32) -> Self {
        Self {
            then: Then::Wake(other, more),
            ..Self::new(key, most, ANY)
        }
    }

    /// Waiters that were woken and moved so far.
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// Does a bounded part. Who was woken is in `woken`, to be made runnable. True: there is more.
    pub fn step<H, const N: usize>(&mut self, futexes: &Futexes<H, N>, woken: &mut Queue<H>) -> bool
    where
        H: Clone + Deref,
        H::Target: Linked<H> + Waiter,
    {
        match self.then {
            Then::Move(to, _) => {
                futexes.with_both(self.key, to, |from, to| self.batch(from, to, woken))
            }
            _ => self.batch(&mut futexes.bucket(self.key).lock(), None, woken) || self.go_over(),
        }
    }

    /// As [`Self::step`], the first one of a requeue, if the word is `expected`: it is read by
    /// `load`, without a lock and without a fault, under the same locks. `None`: it differs.
    ///
    /// # Errors
    /// Those of `load`: nothing has happened.
    pub fn step_if<H, E, const N: usize>(
        &mut self,
        futexes: &Futexes<H, N>,
        woken: &mut Queue<H>,
        expected: u32,
        load: impl FnOnce() -> Result<u32, E>,
    ) -> Result<Option<bool>, E>
    where
        H: Clone + Deref,
        H::Target: Linked<H> + Waiter,
    {
        let to = match self.then {
            Then::Move(to, _) => to,
            _ => self.key,
        };
        futexes.with_both(self.key, to, |from, to| match load()? {
            word if word != expected => Ok(None),
            _ => Ok(Some(self.batch(from, to, woken))),
        })
    }

    /// The first futex is done with: whether there is another one.
    fn go_over(&mut self) -> bool {
        let Then::Wake(key, most) = self.then else {
            return false;
        };
        *self = Self {
            done: self.done,
            ..Self::new(key, most, ANY)
        };
        true
    }

    /// A batch under the locks. Whether there is more.
    fn batch<H>(
        &mut self,
        from: &mut Waiters<H>,
        to: Option<&mut Waiters<H>>,
        woken: &mut Queue<H>,
    ) -> bool
    where
        H: Clone + Deref,
        H::Target: Linked<H> + Waiter,
    {
        let taken = self.take(from, woken);
        self.left -= taken;
        self.done += u64::from(taken);
        if taken == BATCH {
            return true;
        }
        let Then::Move(key, most) = self.then else {
            return false;
        };
        let budget = most.min(BATCH - taken);
        let moved = move_waiters(from, to, self.key, key, budget);
        self.then = Then::Move(key, most - moved);
        self.done += u64::from(moved);
        // A batch that was cut short by its budget is not the last.
        moved != 0 && moved == budget && moved != most
    }

    /// Takes waiters out and claims their sleep; their number.
    fn take<H>(&self, bucket: &mut Waiters<H>, woken: &mut Queue<H>) -> u32
    where
        H: Clone + Deref,
        H::Target: Linked<H> + Waiter,
    {
        for taken in 0..self.left.min(BATCH) {
            let Some(thread) = take_one(bucket, self.key, self.bitset) else {
                return taken;
            };
            let pushed = woken.push(thread);
            debug_assert!(pushed.is_ok());
        }
        self.left.min(BATCH)
    }
}

/// Moves waiters of `key` to `new`; `to` is `None` when both share a bucket.
fn move_waiters<H>(
    from: &mut Waiters<H>,
    mut to: Option<&mut Waiters<H>>,
    key: Key,
    new: Key,
    most: u32,
) -> u32
where
    H: Clone + Deref,
    H::Target: Linked<H> + Waiter,
{
    let mut moved = 0;
    while moved < most && key != new {
        let Some(thread) = from.remove_first(|t| is_waiting(&**t, key, ANY)) else {
            break;
        };
        if !is(Fault::RequeueWithoutKey) {
            thread.set_futex(new);
        }
        let pushed = match &mut to {
            Some(other) => other.push(thread),
            None => from.push(thread),
        };
        debug_assert!(pushed.is_ok());
        moved += 1;
    }
    moved
}
