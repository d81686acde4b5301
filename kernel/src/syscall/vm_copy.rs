//! `process_vm_readv` and `process_vm_writev`, on the process itself: there is no other.

use frame::slab::Ref;
use linux_raw_sys::general as linux;
use mm::{Access, CopyStop};

use super::file::{check_vector, sum_vector};
use super::memory::untagged;
use super::{Answer, Call, Handler, done};
use crate::errno::Errno;
use crate::handle::segments::{Next, Segments};
use crate::handle::transfer::Chunk;
use crate::thread::{Resume, Step, Thread};

/// The family.
pub const CALLS: &[(u32, Handler)] = &[
    (linux::__NR_process_vm_readv, readv),
    (linux::__NR_process_vm_writev, writev),
];

fn readv(call: &Call<'_>) -> Answer {
    begin(call, Access::Read)
}

fn writev(call: &Call<'_>) -> Answer {
    begin(call, Access::Write)
}

/// `access` is what is done to the other side's memory.
fn begin(call: &Call<'_>, access: Access) -> Answer {
    let (pid, flags) = (call.uint(0), call.arg(5));
    let (local, remote) = ((call.arg(1), call.arg(2)), (call.arg(3), call.arg(4)));
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    if check_vector(call, local.0, local.1)? == 0 {
        return done(0);
    }
    // The other side's addresses are its own affair until they are accessed.
    let sized = |_, len| match (len as i64) < 0 {
        true => Err(Errno::EINVAL),
        false => Ok(()),
    };
    if sum_vector(call, remote.0, remote.1, sized)? == 0 {
        return done(0);
    }
    if call.thread.process().thread(pid).is_none() {
        return Err(Errno::ESRCH.into());
    }
    let copy = VmCopy {
        local: Segments::vector(local.0, local.1),
        remote: Segments::vector(remote.0, remote.1),
        access,
        done: 0,
    };
    Ok(copy.step(call.thread))
}

/// A copy in progress.
#[derive(Debug)]
pub struct VmCopy {
    local: Segments,
    remote: Segments,
    access: Access,
    done: u64,
}

impl VmCopy {
    /// Copies a piece.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        match self.piece(thread) {
            Ok(true) => thread.more(Resume::VmCopy(self)),
            Err(CopyStop::Busy) => thread.busy(Resume::VmCopy(self)),
            Err(CopyStop::OutOfMemory) if self.done == 0 => Step::Done(Err(Errno::ENOMEM)),
            Err(_) if self.done == 0 => Step::Done(Err(Errno::EFAULT)),
            Ok(false) | Err(_) => Step::Done(Ok(self.done)),
        }
    }

    /// Copies a piece. False: one side is used up.
    fn piece(&mut self, thread: &Thread) -> Result<bool, CopyStop> {
        let space = thread.process().space();
        let (local, remote) = match (self.local.next(space)?, self.remote.next(space)?) {
            (Next::Piece(local, left), Next::Piece(remote, room)) => {
                ((local, left), (remote, room))
            }
            (Next::End, _) | (_, Next::End) => return Ok(false),
            _ => return Ok(true),
        };
        // The other side's addresses may be tagged, and its memory is not accessed as by itself.
        let other = untagged(remote.0);
        space.foreign_access(other, self.access)?;
        let (from, to) = match self.access {
            Access::Write => (local.0, other),
            _ => (other, local.0),
        };
        let mut chunk = Chunk::new();
        let bytes = chunk.front(local.1.min(remote.1));
        let count = space.copy_in(from, bytes)?;
        let count = space.copy_out(to, &bytes[..count])? as u64;
        self.local.advance(count);
        self.remote.advance(count);
        self.done += count;
        Ok(true)
    }
}
