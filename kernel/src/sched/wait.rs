//! Parking and waking.
//!
//! To park, a thread leaves its CPU, fills in what a waker has to know, registers its time-out,
//! marks its [`ParkWord`](ipc::park::ParkWord) and enters a queue, all under the queue's lock.
//! Then it looks once more at what it waits for and at its process, because a change between the
//! first look and the entry would have woken nobody (law 11). To wake, one claims the sleep, takes
//! the thread out of its queue and of the timers, and makes it runnable.

use alloc::vec::Vec;

use ::ipc::park::Sleep;
use frame::slab::Ref;
use sync::cpu_index;

use super::cpu::{Cpu, Timeout};
use super::{cpu, give_up_cpu, make_runnable, run_now, this};
use crate::errno::Errno;
use crate::futex;
use crate::handle::{changes, console};
use crate::ipc::{self, Endpoint};
use crate::memory;
use crate::process::Process;
use crate::thread::Thread;

/// Where a parked thread is queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In no queue: it waits for time, or for nothing but a signal.
    #[default]
    Nowhere,
    /// In a futex bucket.
    Futex(futex::Key),
    /// In its process's queue for the map.
    Map,
    /// In the console's queue for input.
    Console,
    /// In the queue for the turn of a memory object.
    Object,
    /// In an endpoint's queue, or out of it already and waiting for an answer.
    Endpoint,
    /// In no queue: it waits for an answer.
    Reply,
    /// In the queue of those who wait for a process's end.
    End,
    /// In no queue: it is suspended.
    Stopped,
}

/// What a waker has to know about a parked thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    /// Its queue.
    pub place: Place,
    /// Which futex wakes concern it.
    pub bitset: u32,
    /// The CPU in whose timers it is.
    pub timer: Option<u8>,
    /// What `x0` becomes when the time-out ends the sleep; `None` leaves it.
    pub on_timeout: Option<u64>,
}

/// A time-out: when, in ticks, and what `x0` becomes then.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// In ticks.
    pub deadline: u64,
    /// The value of `x0`; `None` leaves it to the operation that goes on.
    pub result: Option<u64>,
}

/// Makes room for one more time-out on this CPU: before the first effect of a call that may wait.
///
/// # Errors
/// `ENOMEM`.
pub fn reserve_timer() -> Result<(), Errno> {
    let cpu = this();
    let needed = cpu.timers.lock().needs();
    if let Some(capacity) = needed {
        let mut room = Vec::new();
        room.try_reserve_exact(capacity)
            .map_err(|_| Errno::ENOMEM)?;
        let left_over = cpu.timers.lock().exchange(room);
        drop(left_over);
    }
    Ok(())
}

/// Starts the sleep of `thread`, the current one. The caller holds the lock of the queue that
/// `place` names, enters the thread there, unlocks, and calls [`check`]. With a limit,
/// [`reserve_timer`] came before.
///
/// Once the queue is unlocked the thread may have been woken, run and parked elsewhere, so what is
/// done for it from here on is done for the sleep that is returned, and no other.
#[must_use]
pub fn begin(thread: &Ref<Thread>, place: Place, bitset: u32, limit: Option<Limit>) -> Sleep {
    let sleep = thread.park().next();
    give_up_cpu(thread);
    let mut wait = Wait {
        place,
        bitset,
        ..Wait::default()
    };
    if let Some(limit) = limit {
        wait.timer = Some(cpu_index() as u8);
        wait.on_timeout = limit.result;
        add_timeout(limit.deadline, Timeout::Sleep(sleep, thread.clone()));
        // The timer is to be armed for it.
        this().attend();
    }
    thread.set_wait(wait);
    thread.park().begin();
    sleep
}

/// Registers a time-out on this CPU; [`reserve_timer`] came before.
fn add_timeout(deadline: u64, timeout: Timeout) {
    let inserted = this().timers.lock().insert(deadline, timeout);
    debug_assert!(inserted.is_ok(), "a time-out without room");
    drop(inserted);
}

/// Registers the timer of `endpoint` on this CPU; [`reserve_timer`] came before.
pub fn add_alarm(endpoint: &Ref<Endpoint>, deadline: u64) {
    add_timeout(deadline, Timeout::Endpoint(endpoint.clone()));
}

/// Takes it off the CPU on which it was registered.
pub fn remove_alarm(endpoint: &Ref<Endpoint>, index: usize) {
    let is_its = |timeout: &Timeout| match timeout {
        Timeout::Endpoint(other) => Ref::ptr_eq(other, endpoint),
        Timeout::Sleep(..) => false,
    };
    let mut timers = cpu::of(index).timers.lock();
    let stale = timers.remove(|entry| is_its(entry.item()));
    drop(timers);
    drop(stale);
}

/// Whether [`check`] has something to do for `thread`, which sleeps.
#[inline(always)]
pub fn is_restless(thread: &Thread) -> bool {
    thread.stop().is_wanted() || thread.process().is_dying()
}

/// The look after parking: a thread of an ending process does not sleep. Whoever waits for the thread to
/// stop is told: it does not run.
pub fn check(thread: &Ref<Thread>, sleep: Sleep) {
    thread.stop().rests();
    let is_over = || thread.process().is_dying();
    if thread.park().look_again(sleep, is_over) {
        finish(thread.clone());
    }
}

/// Parks the current thread until the change that owns its process's map is over, or until the page that
/// it was about to access has come.
pub fn for_map(thread: &Ref<Thread>) {
    if let Some(ask) = memory::context().asks().take() {
        return ipc::pager::ask(thread, &ask);
    }
    let process = thread.process();
    let sleep = {
        let mut queue = process.parked();
        let sleep = begin(thread, Place::Map, 0, None);
        let pushed = queue.push(thread.clone());
        debug_assert!(pushed.is_ok());
        sleep
    };
    let is_over = || !process.space().is_busy();
    if thread.park().look_again(sleep, is_over) {
        finish(thread.clone());
    }
    check(thread, sleep);
}

/// Parks the current thread until `limit`, or for ever.
pub fn for_time(thread: &Ref<Thread>, limit: Option<Limit>) {
    let sleep = begin(thread, Place::Nowhere, 0, limit);
    check(thread, sleep);
}

/// After a successful claim: takes the thread out of its queue and the timers and makes it
/// runnable.
pub fn finish(thread: Ref<Thread>) {
    leave_queue(&thread);
    finish_dequeued(thread);
}

/// The same for a thread that is out of its queue already.
pub fn finish_dequeued(thread: Ref<Thread>) {
    leave_timers(&thread);
    make_runnable(thread);
}

fn leave_timers(thread: &Ref<Thread>) {
    if let Some(index) = thread.wait().timer {
        let is_its = |timeout: &Timeout| match timeout {
            Timeout::Sleep(_, other) => Ref::ptr_eq(other, thread),
            Timeout::Endpoint(_) => false,
        };
        let mut timers = cpu::of(index.into()).timers.lock();
        let stale = timers.remove(|entry| is_its(entry.item()));
        drop(timers);
        drop(stale);
    }
}

fn leave_queue(thread: &Ref<Thread>) {
    match thread.wait().place {
        Place::Nowhere => {}
        Place::Futex(_) => futex::leave(thread),
        Place::Map => {
            let left = thread.process().parked().remove(thread);
            drop(left);
        }
        Place::Console => console::leave(thread),
        Place::Object => changes::leave(thread),
        Place::Endpoint => {
            if let Some(endpoint) = thread.ipc().take_waits_at() {
                endpoint.leave(thread);
            }
        }
        Place::End => {
            if let Some(process) = thread.ipc().take_waits_for() {
                let left = process.waiters().remove(thread);
                drop(left);
            }
        }
        Place::Reply | Place::Stopped => {}
    }
}

/// As [`finish_dequeued`], but the CPU, which has no current thread, turns to it at once.
pub fn hand_over(thread: Ref<Thread>) {
    leave_timers(&thread);
    run_now(thread);
}

/// Parks the current thread until `process` has come to its end.
pub fn for_end(thread: &Ref<Thread>, process: &Ref<Process>, limit: Option<Limit>) {
    // What it waited for before may go with this, which needs locks of its own.
    thread.ipc().set_waits_for(Some(process.clone()));
    let sleep = {
        let mut queue = process.waiters();
        let sleep = begin(thread, Place::End, 0, limit);
        let pushed = queue.push(thread.clone());
        debug_assert!(pushed.is_ok());
        sleep
    };
    if process.is_buried() && thread.park().claim(sleep) {
        process.tell_end(thread.context());
        finish(thread.clone());
    }
    check(thread, sleep);
}

/// Parks the current thread, which is suspended, until it is not.
pub fn for_resumption(thread: &Ref<Thread>) {
    let sleep = begin(thread, Place::Stopped, 0, None);
    if !thread.stop().is_wanted() && thread.park().claim(sleep) {
        finish(thread.clone());
    }
    check(thread, sleep);
}

/// Ends the sleeps whose time-out is due. At most a few at once: the timer is armed again for the
/// rest.
pub fn expire(cpu: &'static Cpu, now: u64) {
    for _ in 0..16 {
        let due = cpu.timers.lock().pop_due(now);
        let (sleep, thread) = match due {
            None => return,
            Some(Timeout::Sleep(sleep, thread)) => (sleep, thread),
            Some(Timeout::Endpoint(endpoint)) => {
                ipc::alarm(&endpoint, now);
                continue;
            }
        };
        if thread.park().claim(sleep) {
            let wait = thread.wait();
            if let Some(value) = wait.on_timeout {
                thread.context().set(0, value);
            }
            if matches!(wait.place, Place::Endpoint | Place::Reply) {
                ipc::answer::time_out(&thread);
            }
            leave_queue(&thread);
            make_runnable(thread);
        }
    }
}
