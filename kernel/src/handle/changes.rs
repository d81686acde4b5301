//! Changes of many pages of an object, step by step for the thread that asked, and the threads that
//! wait for their turn.

use frame::slab::Ref;
use mm::object::{Allocate, DropClean, MemObject, ObjectError, Punch, Resize};
use sync::{Queue, SpinLock, rank};

use crate::errno::Errno;
use crate::sched::wait::{self, Place};
use crate::syscall::Answer;
use crate::thread::{Resume, Step, Thread};

/// Pages that one step may work on.
const BUDGET: u32 = 48;

static WAITING: SpinLock<Queue<Ref<Thread>>, rank::Endpoint> = SpinLock::new(Queue::new());

/// A change in progress. It has the object's turn until it is over, so it is carried to its end
/// even if its thread dies.
#[derive(Debug)]
pub enum ObjectChange {
    /// `ftruncate`.
    Resize(Resize),
    /// `fallocate` of a hole.
    Punch(Punch),
    /// `fallocate` of memory.
    Allocate(Allocate),
    /// Clean pages of a pager's object are dropped.
    Drop(DropClean),
}

impl ObjectChange {
    /// Does a part; when all is done, the call returns 0, or pages, or an error, and the next may begin.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        let result = match &mut self {
            Self::Resize(resize) => resize.step(BUDGET).then_some(Ok(0)),
            Self::Punch(punch) => punch.step(BUDGET).then_some(Ok(0)),
            Self::Allocate(allocate) => allocate.step(BUDGET).map(|result| result.map(|()| 0)),
            Self::Drop(drop) => drop.step(BUDGET).then(|| Ok(drop.dropped())),
        };
        match result {
            None => thread.more(Resume::Object(self)),
            Some(result) => {
                drop(self);
                wake();
                Step::Done(result.map_err(Errno::from))
            }
        }
    }
}

/// Does the first part of a change, or waits for the turn of `object` and goes on with `again`.
pub fn begin(
    thread: &Ref<Thread>,
    object: &Ref<MemObject>,
    change: Result<ObjectChange, ObjectError>,
    again: Resume,
) -> Answer {
    match change {
        Ok(change) => Ok(change.step(thread)),
        Err(ObjectError::Busy) => Ok(wait(thread, object, again)),
        Err(error) => Err(Errno::from(error).into()),
    }
}

/// Parks `thread`, the current one, until the change that has the turn of `object` is over; then it
/// goes on with `rest`.
pub fn wait(thread: &Ref<Thread>, object: &MemObject, rest: Resume) -> Step {
    thread.set_resume(rest);
    let sleep = {
        let mut queue = WAITING.lock();
        let sleep = wait::begin(thread, Place::Object, 0, None);
        let pushed = queue.push(thread.clone());
        debug_assert!(pushed.is_ok());
        sleep
    };
    if !object.is_busy() && thread.park().claim(sleep) {
        wait::finish(thread.clone());
    }
    wait::check(thread, sleep);
    Step::Gone
}

/// Takes a thread whose sleep was claimed out of the queue.
pub fn leave(thread: &Ref<Thread>) {
    let left = WAITING.lock().remove(thread);
    drop(left);
}

/// Wakes those who wait for any object, after a change: there are few.
pub fn wake() {
    loop {
        // Claimed under the lock: as long as it is queued, its sleep is the one that it queued for.
        let next = WAITING
            .lock()
            .remove_first(|thread| thread.park().claim_any());
        let Some(thread) = next else { return };
        wait::finish_dequeued(thread);
    }
}
