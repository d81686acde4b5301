//! `ppoll` over descriptors of the console.

use arm64::UserAddr;
use frame::slab::Ref;
use linux_raw_sys::general as linux;
use mm::CopyStop;

use crate::arch::time;
use crate::errno::Errno;
use crate::handle::console;
use crate::sched::wait::{self, Limit};
use crate::syscall::user;
use crate::thread::{Resume, Step, Thread};

/// Size of `struct pollfd`: descriptor, wanted events, found events.
const ENTRY: u64 = 8;
/// Entries that one step looks at.
const BATCH: u64 = 16;
const IN: u16 = (linux::POLLIN | linux::POLLRDNORM) as u16;
const OUT: u16 = (linux::POLLOUT | linux::POLLWRNORM) as u16;
const INVALID: u16 = linux::POLLNVAL as u16;

/// A poll in progress. Looking has no effect but the found events, so it is simply done again
/// after a wait.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    at: UserAddr,
    count: u64,
    /// When to give up, in ticks; `None` never.
    deadline: Option<u64>,
    /// The next entry to look at.
    index: u64,
    /// Entries so far with something to see.
    found: u64,
}

impl Poll {
    /// Looks at `count` entries at `at`.
    pub fn new(at: UserAddr, count: u64, deadline: Option<u64>) -> Self {
        Self {
            at,
            count,
            deadline,
            index: 0,
            found: 0,
        }
    }

    /// Looks at some entries; after the last one, waits if there is nothing to see.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        match self.look(thread) {
            Err(CopyStop::Busy) => thread.busy(Resume::Poll(self)),
            Err(CopyStop::OutOfMemory) => Step::Done(Err(Errno::ENOMEM)),
            Err(_) => Step::Done(Err(Errno::EFAULT)),
            Ok(()) if self.index < self.count => thread.more(Resume::Poll(self)),
            Ok(()) if self.found != 0 => Step::Done(Ok(self.found)),
            Ok(()) if self.deadline.is_some_and(|end| end <= time::now()) => Step::Done(Ok(0)),
            Ok(()) => Self { index: 0, ..self }.wait(thread),
        }
    }

    fn look(&mut self, thread: &Thread) -> Result<(), CopyStop> {
        let space = thread.process().space();
        for _ in 0..BATCH.min(self.count - self.index) {
            let entry = self.at.further(self.index * ENTRY);
            let [word] = user::read_words::<1>(space, entry)?;
            let events = seen(thread, word as i32, (word >> 32) as u16);
            user::write(space, entry.further(6), &events.to_le_bytes())?;
            self.found += u64::from(events != 0);
            self.index += 1;
        }
        Ok(())
    }

    fn wait(self, thread: &Ref<Thread>) -> Step {
        if self.deadline.is_some()
            && let Err(errno) = wait::reserve_timer()
        {
            return Step::Done(Err(errno));
        }
        thread.set_resume(Resume::Poll(self));
        let limit = self.deadline.map(|deadline| Limit {
            deadline,
            result: None,
        });
        console::wait(thread, limit);
        Step::Gone
    }
}

fn seen(thread: &Thread, fd: i32, wanted: u16) -> u16 {
    if fd < 0 {
        return 0;
    }
    if thread.process().handles().get(fd as u64).is_err() {
        return INVALID;
    }
    let readable = if console::is_ready() { IN } else { 0 };
    wanted & (readable | OUT)
}
