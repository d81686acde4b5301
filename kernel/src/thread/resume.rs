//! What a thread has left to do in the kernel before it returns to EL0.
//!
//! Each piece is a value with the progress in it and a step that does a bounded part (D3). A step
//! that meets a map owned by another change parks the thread and is repeated from the same
//! progress; nothing else survives between two steps, no lock, no reference to a page, no walk.

use arm64::UserAddr;
use arm64::addr::PAGE_SIZE;
use frame::slab::Ref;
use mm::SegvCode::MapErr;
use mm::{Access, Change, CopyStop, FaultOutcome, Populated};

use super::Thread;
use super::exit::Leaving;
use crate::errno::{Errno, SysResult};
use crate::futex;
use crate::handle::changes::ObjectChange;
use crate::handle::remove::Remove;
use crate::handle::transfer::Transfer;
use crate::memory;
use crate::process::Process;
use crate::syscall;
use crate::syscall::file::Seek;
use crate::syscall::memory::Mincore;
use crate::syscall::native::info::Text;
use crate::syscall::native::pager::{Dirty, Supply};
use crate::syscall::native::watch::Mark;
use crate::syscall::personality::poll::Poll;
use crate::syscall::vm_copy::VmCopy;
use crate::trace::Watch;

/// Pages that one step of a change may work on.
pub const CHANGE_BUDGET: u32 = 64;
/// Pages that one step of populating may make.
const POPULATE_PAGES: u64 = 128;
/// Most pages that one piece of it makes without a fault: those of a folio. A fault is taken in a stay
/// that has not done more than that.
const POPULATE_PIECE: u64 = 16;

/// What a step of an operation comes to. What is left to do is in the thread's record already, so
/// that this stays small enough to travel in registers.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub enum Step {
    /// The call is over: `x0`.
    Done(SysResult),
    /// Back to EL0 with the registers as they are.
    Keep,
    /// More is to be done, after a preemption point: [`Thread::more`].
    More,
    /// The map is owned by another change: park until it is not, then go on: [`Thread::busy`].
    Busy,
    /// The thread has been parked or is gone.
    Gone,
}

/// Why a system call ends before its work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// With an error.
    Errno(Errno),
    /// The map is owned by another change: nothing has had an effect yet, so the call is made
    /// again afterwards.
    Busy,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<CopyStop> for Stop {
    fn from(stop: CopyStop) -> Self {
        match stop {
            CopyStop::Busy => Self::Busy,
            CopyStop::Fault | CopyStop::Miss => Self::Errno(Errno::EFAULT),
            CopyStop::OutOfMemory => Self::Errno(Errno::ENOMEM),
        }
    }
}

/// Result bytes on their way to the program (the third phase of a call, D3).
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    to: UserAddr,
    bytes: [u8; Self::MAX],
    at: u8,
    len: u8,
    result: u64,
}

impl Completion {
    /// Most bytes that wait in a thread's record.
    pub const MAX: usize = 128;

    /// `bytes`, at most [`Self::MAX`], to be written to `to`; then the call returns `result`.
    pub fn new(to: UserAddr, bytes: &[u8], result: u64) -> Self {
        let mut buffer = [0; Self::MAX];
        buffer[..bytes.len()].copy_from_slice(bytes);
        Self {
            to,
            bytes: buffer,
            at: 0,
            len: bytes.len() as u8,
            result,
        }
    }

    fn step(mut self, thread: &Thread) -> Step {
        while self.at < self.len {
            let rest = &self.bytes[usize::from(self.at)..usize::from(self.len)];
            match thread
                .process()
                .space()
                .copy_out(self.to.further(self.at.into()), rest)
            {
                Ok(done) => self.at += done as u8,
                Err(CopyStop::Busy) => return thread.busy(Resume::Complete(self)),
                Err(stop) => return failed(thread, stop),
            }
        }
        Step::Done(Ok(self.result))
    }
}

/// What is left to do.
#[derive(Debug, Default)]
pub enum Resume {
    /// Nothing.
    #[default]
    None,
    /// Make the system call in the registers again: it has had no effect yet.
    Call,
    /// The same for a call of the kernel's own.
    NativeCall,
    /// Write results.
    Complete(Completion),
    /// Change the map; then fault in the new range, if wanted.
    Change {
        /// The change, which owns the map.
        change: Change,
        /// Bytes to fault in afterwards, from the resulting address on.
        populate: u64,
        /// Whose map, if it is not the thread's own.
        of: Option<Ref<Process>>,
    },
    /// Fault in pages.
    Populate(Populate),
    /// Mark pages against writing, or take the marks away.
    Mark(Mark),
    /// Say which pages are in memory.
    Mincore(Mincore),
    /// Move bytes between user memory and an object.
    Transfer(Transfer),
    /// Move bytes from user memory to user memory.
    VmCopy(VmCopy),
    /// Change many pages of an object.
    Object(ObjectChange),
    /// Take pages out of the objects that a range shows.
    Remove(Remove),
    /// Look for data or a hole in an object.
    Seek(Seek),
    /// Look at files, or wait until there is something to see.
    Poll(Poll),
    /// Wake more waiters.
    Wake(futex::Waking),
    /// Start a thread that has been made, after storing its number.
    Start(syscall::thread::Start),
    /// Store the thread's own number, then begin at EL0.
    SetTid(u64),
    /// Copy out a text.
    Text(Text),
    /// Return when the pages of objects that have ended are free: ways out of the kernel free them.
    Reap,
    /// Move pages into an object of a pager.
    Supply(Supply),
    /// Look for dirty pages of an object of a pager.
    Dirty(Dirty),
    /// Answer a Linux call as if nobody were bound to them.
    Unserved,
    /// End the thread.
    Leave(Leaving),
}

impl Resume {
    /// Whether there is nothing.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Whether a thread of an ending process may drop it. A change owns the map or the turn of an
    /// object and is carried to its end first (D3); a new thread has to run to die; and the end of a
    /// thread looks at the process itself.
    pub fn may_be_abandoned(&self) -> bool {
        let carried = matches!(
            self,
            Self::Change { .. } | Self::Object(_) | Self::Remove(_)
        );
        !carried && !matches!(self, Self::Leave(_) | Self::Start(_))
    }
}

fn failed(thread: &Thread, stop: CopyStop) -> Step {
    match Stop::from(stop) {
        Stop::Errno(errno) => Step::Done(Err(errno)),
        Stop::Busy => thread.busy(Resume::Call),
    }
}

/// Does a bounded part of `pending` for `thread`, the current one.
pub fn step(thread: &Ref<Thread>, pending: Resume) -> Step {
    match pending {
        Resume::None => Step::Keep,
        Resume::Call => watched(thread, || syscall::again(thread)),
        Resume::NativeCall => syscall::native_again(thread),
        Resume::Complete(completion) => completion.step(thread),
        Resume::Change {
            change,
            populate,
            of,
        } => watched(thread, || step_change(thread, change, populate, of)),
        Resume::Populate(populate) => watched(thread, || populate.step(thread)),
        Resume::Mark(mark) => mark.step(thread),
        Resume::Mincore(mincore) => watched(thread, || mincore.step(thread)),
        Resume::Transfer(transfer) => transfer.step(thread),
        Resume::VmCopy(copy) => watched(thread, || copy.step(thread)),
        Resume::Object(change) => watched(thread, || change.step(thread)),
        Resume::Remove(remove) => watched(thread, || remove.step(thread)),
        Resume::Seek(seek) => seek.step(thread),
        Resume::Poll(poll) => poll.step(thread),
        Resume::Wake(waking) => futex::step(waking, thread),
        Resume::Start(start) => start.step(thread),
        Resume::SetTid(va) => match thread
            .process()
            .space()
            .copy_out(thread.user_addr(va), &thread.tid().to_le_bytes())
        {
            Err(CopyStop::Busy) => thread.busy(Resume::SetTid(va)),
            _ => Step::Keep,
        },
        Resume::Text(text) => text.step(thread),
        Resume::Reap => reap(thread),
        Resume::Supply(supply) => watched(thread, || supply.step(thread)),
        Resume::Dirty(dirty) => watched(thread, || dirty.step(thread)),
        Resume::Unserved => watched(thread, || syscall::unserved(thread)),
        Resume::Leave(leaving) => leaving.step(thread),
    }
}

/// The end of a call that may have been the end of a large object: its caller pays for that.
pub fn reap(thread: &Thread) -> Step {
    match memory::context().objects().is_reaped() {
        true => Step::Done(Ok(0)),
        false => thread.more(Resume::Reap),
    }
}

/// Tells of the step, if steps of verbs are traced.
fn watched(thread: &Ref<Thread>, step: impl FnOnce() -> Step) -> Step {
    let watch = Watch::begin();
    let step = step();
    watch.end(thread, &step);
    step
}

/// Does a part of a change; when it is over, wakes who waited for the map.
pub fn step_change(
    thread: &Ref<Thread>,
    mut change: Change,
    populate: u64,
    of: Option<Ref<Process>>,
) -> Step {
    let process = of.as_ref().unwrap_or(thread.process());
    match change.step(process.space(), CHANGE_BUDGET) {
        None => thread.more(Resume::Change {
            change,
            populate,
            of,
        }),
        Some(result) => {
            Process::wake_parked(process);
            match result {
                Err(error) => Step::Done(Err(error.into())),
                Ok(start) => changed(thread, start, populate),
            }
        }
    }
}

/// A change is over, with this result: what remains is to fault in so many bytes from there on.
#[inline(always)]
pub fn changed(thread: &Thread, start: u64, populate: u64) -> Step {
    match populate {
        0 => Step::Done(Ok(start)),
        _ => {
            let end = start.saturating_add(populate);
            thread.more(Resume::Populate(Populate::after_mmap(start, end)))
        }
    }
}

/// Pages to fault in.
#[derive(Clone, Copy, Debug)]
pub struct Populate {
    at: u64,
    end: u64,
    access: Option<Access>,
    result: u64,
}

impl Populate {
    /// The rest of `MAP_POPULATE`: as the program's own writes, else reads, would; like Linux it stops
    /// quietly where that is not possible.
    pub const fn after_mmap(start: u64, end: u64) -> Self {
        Self {
            at: start,
            end,
            access: None,
            result: start,
        }
    }

    /// `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE`: what is not possible is an error.
    pub const fn advised(start: u64, end: u64, access: Access) -> Self {
        Self {
            at: start,
            end,
            access: Some(access),
            result: 0,
        }
    }

    /// Faults in some pages.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        let mut left = POPULATE_PAGES;
        while left > 0 {
            if self.at >= self.end {
                return Step::Done(Ok(self.result));
            }
            let may_fault = left + POPULATE_PIECE >= POPULATE_PAGES;
            match (self.some(thread, may_fault), self.access) {
                (Ok(Populated::Part), _) => break,
                (Ok(Populated::To(next)), _) => {
                    let pages = (next - self.at).div_ceil(PAGE_SIZE);
                    left = left.saturating_sub(pages.min(POPULATE_PIECE));
                    self.at = next;
                }
                (Err(FaultOutcome::Busy), _) => return thread.busy(Resume::Populate(self)),
                (Err(_), None) => return Step::Done(Ok(self.result)),
                (Err(FaultOutcome::OutOfMemory), _) => return Step::Done(Err(Errno::ENOMEM)),
                (Err(FaultOutcome::Segv { code: MapErr }), _) => {
                    return Step::Done(Err(Errno::ENOMEM));
                }
                (Err(FaultOutcome::Segv { .. }), _) => return Step::Done(Err(Errno::EINVAL)),
                (Err(_), _) => return Step::Done(Err(Errno::EFAULT)),
            }
        }
        thread.more(Resume::Populate(self))
    }

    fn some(&self, thread: &Thread, may_fault: bool) -> Result<Populated, FaultOutcome> {
        let space = thread.process().space();
        match self.access {
            Some(access) => {
                space.ask_rights(self.at, access)?;
                space.populate(self.at, self.end, access, may_fault)
            }
            None => match space.populate(self.at, self.end, Access::Write, may_fault) {
                Err(FaultOutcome::Segv { .. }) => {
                    space.populate(self.at, self.end, Access::Read, may_fault)
                }
                other => other,
            },
        }
    }
}
