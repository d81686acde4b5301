//! Reading and writing through a descriptor: loops of bounded steps, progress in the thread's
//! record, and short where Linux ends short (D3). A memory object is reached by the object; only
//! the program's buffer is user memory (D4).

use arm64::UserAddr;
use arm64::addr::PAGE_SIZE;
use frame::Bytes;
use frame::slab::Ref;
use mm::object::ObjectError;
use mm::{Access, CopyStop, Pins, step_len};

use super::memory::{Claim, MemoryFile};
use super::segments::{Next, Segments};
use super::{changes, console};
use crate::arch::uart;
use crate::errno::Errno;
use crate::memory::{self, Space};
use crate::syscall::random;
use crate::thread::resume::Completion;
use crate::thread::{Resume, Step, Thread};

/// Bytes that one step prints: what the serial port takes within the bound.
const PRINTED: u64 = 512;
/// Bytes that go by way of the kernel's stack.
const CHUNK: usize = PRINTED as usize;
/// Random bytes that one step makes, which cost more than copies.
const RANDOM: u64 = 256;
/// Most bytes of one call, as on Linux. Output is printed chunk by chunk, so that lines of
/// ordinary length stay whole.
pub const MAX_COUNT: u64 = 0x7fff_f000;

/// Room for a piece. Copies go by words where both sides are aligned.
#[repr(align(16))]
struct Chunk([u8; CHUNK]);

impl Chunk {
    /// Zeroes.
    const fn new() -> Self {
        Self([0; CHUNK])
    }

    /// The first `len` bytes, or all.
    fn front(&mut self, len: u64) -> &mut [u8] {
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

    /// Stores `len` random bytes at `at`.
    pub fn random(at: UserAddr, len: u64) -> Self {
        Self::new(What::Random, Segments::buffer(at, len), len)
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
        let (to, len) = match self.memory.next(thread)? {
            Next::Piece(at, len) => (at, len.min(self.most - self.done)),
            Next::Later => return Ok(true),
            Next::End => return Ok(false),
        };
        let count = match &self.what {
            What::Print => print(space, to, len)?,
            What::Random => random(space, to, len)?,
            What::Load(stretch) => match stretch.load(self.done, space, to, len)? {
                0 => return Ok(false),
                count => count,
            },
            What::Store(stretch) => stretch.store(self.done, self.most, space, to, len)?,
        };
        self.memory.advance(count);
        self.done += count;
        Ok(self.done < self.most && !self.memory.is_empty())
    }
}

/// Prints from the front of `len` bytes at `at`; how many.
#[inline(never)]
fn print(space: &Space, at: UserAddr, len: u64) -> Result<u64, CopyStop> {
    let mut chunk = Chunk::new();
    let count = space.copy_in(at, chunk.front(len.min(PRINTED)))? as u64;
    uart::write(chunk.front(count));
    Ok(count)
}

/// Writes random bytes to the front of `len` bytes at `at`; how many.
#[inline(never)]
fn random(space: &Space, at: UserAddr, len: u64) -> Result<u64, CopyStop> {
    let mut chunk = Chunk::new();
    let bytes = chunk.front(len.min(RANDOM));
    random::fill(bytes);
    Ok(space.copy_out(at, bytes)? as u64)
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

    /// Copies what follows the first `done` bytes to the front of `len` bytes at `to`, as much as one
    /// step may; how many bytes, none at the end.
    fn load(&self, done: u64, space: &Space, to: UserAddr, len: u64) -> Result<u64, Halt> {
        let object = self.file.object();
        let left = self.claimed.map_or(u64::MAX, |claim| claim.len - done);
        let from = self.start.saturating_add(done);
        let most = len.min(left).min(step_len(from, to.va()));
        let mut moved = 0;
        while moved < most {
            let (at, to) = (from.saturating_add(moved), to.further(moved));
            let len = object.readable(at, (most - moved) as usize);
            if len == 0 {
                break;
            }
            let resident = match memory::context().object_page(object, at / PAGE_SIZE, Access::Read)
            {
                Ok(resident) => resident,
                Err(_) if moved > 0 => {
                    // The pager is asked when it is the turn of this page.
                    memory::context().asks().forget();
                    break;
                }
                Err(stop) => return Err(stop.into()),
            };
            let page = resident.as_ref().unwrap_or(memory::context().zeros());
            let start = (at % PAGE_SIZE) as usize;
            let bytes = Bytes { page, start, len };
            moved += match space.copy_bytes_out(to, bytes, moved == 0) {
                Ok(count) => count as u64,
                Err(_) if moved > 0 => break,
                Err(stop) => return Err(stop.into()),
            };
        }
        Ok(moved)
    }

    /// Copies the front of `len` bytes at `from` to where the first `done` bytes end, of `most` that
    /// there are in all, as much as one step may; how many bytes.
    fn store(
        &self,
        done: u64,
        most: u64,
        space: &Space,
        from: UserAddr,
        len: u64,
    ) -> Result<u64, Halt> {
        let (to, va) = (self.start.checked_add(done), from.va());
        let to = to.ok_or(ObjectError::TooLarge)?;
        let len = len.min(step_len(to, va));
        let mut pages = Pins::new();
        space.gup(va, len, Access::Read, false, &mut pages)?;
        let len = space.reach_of(from, len, &pages)?;
        let mut moved = 0;
        while moved < len {
            let into = va % PAGE_SIZE + moved;
            let Some(page) = pages.get((into / PAGE_SIZE) as usize) else {
                break;
            };
            let at = to.checked_add(moved).ok_or(ObjectError::TooLarge)?;
            let room = PAGE_SIZE - at % PAGE_SIZE;
            let reach = at.checked_add(room.min(most - done - moved));
            let reach = reach.ok_or(ObjectError::TooLarge)?;
            let start = into % PAGE_SIZE;
            let count = room.min(PAGE_SIZE - start).min(len - moved);
            let bytes = Bytes {
                page,
                start: start as usize,
                len: count as usize,
            };
            match self.file.object().write_bytes(at, bytes, reach) {
                Ok(()) => moved += count,
                Err(_) if moved > 0 => break,
                Err(ObjectError::Absent) => return Err(self.ask(at).into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(moved)
    }

    /// A part of the page at byte `at` is to be written, and its pager has the rest.
    fn ask(&self, at: u64) -> CopyStop {
        let object = self.file.object();
        memory::context().ask_for_page(object, at / PAGE_SIZE, Access::Write)
    }
}

/// Reads what was typed, up to `len` bytes, to `to`; parks while nothing was. A line end ends it.
pub fn read(thread: &Ref<Thread>, to: UserAddr, len: u64) -> Step {
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
            to,
            &bytes[..count],
            count as u64,
        ))),
    }
}
