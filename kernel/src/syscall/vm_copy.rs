//! `process_vm_readv` and `process_vm_writev`, on the process itself: there is no other.

use frame::slab::Ref;
use linux_raw_sys::general as linux;
use mm::CopyStop;

use super::file::check_vector;
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
    begin(call, |local, remote| (remote, local))
}

fn writev(call: &Call<'_>) -> Answer {
    begin(call, |local, remote| (local, remote))
}

/// `order` says where from and where to.
fn begin(call: &Call<'_>, order: fn(Segments, Segments) -> (Segments, Segments)) -> Answer {
    let (pid, flags) = (call.uint(0), call.arg(5));
    let (local, remote) = ((call.arg(1), call.arg(2)), (call.arg(3), call.arg(4)));
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    if check_vector(call, local.0, local.1)? == 0 {
        return done(0);
    }
    if check_vector(call, remote.0, remote.1)? == 0 {
        return done(0);
    }
    if call.thread.process().thread(pid).is_none() {
        return Err(Errno::ESRCH.into());
    }
    let (from, to) = order(
        Segments::vector(local.0, local.1),
        Segments::vector(remote.0, remote.1),
    );
    Ok(VmCopy { from, to, done: 0 }.step(call.thread))
}

/// A copy in progress.
#[derive(Debug)]
pub struct VmCopy {
    from: Segments,
    to: Segments,
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
        let (from, to) = match (self.from.next(space)?, self.to.next(space)?) {
            (Next::Piece(from, left), Next::Piece(to, room)) => ((from, left), (to, room)),
            (Next::End, _) | (_, Next::End) => return Ok(false),
            _ => return Ok(true),
        };
        let mut chunk = Chunk::new();
        let bytes = chunk.front(from.1.min(to.1));
        let count = space.copy_in(from.0, bytes)?;
        let count = space.copy_out(to.0, &bytes[..count])? as u64;
        self.from.advance(count);
        self.to.advance(count);
        self.done += count;
        Ok(true)
    }
}
