//! Futexes of this machine: [`ipc::futex`] over threads and user memory.
//!
//! A word is read without lock or fault while its bucket is locked. One that is not mapped is
//! faulted in with no lock held, and the call starts over.

use arm64::UserAddr;
use frame::slab::Ref;
use ipc::futex::Futexes;
pub use ipc::futex::{ANY, Key, Waiter, WakeOp, Waking};
use ipc::park::ParkWord;
use mm::{Access, CopyStop};
use sync::Queue;

use crate::errno::Errno;
use crate::memory::Space;
use crate::sched::wait::{self, Limit, Place};
use crate::syscall::user;
use crate::thread::resume::Stop;
use crate::thread::{Resume, Step, Thread};

static FUTEXES: Futexes<Ref<Thread>, 64> = Futexes::new();

impl Waiter for Thread {
    fn park(&self) -> &ParkWord {
        Self::park(self)
    }

    fn futex(&self) -> Option<(Key, u32)> {
        let wait = self.wait();
        match wait.place {
            Place::Futex(key) => Some((key, wait.bitset)),
            _ => None,
        }
    }

    fn set_futex(&self, key: Key) {
        self.set_wait(wait::Wait {
            place: Place::Futex(key),
            ..self.wait()
        });
    }
}

/// The key by which other processes find the word at `at` too, which is in memory or faulted in:
/// that of the object that a shared mapping shows there. Memory that nobody shares has the key that
/// it has for its process alone.
///
/// # Errors
/// [`CopyStop`].
pub fn shared_key(space: &Space, at: UserAddr) -> Result<Key, CopyStop> {
    user::load_u32(space, at)?;
    Ok(match space.shared_place(at.va())? {
        Some((object, offset)) => Key::shared(object, offset),
        None => private_key(space, at.va()),
    })
}

/// The key of the word at `va` for the threads of one process.
pub fn private_key(space: &Space, va: u64) -> Key {
    Key::private(space.id(), va)
}

/// Parks `thread`, the current one, if the word at `at` is `expected`. It returns 0 when woken.
///
/// # Errors
/// `EAGAIN` if the word differs, `EFAULT`.
pub fn wait(
    thread: &Ref<Thread>,
    (key, at): (Key, UserAddr),
    expected: u32,
    bitset: u32,
    limit: Option<Limit>,
) -> Result<Step, Stop> {
    if limit.is_some() {
        wait::reserve_timer()?;
    }
    let space = thread.process().space();
    let begin = || {
        thread.set_result(Ok(0));
        wait::begin(thread, Place::Futex(key), bitset, limit)
    };
    loop {
        match FUTEXES.wait(key, thread, expected, || space.load_u32(at), begin) {
            Err(CopyStop::Miss) => space.touch(at.va(), Access::Read)?,
            Err(stop) => return Err(stop.into()),
            Ok(None) => return Err(Errno::EAGAIN.into()),
            Ok(Some(sleep)) => {
                wait::check(thread, sleep);
                return Ok(Step::Gone);
            }
        }
    }
}

/// Takes a thread whose sleep was claimed out of its bucket.
pub fn leave(thread: &Ref<Thread>) {
    FUTEXES.leave(thread);
}

/// Wakes one waiter that matches `bitset`, if there is one; the number of woken.
pub fn wake_one(key: Key, bitset: u32) -> u64 {
    let Some(thread) = FUTEXES.wake_one(key, bitset) else {
        return 0;
    };
    wait::finish_dequeued(thread);
    1
}

fn finish(mut woken: Queue<Ref<Thread>>) {
    while let Some(thread) = woken.pop() {
        wait::finish_dequeued(thread);
    }
}

/// Goes on with a wake. It returns the number of waiters woken and moved.
pub fn step(mut waking: Waking, thread: &Thread) -> Step {
    let mut woken = Queue::new();
    let more = waking.step(&FUTEXES, &mut woken);
    finish(woken);
    after(waking, more, thread)
}

fn after(waking: Waking, more: bool, thread: &Thread) -> Step {
    match more {
        true => thread.more(Resume::Wake(waking)),
        false => Step::Done(Ok(waking.done())),
    }
}

/// `FUTEX_CMP_REQUEUE`: looks at the word at `at` and does the first batch under the same locks.
///
/// # Errors
/// `EAGAIN` if the word differs, `EFAULT`.
pub fn compare_requeue(
    thread: &Thread,
    mut waking: Waking,
    at: UserAddr,
    expected: u32,
) -> Result<Step, Stop> {
    let space = thread.process().space();
    loop {
        let mut woken = Queue::new();
        let looked = waking.step_if(&FUTEXES, &mut woken, expected, || space.load_u32(at));
        finish(woken);
        match looked {
            Ok(None) => return Err(Errno::EAGAIN.into()),
            Ok(Some(more)) => return Ok(after(waking, more, thread)),
            Err(CopyStop::Miss) => space.touch(at.va(), Access::Read)?,
            Err(stop) => return Err(stop.into()),
        }
    }
}
