//! Reading, writing and seeking through descriptors.

use abi::Rights;
use arm64::UserAddr;
use frame::slab::Ref;
use linux_raw_sys::general as linux;
use mm::object::{MAX_SIZE, MemObject};

use super::{Answer, Call, Handler, done, user};
use crate::errno::Errno;
use crate::handle::memory::{Kind, MemoryFile};
use crate::handle::segments::{ELEMENT, Next, Segments, VECTOR_MAX};
use crate::handle::transfer::{self, Transfer};
use crate::handle::{Handle, Object};
use crate::thread::resume::Stop;
use crate::thread::{Resume, Step, Thread};

/// The family.
pub const CALLS: &[(u32, Handler)] = &[
    (linux::__NR_lseek, lseek),
    (linux::__NR_read, read),
    (linux::__NR_write, write),
    (linux::__NR_readv, readv),
    (linux::__NR_writev, writev),
    (linux::__NR_pread64, pread),
    (linux::__NR_pwrite64, pwrite),
    (linux::__NR_preadv, preadv),
    (linux::__NR_pwritev, pwritev),
    (linux::__NR_fstat, fstat),
];

const PAGE: u64 = 4096;
/// Elements whose lengths are checked at a time.
const VECTOR_CHUNK: usize = 32;
/// Leaves of an object's pages that one step of a search looks at.
const SEARCH: usize = 64;

fn handle(call: &Call<'_>) -> Result<Handle, Errno> {
    call.thread.process().handles().get(call.arg(0))
}

/// The descriptor, to read from.
fn readable(call: &Call<'_>) -> Result<Handle, Errno> {
    let handle = handle(call)?;
    match handle.rights.contains(Rights::READ) {
        true => Ok(handle),
        false => Err(Errno::EBADF),
    }
}

/// The descriptor, to write to.
fn writable(call: &Call<'_>) -> Result<Handle, Errno> {
    let handle = handle(call)?;
    match handle.rights.contains(Rights::WRITE) {
        true => Ok(handle),
        false => Err(Errno::EBADF),
    }
}

/// User memory of a call, and how many bytes it has.
type Memory = (Segments, u64);

/// The buffer in the arguments 1 and 2.
fn buffer(call: &Call<'_>) -> Result<Memory, Errno> {
    let (at, len) = (call.user(1), call.arg(2));
    check_buffer(call, at, len)?;
    Ok((Segments::buffer(at, len), len))
}

/// The vector in the arguments 1 and 2.
fn vector(call: &Call<'_>) -> Result<Memory, Stop> {
    let (at, count) = (call.user(1), call.arg(2));
    let len = check_vector(call, at, count)?;
    Ok((Segments::vector(at, count), len))
}

/// The place in argument 3. The calls on vectors have one more argument, which has no bits to give
/// where registers are 64 bits wide.
fn place(call: &Call<'_>) -> Result<u64, Errno> {
    let at = call.arg(3);
    match at as i64 {
        0.. => Ok(at),
        _ => Err(Errno::EINVAL),
    }
}

/// What Linux checks before it touches or waits for anything (`access_ok`).
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn check_buffer(call: &Call<'_>, at: UserAddr, len: u64) -> Result<(), Errno> {
    if (len as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    match at.va().checked_add(len) {
        Some(end) if end <= call.thread.process().space().task_size() => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// The bytes in `count` elements at `at`, of which none may be longer than the signed sizes that
/// calls deal in, or reach beyond the addresses of programs.
///
/// # Errors
/// `EINVAL`, `EFAULT`, and those of reading the elements.
pub fn check_vector(call: &Call<'_>, at: UserAddr, count: u64) -> Result<u64, Stop> {
    let check = |base, len| check_buffer(call, call.thread.user_addr(base), len);
    sum_vector(call, at, count, check)
}

/// The bytes in `count` elements at `at`, each of which `check` has to let pass.
///
/// # Errors
/// `EINVAL`, those of `check`, and those of reading the elements.
pub fn sum_vector(
    call: &Call<'_>,
    at: UserAddr,
    count: u64,
    check: impl Fn(u64, u64) -> Result<(), Errno>,
) -> Result<u64, Stop> {
    if count > VECTOR_MAX {
        return Err(Errno::EINVAL.into());
    }
    let space = call.thread.process().space();
    let mut bytes = [0; VECTOR_CHUNK * ELEMENT as usize];
    let (mut next, mut total) = (0, 0u64);
    while next < count {
        let chunk = (count - next).min(VECTOR_CHUNK as u64);
        let bytes = &mut bytes[..(chunk * ELEMENT) as usize];
        user::read(space, at.further(next * ELEMENT), bytes)?;
        for element in bytes.chunks_exact(ELEMENT as usize) {
            let (base, len) = element.split_at(8);
            let word = |bytes: &[u8]| {
                let bytes = bytes.iter().rev();
                bytes.fold(0, |n, &byte| n << 8 | u64::from(byte))
            };
            check(word(base), word(len))?;
            total = total.saturating_add(word(len));
        }
        next += chunk;
    }
    Ok(total)
}

fn read(call: &Call<'_>) -> Answer {
    let handle = readable(call)?;
    let (memory, len) = buffer(call)?;
    match handle.object {
        Object::Console { .. } => Ok(transfer::read(call.thread, call.user(1), len)),
        Object::Memory(file) => load(call, file, (memory, len), None),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn readv(call: &Call<'_>) -> Answer {
    let handle = readable(call)?;
    let (mut memory, len) = vector(call)?;
    match handle.object {
        // What was typed goes to the first piece: a line is seldom longer.
        Object::Console { .. } => match memory.next(call.thread)? {
            Next::Piece(at, len) => Ok(transfer::read(call.thread, at, len)),
            _ => done(0),
        },
        Object::Memory(file) => load(call, file, (memory, len), None),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn write(call: &Call<'_>) -> Answer {
    let handle = writable(call)?;
    let memory = buffer(call)?;
    write_to(call, handle, memory)
}

fn writev(call: &Call<'_>) -> Answer {
    let handle = writable(call)?;
    let memory = vector(call)?;
    write_to(call, handle, memory)
}

fn write_to(call: &Call<'_>, handle: Handle, memory: Memory) -> Answer {
    match handle.object {
        Object::Console { .. } => Ok(Transfer::print(memory.0).step(call.thread)),
        Object::Memory(file) => store(call, file, memory, None),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn pread(call: &Call<'_>) -> Answer {
    let at = place(call)?;
    let file = readable(call)?.file(Errno::ESPIPE)?.clone();
    load(call, file, buffer(call)?, Some(at))
}

fn preadv(call: &Call<'_>) -> Answer {
    let at = place(call)?;
    let file = readable(call)?.file(Errno::ESPIPE)?.clone();
    load(call, file, vector(call)?, Some(at))
}

fn pwrite(call: &Call<'_>) -> Answer {
    let at = place(call)?;
    let file = writable(call)?.file(Errno::ESPIPE)?.clone();
    store(call, file, buffer(call)?, Some(at))
}

fn pwritev(call: &Call<'_>) -> Answer {
    let at = place(call)?;
    let file = writable(call)?.file(Errno::ESPIPE)?.clone();
    store(call, file, vector(call)?, Some(at))
}

fn load(call: &Call<'_>, file: Ref<MemoryFile>, memory: Memory, at: Option<u64>) -> Answer {
    let (memory, len) = memory;
    Ok(Transfer::load(file, memory, len, at).step(call.thread))
}

fn store(call: &Call<'_>, file: Ref<MemoryFile>, memory: Memory, at: Option<u64>) -> Answer {
    if !file.is_writable() {
        return Err(Errno::EBADF.into());
    }
    let (memory, len) = memory;
    Ok(Transfer::store(file, memory, len, at).step(call.thread))
}

fn lseek(call: &Call<'_>) -> Answer {
    let (offset, whence) = (call.arg(1) as i64, call.uint(2));
    let file = handle(call)?.file(Errno::ESPIPE)?.clone();
    let base = match whence {
        linux::SEEK_SET => 0,
        linux::SEEK_CUR => file.offset(),
        linux::SEEK_END => file.object().size(),
        linux::SEEK_DATA | linux::SEEK_HOLE if file.is_mappable() => {
            let seek = Seek::begin(file, offset, whence == linux::SEEK_DATA)?;
            return Ok(seek.step(call.thread));
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let sum = base.checked_add_signed(offset).ok_or(Errno::EINVAL)?;
    if sum > i64::MAX as u64 {
        return Err(Errno::EINVAL.into());
    }
    file.seek(sum);
    done(sum)
}

/// A search for data or a hole, in steps.
#[derive(Debug)]
pub struct Seek {
    file: Ref<MemoryFile>,
    start: u64,
    /// The page that is looked at next.
    index: u64,
    data: bool,
}

impl Seek {
    fn begin(file: Ref<MemoryFile>, offset: i64, data: bool) -> Result<Self, Errno> {
        let start = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        if start >= file.object().size() {
            return Err(Errno::ENXIO);
        }
        Ok(Self {
            file,
            start,
            index: start / PAGE,
            data,
        })
    }

    /// Looks at some pages.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        for _ in 0..SEARCH {
            let object = self.file.object();
            let size = object.size().min(MAX_SIZE);
            if self.index * PAGE >= size {
                return match self.data {
                    true => Step::Done(Err(Errno::ENXIO)),
                    false => self.found(size),
                };
            }
            if object.is_resident(self.index) == self.data {
                let at = (self.index * PAGE).max(self.start);
                return self.found(at);
            }
            self.index = object.search(self.index, self.data);
        }
        thread.more(Resume::Seek(self))
    }

    fn found(self, at: u64) -> Step {
        self.file.seek(at);
        Step::Done(Ok(at))
    }
}

fn fstat(call: &Call<'_>) -> Answer {
    let handle = handle(call)?;
    stat_to(call, &handle, call.user(1))
}

/// Stores the `struct stat` of what `handle` is.
pub fn stat_to(call: &Call<'_>, handle: &Handle, at: UserAddr) -> Answer {
    let words = match &handle.object {
        Object::Memory(file) => memory_stat(file),
        _ => console_stat(),
    };
    let bytes: [u8; 128] = user::bytes_of(words);
    user::complete_at(call, at, &bytes, 0)
}

/// A character device, owned by root.
fn console_stat() -> [u64; 16] {
    /// Device 204:64, where Linux has `ttyAMA0`.
    const DEVICE: u64 = 204 << 8 | 64;
    let mode = u64::from(linux::S_IFCHR | 0o620);
    let mut words = [0; 16];
    words[1] = 1; // st_ino
    words[2] = 1 << 32 | mode; // st_nlink, st_mode
    words[4] = DEVICE; // st_rdev
    words[7] = 1024; // st_blksize
    words
}

/// A regular file; memory has no name, and so no link.
fn memory_stat(file: &MemoryFile) -> [u64; 16] {
    let object: &MemObject = file.object();
    let (mode, links, size, pages) = match file.kind() {
        Kind::Memory { mode } => (mode, 0, object.size(), object.resident_pages()),
        Kind::Text => (0o444, 1, 0, 0),
    };
    let mut words = [0; 16];
    words[0] = 1; // st_dev
    words[1] = u64::from(object.number()); // st_ino
    words[2] = links << 32 | u64::from(linux::S_IFREG | mode); // st_nlink, st_mode
    words[6] = size; // st_size
    words[7] = PAGE; // st_blksize
    words[8] = pages * (PAGE / 512); // st_blocks
    words
}
