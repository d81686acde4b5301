//! `process_vm_readv` and `process_vm_writev`: copies between two address spaces, page to page.

use abi::Rights;
use arm64::UserAddr;
use frame::slab::Ref;
use linux_raw_sys::general as linux;
use mm::{Access, CopyStop};

use super::file::{check_vector, sum_vector};
use super::{Answer, Call, Handler, done};
use crate::errno::Errno;
use crate::handle::segments::{Next, Segments};
use crate::handle::{Handle, Object};
use crate::process::Process;
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
    let (local, other) = ((call.user(1), call.arg(2)), (call.user(3), call.arg(4)));
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
    if sum_vector(call, other.0, other.1, sized)? == 0 {
        return done(0);
    }
    let copy = VmCopy {
        process: remote(call, pid, access)?,
        local: Segments::vector(local.0, local.1),
        remote: Segments::vector(other.0, other.1).foreign(),
        access,
        done: 0,
    };
    Ok(copy.step(call.thread))
}

/// The process that `pid` names: the caller's own, or one that the caller has a handle of.
fn remote(call: &Call<'_>, pid: u32, access: Access) -> Result<Ref<Process>, Errno> {
    let process = call.thread.process();
    if process.thread(pid).is_some() {
        return Ok(process.clone());
    }
    let rights = match access {
        Access::Write => Rights::WRITE,
        _ => Rights::READ,
    };
    let is_meant = |handle: &Handle| match &handle.object {
        Object::Process(other) if other.pid() == pid => Some((other.clone(), handle.rights)),
        _ => None,
    };
    let found = process.handles().search(is_meant);
    match found {
        Some((other, has)) if has.contains(rights) => Ok(other),
        Some(_) => Err(Errno::EPERM),
        None => Err(Errno::ESRCH),
    }
}

/// A copy in progress.
#[derive(Debug)]
pub struct VmCopy {
    /// Whose memory the other side is.
    process: Ref<Process>,
    local: Segments,
    remote: Segments,
    access: Access,
    done: u64,
}

impl VmCopy {
    /// A copy of `len` bytes between `here`, the caller's, and `there` in the memory of `process`, which
    /// is read or written.
    pub const fn of(
        process: Ref<Process>,
        there: u64,
        here: UserAddr,
        len: u64,
        access: Access,
    ) -> Self {
        Self {
            process,
            local: Segments::buffer(here, len),
            remote: Segments::buffer(UserAddr::ignoring_tag(there), len),
            access,
            done: 0,
        }
    }

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
        let (local, remote) = match (self.local.next(thread)?, self.remote.next(thread)?) {
            (Next::Piece(local, left), Next::Piece(remote, room)) => {
                ((local, left), (remote, room))
            }
            (Next::End, _) | (_, Next::End) => return Ok(false),
            _ => return Ok(true),
        };
        let len = local.1.min(remote.1);
        let (other, theirs) = (self.process.space(), remote.0);
        let count = match self.access {
            Access::Write => space.copy_across(local.0, other, theirs, len, Access::Write)?,
            access => other.copy_across(theirs, space, local.0, len, access)?,
        };
        self.local.advance(count);
        self.remote.advance(count);
        self.done += count;
        Ok(true)
    }
}
