//! The end of a thread.
//!
//! A thread that leaves while its process lives on gives back what user code waits for: it marks
//! the robust futexes that it still owns and wakes their waiters, then clears and wakes
//! `clear_child_tid`. Both touch user memory, so both are steps that may park. When the whole
//! process ends, nobody is left to see it and only the bookkeeping is done.

use frame::slab::Ref;
use mm::CopyStop;
use sync::atomic::Ordering;

use super::{Resume, Step, Thread};
use crate::futex;
use crate::sched;
use crate::syscall::user;

/// Entries of a robust list that are looked at; a longer (or endless) one is cut off, as on Linux.
const ROBUST_LIMIT: u32 = 2048;
/// Entries that one step looks at.
const ROBUST_BUDGET: u32 = 64;
const OWNER_DIED: u32 = linux_raw_sys::general::FUTEX_OWNER_DIED;
const WAITERS: u32 = linux_raw_sys::general::FUTEX_WAITERS;
const TID_MASK: u32 = linux_raw_sys::general::FUTEX_TID_MASK;

/// How far a leaving thread has come.
#[derive(Clone, Copy, Debug)]
pub enum Leaving {
    /// The list's head is to be read.
    Begin,
    /// The list is being walked.
    Robust(Robust),
    /// `clear_child_tid` is to be cleared.
    ClearTid,
}

/// A walk of a robust list (`struct robust_list_head`).
#[derive(Clone, Copy, Debug)]
pub struct Robust {
    entry: u64,
    offset: u64,
    pending: u64,
    left: u32,
}

impl Leaving {
    /// Goes on.
    pub fn step(self, thread: &Ref<Thread>) -> Step {
        if thread.process().is_dying() {
            die(thread);
            return Step::Gone;
        }
        let next = match self {
            Self::Begin => begin(thread),
            Self::Robust(robust) => walk(thread, robust),
            Self::ClearTid => match clear_tid(thread) {
                Err(CopyStop::Busy) => return thread.busy(Resume::Leave(self)),
                _ => {
                    die(thread);
                    return Step::Gone;
                }
            },
        };
        match next {
            Ok(next) => thread.more(Resume::Leave(next)),
            Err(CopyStop::Busy) => thread.busy(Resume::Leave(self)),
            // A broken list ends the walk.
            Err(_) => thread.more(Resume::Leave(Self::ClearTid)),
        }
    }
}

fn begin(thread: &Ref<Thread>) -> Result<Leaving, CopyStop> {
    let head = thread.robust_list.load(Ordering::Relaxed);
    if head == 0 {
        return Ok(Leaving::ClearTid);
    }
    let space = thread.process().space();
    let [entry, offset, pending] = user::read_words::<3>(space, thread.user_addr(head))?;
    Ok(Leaving::Robust(Robust {
        entry,
        offset,
        pending,
        left: ROBUST_LIMIT,
    }))
}

fn walk(thread: &Ref<Thread>, mut robust: Robust) -> Result<Leaving, CopyStop> {
    let head = thread.robust_list.load(Ordering::Relaxed);
    let space = thread.process().space();
    for _ in 0..ROBUST_BUDGET {
        // Bit 0 of a pointer marks a priority-inheritance futex.
        let entry = robust.entry & !1;
        if entry == head || robust.left == 0 {
            if robust.pending & !1 != 0 {
                owner_died(
                    thread,
                    (robust.pending & !1).wrapping_add(robust.offset),
                    true,
                )?;
            }
            return Ok(Leaving::ClearTid);
        }
        let [next] = user::read_words::<1>(space, thread.user_addr(entry))?;
        if entry != robust.pending & !1 {
            owner_died(thread, entry.wrapping_add(robust.offset), false)?;
        }
        robust = Robust {
            entry: next,
            left: robust.left - 1,
            ..robust
        };
    }
    Ok(Leaving::Robust(robust))
}

/// Marks the futex at `va` as left behind if the thread owns it, and wakes a waiter.
fn owner_died(thread: &Ref<Thread>, va: u64, pending: bool) -> Result<(), CopyStop> {
    if !va.is_multiple_of(4) {
        return Err(CopyStop::Fault);
    }
    let (space, at) = (thread.process().space(), thread.user_addr(va));
    let key = futex::shared_key(space, at)?;
    loop {
        let word = user::load_u32(space, at)?;
        if pending && word == 0 {
            // It was being released: a waiter may have missed the wake.
            futex::wake_one(key, futex::ANY);
            return Ok(());
        }
        if word & TID_MASK != thread.tid() {
            return Ok(());
        }
        let dead = word & WAITERS | OWNER_DIED;
        if space.cas_u32(at, word, dead)? == word {
            if word & WAITERS != 0 {
                futex::wake_one(key, futex::ANY);
            }
            return Ok(());
        }
    }
}

fn clear_tid(thread: &Ref<Thread>) -> Result<(), CopyStop> {
    let va = thread.clear_child_tid.load(Ordering::Relaxed);
    if va == 0 {
        return Ok(());
    }
    let (space, at) = (thread.process().space(), thread.user_addr(va));
    // At an odd address nobody can wait.
    let key = match va.is_multiple_of(4) {
        true => Some(futex::shared_key(space, at)?),
        false => None,
    };
    space.copy_out(at, &[0; 4])?;
    // One attempt is enough: clearing again after a park would be a second wake.
    thread.clear_child_tid.store(0, Ordering::Relaxed);
    if let Some(key) = key {
        futex::wake_one(key, futex::ANY);
    }
    Ok(())
}

/// Takes the thread, the current one, off the CPU and out of its process for good.
pub fn die(thread: &Ref<Thread>) {
    sched::give_up_cpu(thread);
    // Whoever waits for its answer is told that none is coming, and whoever waits for it to rest, that
    // it does.
    drop(thread.ipc().set_answering(None));
    thread.end();
    thread.process().remove_thread(thread);
}
