//! Calls of pagers.

use abi::Rights;
use arm64::UserAddr;
use arm64::addr::PAGE_SIZE;
use frame::slab::Ref;
use mm::object::{Collect, DropClean, MAX_SIZE, MemObject};
use mm::{CopyStop, MoveStop};

use super::{Answer, Call, add, handle_of, port_of};
use crate::errno::Errno;
use crate::handle::Object;
use crate::handle::changes::{self, ObjectChange};
use crate::handle::memory::{Kind, MemoryFile};
use crate::ipc::pager;
use crate::syscall::user;
use crate::thread::{Resume, Step, Thread};

/// Pages that one step moves.
const BUDGET: u32 = 64;
/// Most pages that one look for dirty ones is about: 32 MiB.
const DIRTY_MAX: u64 = 8192;
/// Words of bits that are told at a time.
const PIECE_WORDS: usize = 1;
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
    let mut object = pager::object(port, size, key, pages, patience)?;
    call.thread.process().charge(&mut object);
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

/// Pages of a call's arguments 1 and 2.
fn pages_of(call: &Call<'_>) -> Result<(u64, u64), Errno> {
    let (offset, len) = (call.arg(1), call.arg(2));
    let whole = (offset | len).is_multiple_of(PAGE_SIZE);
    match offset.checked_add(len) {
        Some(_) if whole => Ok((offset / PAGE_SIZE, len / PAGE_SIZE)),
        _ => Err(Errno::EINVAL),
    }
}

/// `PAGER_DROP`.
pub fn drop_clean(call: &Call<'_>) -> Answer {
    let object = object_of(call)?;
    let (first, pages) = pages_of(call)?;
    let change = DropClean::begin(&object, first, pages).map(ObjectChange::Drop);
    changes::begin(call.thread, &object, change, Resume::NativeCall)
}

/// `PAGER_DIRTY`.
pub fn dirty(call: &Call<'_>) -> Answer {
    let object = object_of(call)?;
    let (first, pages) = pages_of(call)?;
    if pages > DIRTY_MAX {
        return Err(Errno::EINVAL.into());
    }
    let dirty = Dirty {
        object,
        first,
        left: pages,
        to: call.user(3),
        found: 0,
        piece: None,
    };
    Ok(dirty.step(call.thread))
}

/// A look for dirty pages in progress, a piece at a time.
#[derive(Debug)]
pub struct Dirty {
    object: Ref<MemObject>,
    /// The first page of the piece.
    first: u64,
    /// Pages from there on.
    left: u64,
    /// Where the piece's bits go.
    to: UserAddr,
    found: u64,
    piece: Option<(Collect, [u64; PIECE_WORDS])>,
}

impl Dirty {
    /// Looks at some pages, or says what it found.
    pub fn step(mut self, thread: &Ref<Thread>) -> Step {
        let pages = self.left.min(PIECE_WORDS as u64 * 64);
        if pages == 0 {
            return Step::Done(Ok(self.found));
        }
        let begin = || {
            let collect = Collect::begin(&self.object, self.first, pages);
            (collect, [0; PIECE_WORDS])
        };
        let (mut collect, mut words) = self.piece.take().unwrap_or_else(begin);
        if !collect.step(&mut words, BUDGET) {
            self.piece = Some((collect, words));
            return thread.more(Resume::Dirty(self));
        }
        let bytes: [u8; PIECE_WORDS * 8] = user::bytes_of(words);
        let len = pages.div_ceil(64) as usize * 8;
        let written = user::write(thread.process().space(), self.to, &bytes[..len]);
        match written {
            Ok(()) => {
                self.found += words
                    .iter()
                    .map(|word| u64::from(word.count_ones()))
                    .sum::<u64>();
                self.first += pages;
                self.left -= pages;
                self.to = self.to.further(len as u64);
                thread.more(Resume::Dirty(self))
            }
            Err(CopyStop::Busy) => {
                self.piece = Some((collect, words));
                thread.busy(Resume::Dirty(self))
            }
            Err(_) => {
                // Nobody has been told: they are dirty still.
                Collect::give_back(&self.object, self.first, &words);
                Step::Done(Err(Errno::EFAULT))
            }
        }
    }
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
