//! What the kernel knows about itself, as text, and what concerns the machine.
//!
//! Making a text for people is not bounded by law 16: it is a debugging aid, exempt like the prompt.

use alloc::string::String;
use core::fmt;

use abi::{Kind, Rights};
use arm64::UserAddr;
use frame::slab::Ref;
use mm::CopyStop;

use super::{Answer, Call, done, handle_of};
use crate::errno::Errno;
use crate::memory::{self, OnlineError};
use crate::report;
use crate::sched::{self, stay::What};
use crate::thread::{Resume, Step, Thread};

/// Longest text.
const TEXT_MAX: usize = 256 * 1024;

/// Checks that argument `n` is the machine's handle.
fn machine(call: &Call<'_>, n: usize) -> Result<(), Errno> {
    let handle = handle_of(call, call.arg(n), Rights::CONTROL)?;
    match handle.object.kind() {
        Kind::Machine => Ok(()),
        _ => Err(Errno::EACCES),
    }
}

/// `MEM_ONLINE`.
pub fn mem_online(call: &Call<'_>) -> Answer {
    machine(call, 0)?;
    match online() {
        Ok(bytes) => done(bytes),
        Err(OnlineError::NoneHeld) => Err(Errno::ENODEV.into()),
        Err(OnlineError::NoMemory) => Err(Errno::ENOMEM.into()),
    }
}

/// `POLICY`.
pub fn policy(call: &Call<'_>) -> Answer {
    machine(call, 2)?;
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

/// What becomes free by this is not the program's to give back.
fn online() -> Result<u64, OnlineError> {
    let before = report::stats::free_frames();
    let bytes = memory::online_held()?;
    report::stats::note_added(report::stats::free_frames().saturating_sub(before));
    Ok(bytes)
}

/// `INFO`.
pub fn info(call: &Call<'_>) -> Answer {
    sched::this().stay.rename(What::EXEMPT);
    let (kind, to, len) = (call.arg(0), call.user(1), call.arg(2));
    if matches!(kind, 2 | 4) {
        machine(call, 3)?;
    }
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
        to,
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
    to: UserAddr,
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
            .copy_out(self.to.further(self.at as u64), rest)
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
