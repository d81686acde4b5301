//! Reading and writing through a descriptor: loops of bounded steps, progress in the thread's
//! record, and short where Linux ends short (D3).

use frame::slab::Ref;
use mm::CopyStop;

use super::{Object, console};
use crate::arch::uart;
use crate::errno::Errno;
use crate::syscall::{random, user};
use crate::thread::resume::Completion;
use crate::thread::{Resume, Step, Thread};

/// Bytes that one step moves: what the serial port takes within the bound of law 16.
const CHUNK: usize = 512;
/// Most bytes of one call, as on Linux. Output is printed chunk by chunk, so that lines of
/// ordinary length stay whole.
const MAX_COUNT: u64 = 0x7fff_f000;

/// What moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// From memory to a descriptor's object.
    Write,
    /// The same from several places: the address is that of an array of `struct iovec`.
    WriteV,
    /// Random bytes to memory.
    Random,
}

/// A transfer in progress.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    kind: Kind,
    /// Next byte; for a vector, next element.
    va: u64,
    /// Bytes left; for a vector, elements left.
    left: u64,
    /// Bytes done within the vector's element.
    within: u64,
    /// Bytes done in all.
    done: u64,
}

impl Transfer {
    /// Writes `len` bytes at `va` to the console.
    pub fn write(_object: Object, va: u64, len: u64) -> Self {
        Self {
            kind: Kind::Write,
            va,
            left: len.min(MAX_COUNT),
            within: 0,
            done: 0,
        }
    }

    /// Writes what `count` elements at `va` describe to the console. The caller has checked the
    /// lengths; each element is read again when it is its turn.
    pub fn write_vector(_object: Object, va: u64, count: u64) -> Self {
        Self {
            kind: Kind::WriteV,
            va,
            left: count,
            within: 0,
            done: 0,
        }
    }

    /// Stores `len` random bytes at `va`.
    pub fn random(va: u64, len: u64) -> Self {
        Self {
            kind: Kind::Random,
            va,
            left: len.min(MAX_COUNT),
            within: 0,
            done: 0,
        }
    }

    /// Moves a chunk.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        let moved = match self.kind {
            Kind::Write => self.write_chunk(thread),
            Kind::WriteV => self.vector_chunk(thread),
            Kind::Random => self.random_chunk(thread),
        };
        match moved {
            Ok(true) => thread.more(Resume::Transfer(self)),
            Ok(false) => Step::Done(Ok(self.done)),
            Err(CopyStop::Busy) => thread.busy(Resume::Transfer(self)),
            Err(_) if self.done != 0 => Step::Done(Ok(self.done)),
            Err(CopyStop::OutOfMemory) => Step::Done(Err(Errno::ENOMEM)),
            Err(_) => Step::Done(Err(Errno::EFAULT)),
        }
    }

    fn write_chunk(&mut self, thread: &Thread) -> Result<bool, CopyStop> {
        if self.left == 0 {
            return Ok(false);
        }
        let count = print(thread, self.va, self.left)?;
        self.va += count;
        self.left -= count;
        self.done += count;
        Ok(self.left != 0)
    }

    fn vector_chunk(&mut self, thread: &Thread) -> Result<bool, CopyStop> {
        // Empty elements cost a step each only in groups.
        for _ in 0..16 {
            if self.left == 0 || self.done >= MAX_COUNT {
                return Ok(false);
            }
            let [base, len] = user::read_words::<2>(thread.process().space(), self.va)?;
            if self.within >= len {
                self.va += 16;
                self.left -= 1;
                self.within = 0;
                continue;
            }
            let most = (len - self.within).min(MAX_COUNT - self.done);
            let count = print(thread, base.wrapping_add(self.within), most)?;
            self.within += count;
            self.done += count;
            return Ok(true);
        }
        Ok(true)
    }

    fn random_chunk(&mut self, thread: &Thread) -> Result<bool, CopyStop> {
        if self.left == 0 {
            return Ok(false);
        }
        let mut bytes = [0; 256];
        let count = bytes.len().min(self.left as usize);
        random::fill(&mut bytes[..count]);
        let count = thread
            .process()
            .space()
            .copy_out(self.va, &bytes[..count])? as u64;
        self.va += count;
        self.left -= count;
        self.done += count;
        Ok(self.left != 0)
    }
}

/// Prints a chunk of up to `left` bytes at `va`; how many.
fn print(thread: &Thread, va: u64, left: u64) -> Result<u64, CopyStop> {
    let mut bytes = [0; CHUNK];
    let most = left.min(CHUNK as u64) as usize;
    let count = thread.process().space().copy_in(va, &mut bytes[..most])?;
    uart::write(&bytes[..count]);
    Ok(count as u64)
}

/// Reads what was typed, up to `len` bytes, to `va`; parks while nothing was. A line end ends it.
pub fn read(thread: &Ref<Thread>, va: u64, len: u64) -> Step {
    if len == 0 {
        return Step::Done(Ok(0));
    }
    let mut bytes = [0; Completion::MAX];
    let most = len.min(bytes.len() as u64) as usize;
    match console::take(&mut bytes[..most]) {
        0 if console::has_ended() => Step::Done(Ok(0)),
        0 => {
            thread.set_resume(Resume::Call);
            console::wait(thread, None);
            Step::Gone
        }
        count => thread.more(Resume::Complete(Completion::new(
            va,
            &bytes[..count],
            count as u64,
        ))),
    }
}
