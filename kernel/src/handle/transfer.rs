//! Reading and writing through a descriptor: loops of bounded steps, progress in the thread's
//! record, and short where Linux ends short (D3). A memory object is reached by the object; only
//! the program's buffer is user memory (D4).

use frame::slab::Ref;
use mm::CopyStop;
use mm::object::ObjectError;

use super::memory::{Claim, MemoryFile};
use super::segments::{Next, Segments};
use super::{changes, console};
use crate::arch::uart;
use crate::errno::Errno;
use crate::syscall::random;
use crate::thread::resume::Completion;
use crate::thread::{Resume, Step, Thread};

/// Bytes that one step moves. A step may also fault in a large folio on either side, so it is one
/// piece (law 16).
const CHUNK: usize = 1024;
/// The same to the console: what the serial port takes within the bound.
const PRINTED: usize = 512;
/// The same of random bytes, which cost more than copies.
const RANDOM: u64 = 256;
/// Most bytes of one call, as on Linux. Output is printed chunk by chunk, so that lines of
/// ordinary length stay whole.
pub const MAX_COUNT: u64 = 0x7fff_f000;

/// Room for a piece. Copies go by words where both sides are aligned.
#[repr(align(16))]
pub struct Chunk(pub [u8; CHUNK]);

impl Default for Chunk {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunk {
    /// Zeroes.
    pub const fn new() -> Self {
        Self([0; CHUNK])
    }

    /// The first `len` bytes, or all.
    pub fn front(&mut self, len: u64) -> &mut [u8] {
        &mut self.0[..len.min(CHUNK as u64) as usize]
    }
}

/// What moves.
#[derive(Debug)]
enum What {
    /// From memory to the console.
    Print,
    /// Random bytes to memory.
    Random,
    /// From an object to memory.
    Load(Stretch),
    /// From memory to an object.
    Store(Stretch),
}

/// The place in an object.
#[derive(Debug)]
struct Stretch {
    file: Ref<MemoryFile>,
    start: u64,
    /// The offset was moved, and has to be right at the end.
    claimed: Option<Claim>,
}

/// A transfer in progress.
#[derive(Debug)]
pub struct Transfer {
    what: What,
    memory: Segments,
    /// Bytes done in all, and when it is over.
    done: u64,
    most: u64,
}

/// Why a piece did not move.
enum Halt {
    Copy(CopyStop),
    Object(ObjectError),
}

impl From<CopyStop> for Halt {
    fn from(stop: CopyStop) -> Self {
        Self::Copy(stop)
    }
}

impl From<ObjectError> for Halt {
    fn from(error: ObjectError) -> Self {
        Self::Object(error)
    }
}

impl Transfer {
    fn new(what: What, memory: Segments, most: u64) -> Self {
        let most = most.min(MAX_COUNT);
        Self {
            what,
            memory,
            done: 0,
            most,
        }
    }

    /// Writes what is in `memory` to the console.
    pub fn print(memory: Segments) -> Self {
        Self::new(What::Print, memory, MAX_COUNT)
    }

    /// Stores `len` random bytes at `va`.
    pub fn random(va: u64, len: u64) -> Self {
        Self::new(What::Random, Segments::buffer(va, len), len)
    }

    /// Reads from `file` to `memory`, which has `len` bytes: at byte `at`, else at the offset.
    pub fn load(file: Ref<MemoryFile>, memory: Segments, len: u64, at: Option<u64>) -> Self {
        let len = len.min(MAX_COUNT);
        let stretch = Stretch::new(file, at, |file| file.claim_read(len));
        Self::new(What::Load(stretch), memory, len)
    }

    /// Writes `memory`, which has `len` bytes, to `file`: at byte `at`, else at the offset; at the end
    /// if it is open for appending.
    pub fn store(file: Ref<MemoryFile>, memory: Segments, len: u64, at: Option<u64>) -> Self {
        let len = len.min(MAX_COUNT);
        let at = match file.appends() {
            true => at.map(|_| file.object().size()),
            false => at,
        };
        let stretch = Stretch::new(file, at, |file| file.claim_write(len));
        Self::new(What::Store(stretch), memory, len)
    }

    /// Moves a piece.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        match self.piece(thread) {
            Ok(true) => thread.more(Resume::Transfer(self)),
            Ok(false) => self.end(Ok(())),
            Err(Halt::Copy(CopyStop::Busy)) => thread.busy(Resume::Transfer(self)),
            Err(Halt::Object(ObjectError::Busy)) => self.wait(thread),
            Err(Halt::Copy(CopyStop::OutOfMemory)) => self.end(Err(Errno::ENOMEM)),
            Err(Halt::Copy(_)) => self.end(Err(Errno::EFAULT)),
            Err(Halt::Object(error)) => self.end(Err(error.into())),
        }
    }

    /// An error counts only if nothing was moved before.
    fn end(self, result: Result<(), Errno>) -> Step {
        if let What::Load(stretch) | What::Store(stretch) = &self.what {
            stretch.settle(self.done);
        }
        match result {
            Err(errno) if self.done == 0 => Step::Done(Err(errno)),
            _ => Step::Done(Ok(self.done)),
        }
    }

    /// Another change of the object has to end first.
    fn wait(self, thread: &Ref<Thread>) -> Step {
        match &self.what {
            What::Store(stretch) => {
                let object = stretch.file.object().clone();
                changes::wait(thread, &object, Resume::Transfer(self))
            }
            _ => thread.more(Resume::Transfer(self)),
        }
    }

    /// Moves a piece. False: all is done.
    fn piece(&mut self, thread: &Thread) -> Result<bool, Halt> {
        let space = thread.process().space();
        if self.done >= self.most {
            return Ok(false);
        }
        let (va, len) = match self.memory.next(space)? {
            Next::Piece(va, len) => (va, len.min(self.most - self.done)),
            Next::Later => return Ok(true),
            Next::End => return Ok(false),
        };
        let mut chunk = Chunk::new();
        let bytes = chunk.front(len);
        let count = match &self.what {
            What::Print => {
                let most = bytes.len().min(PRINTED);
                let count = space.copy_in(va, &mut bytes[..most])?;
                uart::write(&bytes[..count]);
                count
            }
            What::Random => {
                let bytes = &mut bytes[..len.min(RANDOM) as usize];
                random::fill(bytes);
                space.copy_out(va, bytes)?
            }
            What::Load(stretch) => match stretch.read(self.done, bytes) {
                0 => return Ok(false),
                count => space.copy_out(va, &bytes[..count])?,
            },
            What::Store(stretch) => {
                let fits = stretch.in_page(self.done, bytes.len());
                let count = space.copy_in(va, &mut bytes[..fits])?;
                stretch.write(self.done, &bytes[..count], self.most)?;
                count
            }
        };
        self.memory.advance(count as u64);
        self.done += count as u64;
        Ok(self.done < self.most && !self.memory.is_empty())
    }
}

impl Stretch {
    fn new(
        file: Ref<MemoryFile>,
        at: Option<u64>,
        claim: impl FnOnce(&MemoryFile) -> Claim,
    ) -> Self {
        let (start, claimed) = match at {
            Some(at) => (at, None),
            None => {
                let claim = claim(&file);
                (claim.start, Some(claim))
            }
        };
        Self {
            file,
            start,
            claimed,
        }
    }

    fn settle(&self, done: u64) {
        if let Some(claim) = self.claimed {
            self.file.settle(claim, done);
        }
    }

    /// Reads what follows the first `done` bytes, of those claimed.
    fn read(&self, done: u64, bytes: &mut [u8]) -> usize {
        let left = self.claimed.map_or(u64::MAX, |claim| claim.len - done);
        let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.file
            .object()
            .read(self.start.saturating_add(done), &mut bytes[..count])
    }

    /// Bytes to the end of the page in which the next one goes, at most `len`.
    fn in_page(&self, done: u64, len: usize) -> usize {
        let offset = self.start.wrapping_add(done) % 4096;
        len.min((4096 - offset) as usize)
    }

    fn write(&self, done: u64, bytes: &[u8], most: u64) -> Result<(), ObjectError> {
        let at = self.start.checked_add(done).ok_or(ObjectError::TooLarge)?;
        let reach = (most - done).min(4096 - at % 4096);
        let reach = at.checked_add(reach).ok_or(ObjectError::TooLarge)?;
        self.file.object().write(at, bytes, reach)
    }
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
