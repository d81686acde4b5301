//! A userfaultfd's eyes without a userfaultfd: areas that are watched, pages that are marked. An access
//! that would have to be asked about is a bus error.

use frame::slab::Ref;
use mm::VmaFlags;

use super::{Answer, Call, done};
use crate::errno::Errno;
use crate::thread::resume::Stop;
use crate::thread::{Resume, Step, Thread};

/// `WATCH`.
pub fn watch(call: &Call<'_>) -> Answer {
    let (addr, len, modes) = (call.arg(0), call.arg(1), call.arg(2));
    let flags = [
        VmaFlags::UFFD_MISSING,
        VmaFlags::UFFD_WP,
        VmaFlags::UFFD_MINOR,
    ];
    if modes >> flags.len() != 0 {
        return Err(Errno::EINVAL.into());
    }
    let chosen = flags.into_iter().enumerate();
    let chosen = chosen.filter(|(bit, _)| modes >> bit & 1 != 0);
    let modes = chosen.fold(VmaFlags::empty(), |all, (_, flag)| all | flag);
    settled(call.thread.process().space().arm(addr, len, modes))?;
    done(0)
}

/// `MARK`: marks a table's worth in each step; what is done need not be done again when the call is.
pub fn mark(call: &Call<'_>) -> Answer {
    let (addr, len, on) = (call.arg(0), call.arg(1), call.arg(2) != 0);
    let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
    if !(addr | end).is_multiple_of(4096) {
        return Err(Errno::EINVAL.into());
    }
    Ok(Mark { addr, end, on }.step(call.thread))
}

/// What is left to mark.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    addr: u64,
    end: u64,
    on: bool,
}

impl Mark {
    /// Marks a table's worth.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        if self.addr >= self.end {
            return Step::Done(Ok(0));
        }
        let space = thread.process().space();
        match space.write_protect(self.addr, self.end, self.on) {
            Ok(next) => {
                self.addr = next;
                thread.more(Resume::Mark(self))
            }
            Err(mm::MmError::Busy) => thread.busy(Resume::Mark(self)),
            Err(error) => Step::Done(Err(error.into())),
        }
    }
}

fn settled(result: Result<(), mm::MmError>) -> Result<(), Stop> {
    match result {
        Ok(()) => Ok(()),
        Err(mm::MmError::Busy) => Err(Stop::Busy),
        Err(error) => Err(Errno::from(error).into()),
    }
}
