//! Suspension of threads.
//!
//! A thread that is to stop does so on its way out of the kernel, when it holds nothing that others wait
//! for (D3). Whoever wants it stopped waits until it does, or sleeps anyway.

use frame::slab::Ref;
use ipc::park::Sleep;
use sync::atomic::{AtomicBool, Ordering};
use sync::{SpinLock, rank};

use super::Thread;
use crate::errno::Errno;
use crate::sched;
use crate::sched::wait::{self, Place};

/// Whether a thread is to stop, and who waits for that.
#[derive(Debug)]
pub struct Stop {
    wanted: AtomicBool,
    waiter: SpinLock<Option<(Ref<Thread>, Sleep)>, rank::Endpoint>,
}

impl Stop {
    /// It is not.
    pub fn new() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            waiter: SpinLock::new(None),
        }
    }

    /// It is to stop.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// It is from here on.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
    }

    /// The thread rests, or has ended: whoever waits for that goes on.
    #[inline]
    pub fn rests(&self) {
        if self.is_wanted() {
            self.tell();
        }
    }

    fn tell(&self) {
        let waiter = self.waiter.lock().take();
        if let Some((thread, sleep)) = waiter
            && thread.park().claim(sleep)
        {
            wait::finish(thread);
        }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

/// Stops `target`. `thread`, the current one, sleeps until it rests, and has 0 as its result; or goes on.
///
/// # Errors
/// `EBUSY` if somebody else waits for that already.
pub fn suspend(thread: &Ref<Thread>, target: &Ref<Thread>) -> Result<bool, Errno> {
    let stop = target.stop();
    stop.want();
    if Ref::ptr_eq(thread, target) {
        // On its way out, which is to be the long one.
        sched::this().attend();
        return Ok(false);
    }
    sched::interrupt_others();
    thread.set_result(Ok(0));
    let sleep = {
        let mut waiter = stop.waiter.lock();
        if waiter.is_some() {
            return Err(Errno::EBUSY);
        }
        if target.park().asleep().is_some() {
            return Ok(false);
        }
        let sleep = wait::begin(thread, Place::Nowhere, 0, None);
        *waiter = Some((thread.clone(), sleep));
        sleep
    };
    // It may have gone to rest, or ended, before anybody could be told.
    if target.park().asleep().is_some() || target.has_ended() {
        stop.rests();
    }
    wait::check(thread, sleep);
    Ok(true)
}

/// Lets `target` go on.
pub fn resume(target: &Ref<Thread>) {
    let stop = target.stop();
    stop.wanted.store(false, Ordering::SeqCst);
    stop.tell();
    if target.wait().place == Place::Stopped && target.park().claim_any() {
        wait::finish(target.clone());
    }
}
