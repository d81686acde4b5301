//! Calls of pagers.

use abi::Rights;
use arm64::addr::PAGE_SIZE;
use frame::slab::Ref;
use mm::MoveStop;
use mm::object::{MAX_SIZE, MemObject};

use super::{Answer, Call, add, handle_of, port_of};
use crate::errno::Errno;
use crate::handle::Object;
use crate::handle::memory::{Kind, MemoryFile};
use crate::ipc::pager;
use crate::thread::{Resume, Step, Thread};

/// Pages that one step moves.
const BUDGET: u32 = 64;
/// Largest window, in bytes.
const WINDOW_MAX: u64 = 64 << 10;

/// `PAGER_CREATE`.
pub fn create(call: &Call<'_>) -> Answer {
    let port = port_of(call, call.arg(0), Rights::SEND)?;
    let (size, key, window) = (call.arg(1), call.arg(2), call.arg(3));
    if !window.is_power_of_two() || !(PAGE_SIZE..=WINDOW_MAX).contains(&window) {
        return Err(Errno::EINVAL.into());
    }
    if size > MAX_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let patience = call.thread.context().get(9);
    let pages = (window / PAGE_SIZE) as u32;
    let object = pager::object(port, size, key, pages, patience)?;
    let file = MemoryFile::open(object, Kind::Memory { mode: 0o600 })?;
    let rights = Rights::DUPLICATE
        | Rights::TRANSFER
        | Rights::READ
        | Rights::WRITE
        | Rights::EXEC
        | Rights::SUPPLY;
    add(call, Object::Memory(file), rights)
}

/// The object of a pager that argument 0 names.
fn object_of(call: &Call<'_>) -> Result<Ref<MemObject>, Errno> {
    let handle = handle_of(call, call.arg(0), Rights::SUPPLY)?;
    match &handle.object {
        Object::Memory(file) if file.object().is_paged() => Ok(file.object().clone()),
        _ => Err(Errno::EACCES),
    }
}

/// `PAGER_SUPPLY`.
pub fn supply(call: &Call<'_>) -> Answer {
    let object = object_of(call)?;
    let (offset, va, len) = (call.arg(1), call.arg(2), call.arg(3));
    let end = offset.checked_add(len);
    let whole = (offset | va | len).is_multiple_of(PAGE_SIZE);
    if !whole || len == 0 || end.is_none() || va.checked_add(len).is_none() {
        return Err(Errno::EINVAL.into());
    }
    let supply = Supply {
        object,
        index: offset / PAGE_SIZE,
        va,
        left: len / PAGE_SIZE,
        done: 0,
    };
    Ok(supply.step(call.thread))
}

/// A supply in progress.
#[derive(Debug)]
pub struct Supply {
    object: Ref<MemObject>,
    index: u64,
    va: u64,
    /// Pages.
    left: u64,
    done: u64,
}

impl Supply {
    /// Moves some pages.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        let space = thread.process().space();
        let moved = space.move_pages(self.va, self.left, &self.object, self.index, BUDGET);
        self.index += moved.pages;
        self.va += moved.pages * PAGE_SIZE;
        self.left -= moved.pages;
        self.done += moved.pages * PAGE_SIZE;
        let errno = match moved.stop {
            Some(MoveStop::Busy) => return thread.busy(Resume::Supply(self)),
            None if self.left != 0 => return thread.more(Resume::Supply(self)),
            _ if self.done != 0 => return Step::Done(Ok(self.done)),
            None => return Step::Done(Ok(0)),
            Some(MoveStop::Exists) => Errno::EEXIST,
            Some(MoveStop::BeyondEnd) => Errno::EINVAL,
            Some(MoveStop::Fault) => Errno::EFAULT,
            Some(MoveStop::NoMemory) => Errno::ENOMEM,
        };
        Step::Done(Err(errno))
    }
}
