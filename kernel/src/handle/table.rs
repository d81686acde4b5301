//! The handle table of a process.
//!
//! Slots come in chunks, made when their first slot is used: a program with three descriptors has one.
//! A chunk is allocated with the table unlocked, so what puts a handle in says [`Refused::NoChunk`] and is tried
//! again when there is one.

use abi::slot::{COUNT, FIRST};
use frame::slab::{Cache, Ref, SlabBox};
use frame::{Frames, OutOfMemory};
use mm::object::MemObject;
use sync::{SpinLock, rank};

use super::{Handle, Object};
use crate::errno::Errno;

/// Slots for descriptors of Linux's calls, and so the limit on open ones.
pub const SLOTS: usize = FIRST as usize;
/// Slots of a chunk.
const CHUNK: usize = 32;
const CHUNKS: usize = COUNT as usize / CHUNK;

type Chunk = [Option<Handle>; CHUNK];

static TABLES: Cache<SpinLock<HandleTable, rank::Leaf>> = Cache::new("handle table");
static SLOTS_OF: Cache<Chunk> = Cache::new("handles");

/// Prepares the caches, once, at boot.
pub(super) fn init(frames: &'static Frames) {
    TABLES.init(frames);
    SLOTS_OF.init(frames);
}

/// The table of a new process: empty.
///
/// # Errors
/// [`OutOfMemory`].
pub fn table() -> Result<SlabBox<SpinLock<HandleTable, rank::Leaf>>, OutOfMemory> {
    TABLES.alloc(SpinLock::new(HandleTable::new()))
}

/// A part of the table that was allocated for it.
#[derive(Debug)]
pub struct Room(SlabBox<Chunk>);

impl Room {
    /// Room for some handles.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self, Errno> {
        let chunk = SLOTS_OF.alloc([const { None }; CHUNK]);
        chunk.map(Self).map_err(|_| Errno::ENOMEM)
    }
}

/// Why a handle was not put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// [`HandleTable::extend`] has to come first, for this slot.
    NoChunk(usize),
    /// It does not go there.
    Errno(Errno),
}

/// The table.
#[derive(Debug)]
pub struct HandleTable {
    chunks: [Option<SlabBox<Chunk>>; CHUNKS],
    count: usize,
    /// Its process has ended: nothing is put in any more.
    ended: bool,
}

impl HandleTable {
    const fn new() -> Self {
        Self {
            chunks: [const { None }; CHUNKS],
            count: 0,
            ended: false,
        }
    }

    /// Nothing is put in from here on: what would be could name its own process, and stay for ever.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Handles in it.
    pub fn count(&self) -> usize {
        self.count
    }

    #[inline]
    fn slot(&self, fd: u64) -> Option<&Handle> {
        let fd = fd as u32 as usize;
        let chunk = self.chunks.get(fd / CHUNK)?.as_ref()?;
        chunk[fd % CHUNK].as_ref()
    }

    fn slot_mut(&mut self, fd: u64) -> Option<&mut Option<Handle>> {
        let fd = fd as u32 as usize;
        let chunk = self.chunks.get_mut(fd / CHUNK)?.as_mut()?;
        Some(&mut chunk[fd % CHUNK])
    }

    /// Looks at the handle in slot `fd`, of which the low 32 bits count, as in Linux.
    ///
    /// # Errors
    /// `EBADF`, also for one that has been revoked.
    #[inline]
    pub fn look(&self, fd: u64) -> Result<&Handle, Errno> {
        let handle = self.slot(fd).ok_or(Errno::EBADF)?;
        match handle.is_live() {
            true => Ok(handle),
            false => Err(Errno::EBADF),
        }
    }

    /// A copy of the handle in slot `fd`.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn get(&self, fd: u64) -> Result<Handle, Errno> {
        self.look(fd).cloned()
    }

    /// What `see` makes of the first handle that it makes something of.
    pub fn search<R>(&self, see: impl FnMut(&Handle) -> Option<R>) -> Option<R> {
        let chunks = self.chunks.iter().flatten();
        let handles = chunks.flat_map(|chunk| chunk.iter().flatten());
        handles.filter(|handle| handle.is_live()).find_map(see)
    }

    /// The memory object behind descriptor `fd`, for `mmap`, and the rights.
    ///
    /// # Errors
    /// `EBADF`; `ENODEV` for what cannot be mapped.
    pub fn memory(&self, fd: u64) -> Result<(Ref<MemObject>, abi::Rights), Errno> {
        let handle = self.look(fd)?;
        let file = handle.file(Errno::ENODEV)?;
        match file.is_mappable() {
            true => Ok((file.object().clone(), handle.rights)),
            false => Err(Errno::ENODEV),
        }
    }

    /// Changes the handle in slot `fd`.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn update(&mut self, fd: u64, change: impl FnOnce(&mut Handle)) -> Result<(), Errno> {
        let slot = self.slot_mut(fd).and_then(Option::as_mut);
        change(slot.ok_or(Errno::EBADF)?);
        Ok(())
    }

    /// Takes the handle out of slot `fd`.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close(&mut self, fd: u64) -> Result<Handle, Errno> {
        let closed = self.slot_mut(fd).and_then(Option::take);
        self.count -= usize::from(closed.is_some());
        closed.ok_or(Errno::EBADF)
    }

    /// Takes the handle out of slot `fd` if `may` has nothing against it.
    ///
    /// # Errors
    /// `EBADF`, also for one that has been revoked; those of `may`.
    pub fn close_if(
        &mut self,
        fd: u64,
        may: impl FnOnce(&Handle) -> Result<(), Errno>,
    ) -> Result<Handle, Errno> {
        may(self.look(fd)?)?;
        self.close(fd)
    }

    /// Takes out a handle at or behind slot `from`, and says in which slot it was: how a process's
    /// end empties the table.
    pub fn take_from(&mut self, from: usize) -> Option<(usize, Handle)> {
        (from..CHUNKS * CHUNK).find_map(|fd| {
            let handle = self.close(fd as u64).ok()?;
            Some((fd, handle))
        })
    }

    /// Lets slot `fd` exist. What is there already comes back, to be dropped with the table unlocked.
    pub fn extend(&mut self, fd: usize, room: Room) -> Option<Room> {
        match self.chunks.get_mut(fd / CHUNK) {
            Some(chunk @ None) => {
                *chunk = Some(room.0);
                None
            }
            _ => Some(room),
        }
    }

    /// Moves `handle` into the lowest free slot from `least` on and below `end`, and returns its
    /// number. `handle` is emptied only at success.
    ///
    /// # Errors
    /// `EINVAL` if `least` is no such slot, `EMFILE` if none is free; [`Refused::NoChunk`].
    pub fn insert(
        &mut self,
        handle: &mut Option<Handle>,
        least: u64,
        end: usize,
    ) -> Result<u64, Refused> {
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        if least >= end {
            return Err(Refused::Errno(Errno::EINVAL));
        }
        let free = (least..end).find(|&fd| self.slot(fd as u64).is_none());
        let fd = free.ok_or(Refused::Errno(Errno::EMFILE))? as u64;
        self.replace(handle, fd).map(|_none| fd)
    }

    /// Moves `handle` into slot `fd` and returns what was there. `handle` is emptied only at success.
    ///
    /// # Errors
    /// `EBADF` if there is no such slot, `ESRCH` if the process has ended; [`Refused::NoChunk`].
    pub fn replace(
        &mut self,
        handle: &mut Option<Handle>,
        fd: u64,
    ) -> Result<Option<Handle>, Refused> {
        if fd as u32 as u64 >= COUNT {
            return Err(Refused::Errno(Errno::EBADF));
        }
        if self.ended {
            return Err(Refused::Errno(Errno::ESRCH));
        }
        let slot = self.slot_mut(fd);
        let slot = slot.ok_or(Refused::NoChunk(fd as u32 as usize))?;
        let before = core::mem::replace(slot, handle.take());
        self.count += usize::from(before.is_none());
        Ok(before)
    }
}

/// Puts the console into slots 0 to 2, open for reading and writing as a terminal's would be.
///
/// # Errors
/// `ENOMEM`.
pub fn add_console(table: &SpinLock<HandleTable, rank::Leaf>) -> Result<(), Errno> {
    let room = Room::new()?;
    let left_over = table.lock().extend(0, room);
    drop(left_over);
    for fd in 0..3 {
        let console = Object::Console { status: 0 };
        let mut handle = Some(Handle::descriptor(console, false));
        // The slots are free and their chunk is there.
        let _none = table.lock().replace(&mut handle, fd);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::grant::Grant;
    use std::sync::Once;

    fn table_with_console() -> SlabBox<SpinLock<HandleTable, rank::Leaf>> {
        static CACHES: Once = Once::new();
        CACHES.call_once(|| super::super::init(frame::arena::frames(256)));
        let table = table().unwrap();
        add_console(&table).unwrap();
        table
    }

    fn console(close_on_exec: bool) -> Option<Handle> {
        let console = Object::Console { status: 0 };
        Some(Handle::descriptor(console, close_on_exec))
    }

    #[test]
    fn a_new_process_has_the_console_and_nothing_else() {
        let table = table_with_console();
        let table = table.lock();
        assert!((0..3).all(|fd| table.get(fd).is_ok()));
        for fd in [3, 63, 64, 1023, 1024, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(table.get(fd).unwrap_err(), Errno::EBADF, "{fd}");
            assert_eq!(table.memory(fd).unwrap_err(), Errno::EBADF, "{fd}");
        }
        assert_eq!(table.memory(0).unwrap_err(), Errno::ENODEV);
        assert_eq!(table.count(), 3);
    }

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let table = table_with_console();
        let rooms = [(); 2].map(|()| Room::new().unwrap());
        let mut table = table.lock();
        let insert = |table: &mut HandleTable, least| table.insert(&mut console(true), least, 64);
        assert_eq!(insert(&mut table, 0), Ok(3));
        assert!(table.close(1).is_ok_and(|closed| !closed.close_on_exec));
        assert_eq!(table.close(1).unwrap_err(), Errno::EBADF);
        assert_eq!(insert(&mut table, 0), Ok(1));
        assert_eq!(insert(&mut table, 10), Ok(10));
        let invalid = Err(Refused::Errno(Errno::EINVAL));
        assert_eq!(insert(&mut table, 64), invalid);
        for _ in 0..27 {
            insert(&mut table, 0).unwrap();
        }
        assert_eq!(insert(&mut table, 0), Err(Refused::NoChunk(32)));
        let left_over = rooms.map(|room| table.extend(32, room));
        assert!(left_over[0].is_none() && left_over[1].is_some());
        for _ in 0..32 {
            insert(&mut table, 0).unwrap();
        }
        assert_eq!(insert(&mut table, 0), Err(Refused::Errno(Errno::EMFILE)));
        assert_eq!(table.count(), 64);
        drop(table);
        drop(left_over);
    }

    #[test]
    fn a_replaced_handle_comes_back() {
        let table = table_with_console();
        let mut table = table.lock();
        let mut handle = console(true);
        assert!(table.replace(&mut handle, 7).unwrap().is_none());
        assert!(handle.is_none());
        let before = table.replace(&mut console(false), 7).unwrap();
        assert!(before.is_some_and(|before| before.close_on_exec));
        let mut handle = console(false);
        let refused = table.replace(&mut handle, 1024).unwrap_err();
        assert_eq!(refused, Refused::Errno(Errno::EBADF));
        assert!(handle.is_some(), "it stays with the caller");
        assert_eq!(table.count(), 4);
    }

    #[test]
    fn nothing_is_put_into_the_table_of_an_ended_process() {
        let table = table_with_console();
        let mut table = table.lock();
        table.end();
        let ended = Refused::Errno(Errno::ESRCH);
        let mut handle = console(false);
        assert_eq!(table.insert(&mut handle, 0, 64), Err(ended));
        assert_eq!(table.replace(&mut handle, 7).unwrap_err(), ended);
        assert!(handle.is_some(), "it stays with the caller");
        assert!(table.take_from(0).is_some());
    }

    #[test]
    fn a_handle_leaves_only_if_it_may() {
        let table = table_with_console();
        let mut table = table.lock();
        let refused = table.close_if(1, |_| Err(Errno::EACCES));
        assert_eq!(refused.unwrap_err(), Errno::EACCES);
        assert_eq!(table.count(), 3);
        assert!(table.close_if(1, |_| Ok(())).is_ok());
        assert_eq!(table.close_if(1, |_| Ok(())).unwrap_err(), Errno::EBADF);
    }

    #[test]
    fn what_is_revoked_is_gone_with_all_copies() {
        let table = table_with_console();
        let grant = Grant::below(None).unwrap();
        let below = Grant::below(Some(grant.clone())).unwrap();
        let mut table = table.lock();
        for (fd, grant) in [(5, &grant), (6, &below), (7, &below)] {
            let mut handle = console(false);
            handle.as_mut().unwrap().grant = Some(grant.clone());
            table.replace(&mut handle, fd).unwrap();
        }
        below.end();
        let there = |table: &HandleTable| [5, 6, 7].map(|fd| table.get(fd).is_ok());
        assert_eq!(there(&table), [true, false, false]);
        grant.end();
        assert_eq!(there(&table), [false; 3]);
        assert_eq!(table.take_from(3).map(|(fd, _)| fd), Some(5));
    }

    #[test]
    fn rights_only_become_fewer() {
        let handle = console(false).unwrap();
        assert!(handle.allow(abi::Rights::READ).is_ok());
        let reader = handle.limited(abi::Rights::READ).unwrap();
        assert_eq!(reader.allow(abi::Rights::WRITE).unwrap_err(), Errno::EACCES);
        let wish = abi::Rights::READ | abi::Rights::WRITE;
        assert_eq!(reader.limited(wish).unwrap_err(), Errno::EACCES);
    }
}
