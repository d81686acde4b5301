//! The kernel's own calls, `svc #1`: what it knows about itself, as text, and memory hot-add.
//!
//! Errors are Linux's negative numbers in `x0`. Making a text for people is not bounded by law 16:
//! it is a debugging aid, exempt like the prompt.

use alloc::string::String;
use core::fmt;

use frame::slab::Ref;
use mm::{CopyStop, VmaFlags};

use super::{Answer, Call, done};
use crate::errno::Errno;
use crate::memory::{self, OnlineError};
use crate::report;
use crate::sched::{self, stay::What};
use crate::thread::resume::Stop;
use crate::thread::{Resume, Step, Thread};

/// `INFO(kind, buffer, length)`: writes a text, as much as fits, and returns its bytes.
const INFO: u64 = 0;
/// `MEM_ONLINE()`: brings held-back RAM online and returns its bytes.
const MEM_ONLINE: u64 = 1;
/// `WATCH(addr, length, modes)`: a userfaultfd's eyes without a userfaultfd. Areas are watched in
/// modes 1 (missing pages), 2 (writes to marked pages), 4 (unmapped pages of objects); an access
/// that would have to be asked about is a bus error.
const WATCH: u64 = 2;
/// `MARK(addr, length, on)`: marks pages of a range that is watched for writes, or takes the marks
/// away.
const MARK: u64 = 3;
/// `POLICY(what, value)`: sets a policy of the machine and returns what it was: 0 is
/// `fault_around_bytes`.
const POLICY: u64 = 4;
/// Longest text.
const TEXT_MAX: usize = 256 * 1024;

/// Carries out the call in the registers of the current thread.
///
/// # Errors
/// `ENOSYS` for an unknown number, else those of the call.
pub fn call(call: &Call<'_>) -> Answer {
    match call.thread.context().get(8) {
        INFO => info(call),
        MEM_ONLINE => match online() {
            Ok(bytes) => done(bytes),
            Err(OnlineError::NoneHeld) => Err(Errno::ENODEV.into()),
            Err(OnlineError::NoMemory) => Err(Errno::ENOMEM.into()),
        },
        WATCH => watch(call),
        MARK => mark(call),
        POLICY => policy(call),
        _ => Err(Errno::ENOSYS.into()),
    }
}

fn watch(call: &Call<'_>) -> Answer {
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

/// Marks a table's worth in each step; what is done need not be done again when the call is.
fn mark(call: &Call<'_>) -> Answer {
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

fn policy(call: &Call<'_>) -> Answer {
    let policy = memory::context().policy();
    match call.arg(0) {
        0 => {
            let before = policy.fault_around();
            policy.set_fault_around(call.arg(1));
            done(before)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

fn settled(result: Result<(), mm::MmError>) -> Result<(), Stop> {
    match result {
        Ok(()) => Ok(()),
        Err(mm::MmError::Busy) => Err(Stop::Busy),
        Err(error) => Err(Errno::from(error).into()),
    }
}

/// What becomes free by this is not the program's to give back.
fn online() -> Result<u64, OnlineError> {
    let before = report::stats::free_frames();
    let bytes = memory::online_held()?;
    report::stats::note_added(report::stats::free_frames().saturating_sub(before));
    Ok(bytes)
}

fn info(call: &Call<'_>) -> Answer {
    sched::this().stay.rename(What::EXEMPT);
    let (kind, va, len) = (call.arg(0), call.arg(1), call.arg(2));
    let mut text = Growing::default();
    let process = call.thread.process();
    let written = match kind {
        0 => report::stats::write(&mut text, process),
        1 => process.space().maps(&mut text),
        2 => memory::report(&mut text),
        3 => report::first_fault(&mut text, process),
        4 => memory::dump_kernel(&mut text),
        _ => return Err(Errno::EINVAL.into()),
    };
    if written.is_err() {
        return Err(Errno::ENOMEM.into());
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(text.0.len());
    Ok(Text {
        text: text.0,
        va,
        at: 0,
        len,
    }
    .step(call.thread))
}

/// A text that grows as long as there is memory for it.
#[derive(Debug, Default)]
pub struct Growing(pub String);

impl fmt::Write for Growing {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.0.len() + part.len() > TEXT_MAX || self.0.try_reserve(part.len()).is_err() {
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

/// A text on its way to the program.
#[derive(Debug)]
pub struct Text {
    text: String,
    va: u64,
    at: usize,
    len: usize,
}

impl Text {
    /// Copies a page's worth.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        if self.at == self.len {
            return Step::Done(Ok(self.len as u64));
        }
        let rest = &self.text.as_bytes()[self.at..self.len];
        match thread
            .process()
            .space()
            .copy_out(self.va + self.at as u64, rest)
        {
            Ok(count) => {
                self.at += count;
                thread.more(Resume::Text(self))
            }
            Err(CopyStop::Busy) => thread.busy(Resume::Text(self)),
            Err(CopyStop::OutOfMemory) => Step::Done(Err(Errno::ENOMEM)),
            Err(_) => Step::Done(Err(Errno::EFAULT)),
        }
    }
}
