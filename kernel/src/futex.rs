//! Futexes: waiting on a word of user memory.
//!
//! A waiter takes the bucket's lock, reads the word *without lock or fault*, compares, and enters
//! the bucket's queue before the lock is released; a waker takes the same lock. So a wake that
//! follows a change of the word finds either the waiter in the queue or a waiter that will read
//! the new value (D4). A word that is not mapped is faulted in with no lock held, and the wait
//! starts over.

use frame::slab::Ref;
use mm::{Access, CopyStop};
use sync::{CachePadded, Queue, SpinLock, rank};

use crate::errno::Errno;
use crate::memory::Space;
use crate::sched::wait::{self, Limit, Place};
use crate::thread::resume::Stop;
use crate::thread::{Resume, Step, Thread};

const BUCKETS: usize = 64;
/// Waiters that one step wakes or moves.
const BATCH: u32 = 32;
/// Matches every wake.
pub const ANY: u32 = u32::MAX;

/// What a futex is found by. Private and shared futexes have the same key: without fork and
/// without shared objects a page is mapped once, in one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    space: u32,
    va: u64,
}

impl Key {
    /// The futex at `va`.
    pub fn new(space: &Space, va: u64) -> Self {
        Self {
            space: space.id(),
            va,
        }
    }

    fn bucket(self) -> usize {
        // The golden ratio spreads neighbouring words over the buckets.
        let hash = (self.va >> 2 ^ u64::from(self.space) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash >> 58) as usize % BUCKETS
    }
}

type Bucket = SpinLock<Queue<Ref<Thread>>, rank::FutexBucket>;
type Waiters = Queue<Ref<Thread>>;

static TABLE: [CachePadded<Bucket>; BUCKETS] =
    [const { CachePadded::new(SpinLock::new(Queue::new())) }; BUCKETS];

fn is_waiting(thread: &Thread, key: Key, bitset: u32) -> bool {
    let wait = thread.wait();
    wait.place == Place::Futex(key) && wait.bitset & bitset != 0
}

/// Parks `thread`, the current one, if the word at `va` is `expected`. It returns 0 when woken.
///
/// # Errors
/// `EAGAIN` if the word differs, `EFAULT`.
pub fn wait(
    thread: &Ref<Thread>,
    va: u64,
    expected: u32,
    bitset: u32,
    limit: Option<Limit>,
) -> Result<Step, Stop> {
    if limit.is_some() {
        wait::reserve_timer()?;
    }
    let space = thread.process().space();
    let key = Key::new(space, va);
    loop {
        let mut bucket = TABLE[key.bucket()].lock();
        match space.load_u32(va) {
            Err(_) => {
                drop(bucket);
                space.touch(va, Access::Read)?;
            }
            Ok(word) if word != expected => return Err(Errno::EAGAIN.into()),
            Ok(_) => {
                thread.set_result(Ok(0));
                let sleep = wait::begin(thread, Place::Futex(key), bitset, limit);
                let pushed = bucket.push(thread.clone());
                debug_assert!(pushed.is_ok());
                drop(bucket);
                wait::check(thread, sleep);
                return Ok(Step::Gone);
            }
        }
    }
}

/// Takes a thread whose sleep was claimed out of its bucket. It may be moved to another one
/// meanwhile, so the key is read again under the lock.
pub fn leave(thread: &Ref<Thread>) {
    while let Place::Futex(key) = thread.wait().place {
        let mut bucket = TABLE[key.bucket()].lock();
        if thread.wait().place == Place::Futex(key) {
            let left = bucket.remove(thread);
            drop(bucket);
            drop(left);
            return;
        }
    }
}

/// Takes up to `most` waiters out and claims their sleep; their number.
fn take(
    bucket: &mut Waiters,
    key: Key,
    bitset: u32,
    most: u32,
    out: &mut Queue<Ref<Thread>>,
) -> u32 {
    let mut taken = 0;
    while taken < most {
        let found = bucket.remove_first(|t| is_waiting(t, key, bitset) && t.park().claim_any());
        let Some(thread) = found else { break };
        let pushed = out.push(thread);
        debug_assert!(pushed.is_ok());
        taken += 1;
    }
    taken
}

fn finish(mut woken: Queue<Ref<Thread>>) {
    while let Some(thread) = woken.pop() {
        wait::finish_dequeued(thread);
    }
}

/// Wakes one waiter.
pub fn wake_one(key: Key) {
    let mut woken = Queue::new();
    take(&mut TABLE[key.bucket()].lock(), key, ANY, 1, &mut woken);
    finish(woken);
}

/// A wake, or a wake and a move of the other waiters to another futex, in progress.
#[derive(Clone, Copy, Debug)]
pub struct Waking {
    key: Key,
    bitset: u32,
    left: u32,
    done: u64,
    moves: Option<Moves>,
}

/// Where waiters are moved to, and how many.
#[derive(Clone, Copy, Debug)]
struct Moves {
    to: Key,
    left: u32,
}

impl Waking {
    /// Wakes up to `most` waiters that match `bitset`.
    pub fn new(key: Key, most: u32, bitset: u32) -> Self {
        Self {
            key,
            bitset,
            left: most,
            done: 0,
            moves: None,
        }
    }

    /// Wakes up to `most` waiters, then moves up to `moves` others to `to`.
    pub fn requeue(key: Key, most: u32, to: Key, moves: u32) -> Self {
        let moves = Some(Moves { to, left: moves });
        Self {
            key,
            bitset: ANY,
            left: most,
            done: 0,
            moves,
        }
    }

    /// Goes on. Returns the number of waiters woken and moved.
    pub fn step(mut self, thread: &Thread) -> Step {
        let mut woken = Queue::new();
        let more = match self.moves {
            Some(moves) => with_both(self.key, moves.to, |from, to| {
                self.batch(from, to, &mut woken)
            }),
            None => self.batch(&mut TABLE[self.key.bucket()].lock(), None, &mut woken),
        };
        finish(woken);
        match more {
            true => thread.more(Resume::Wake(self)),
            false => Step::Done(Ok(self.done)),
        }
    }

    /// A batch under the locks. Whether there is more.
    fn batch(
        &mut self,
        from: &mut Waiters,
        to: Option<&mut Waiters>,
        woken: &mut Queue<Ref<Thread>>,
    ) -> bool {
        let budget = self.left.min(BATCH);
        let taken = take(from, self.key, self.bitset, budget, woken);
        self.left -= taken;
        self.done += u64::from(taken);
        if taken == BATCH {
            return true;
        }
        let Some(moves) = &mut self.moves else {
            return false;
        };
        let budget = moves.left.min(BATCH - taken);
        let moved = move_waiters(from, to, self.key, moves.to, budget);
        moves.left -= moved;
        self.done += u64::from(moved);
        // A batch that was cut short by its budget is not the last.
        moved != 0 && moved == budget && moves.left != 0
    }
}

/// Moves waiters of `key` to `new`; `to` is `None` when both share a bucket.
fn move_waiters(
    from: &mut Waiters,
    mut to: Option<&mut Waiters>,
    key: Key,
    new: Key,
    most: u32,
) -> u32 {
    let mut moved = 0;
    while moved < most && key != new {
        let Some(thread) = from.remove_first(|t| is_waiting(t, key, ANY)) else {
            break;
        };
        thread.set_wait(wait::Wait {
            place: Place::Futex(new),
            ..thread.wait()
        });
        let pushed = match &mut to {
            Some(other) => other.push(thread),
            None => from.push(thread),
        };
        debug_assert!(pushed.is_ok());
        moved += 1;
    }
    moved
}

/// Locks the buckets of both keys in the order of their addresses.
fn with_both<R>(
    from: Key,
    to: Key,
    act: impl FnOnce(&mut Waiters, Option<&mut Waiters>) -> R,
) -> R {
    let (a, b) = (from.bucket(), to.bucket());
    if a == b {
        return act(&mut TABLE[a].lock(), None);
    }
    let mut low = TABLE[a.min(b)].lock_nested(a.min(b) as u64);
    let mut high = TABLE[a.max(b)].lock_nested(a.max(b) as u64);
    match a < b {
        true => act(&mut low, Some(&mut high)),
        false => act(&mut high, Some(&mut low)),
    }
}

/// `FUTEX_CMP_REQUEUE`: looks at the word and does the first batch under the same locks.
///
/// # Errors
/// `EAGAIN` if the word differs, `EFAULT`.
pub fn compare_requeue(thread: &Thread, mut waking: Waking, expected: u32) -> Result<Step, Stop> {
    let space = thread.process().space();
    let Some(moves) = waking.moves else {
        return Err(Errno::EINVAL.into());
    };
    loop {
        let mut woken = Queue::new();
        let key = waking.key;
        let looked = with_both(key, moves.to, |from, to| match space.load_u32(key.va) {
            Err(stop) => Err(stop),
            Ok(word) if word != expected => Ok(None),
            Ok(_) => Ok(Some(waking.batch(from, to, &mut woken))),
        });
        finish(woken);
        match looked {
            Ok(None) => return Err(Errno::EAGAIN.into()),
            Ok(Some(true)) => return Ok(thread.more(Resume::Wake(waking))),
            Ok(Some(false)) => return Ok(Step::Done(Ok(waking.done))),
            Err(CopyStop::Miss) => space.touch(key.va, Access::Read)?,
            Err(stop) => return Err(stop.into()),
        }
    }
}
