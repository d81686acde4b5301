//! The handle table of a process: a file descriptor is a slot of it (D8).
//!
//! Slots 0 to 2 hold the console when a program starts. Other kernel objects (userfaultfd,
//! endpoints) become further cases of [`Object`]; descriptors of files belong to the personality
//! server and are not in the kernel at all.
//!
//! The table's lock is a leaf, so a handle that is taken out of it is dropped after it has been
//! released: it may be the last that knows an object.

#[cfg(target_os = "none")]
pub mod changes;
#[cfg(target_os = "none")]
pub mod console;
pub mod memory;
#[cfg(target_os = "none")]
pub mod remove;
#[cfg(target_os = "none")]
pub mod segments;
#[cfg(target_os = "none")]
pub mod transfer;

use frame::slab::{Cache, Ref, SlabBox};
use frame::{Frames, OutOfMemory};
use linux_raw_sys::general as linux;
use mm::object::MemObject;
use sync::{SpinLock, rank};

use crate::errno::Errno;
use memory::MemoryFile;

/// Slots of a table, and so the limit on open descriptors.
pub const SLOTS: usize = 64;

static TABLES: Cache<SpinLock<HandleTable, rank::Leaf>> = Cache::new("handle table");

/// Prepares the caches that tables and what is in them come from, once, at boot.
pub fn init(frames: &'static Frames) {
    TABLES.init(frames);
    memory::init(frames);
}

/// The table of a new process.
///
/// # Errors
/// [`OutOfMemory`].
pub fn table() -> Result<SlabBox<SpinLock<HandleTable, rank::Leaf>>, OutOfMemory> {
    TABLES.alloc(SpinLock::new(HandleTable::with_console()))
}

/// What a slot can hold.
#[derive(Clone, Debug)]
pub enum Object {
    /// The serial console.
    Console {
        /// Status flags that `F_SETFL` may change (`O_APPEND`, `O_NONBLOCK`, …).
        status: u32,
    },
    /// A memory object, opened; duplicates share what is remembered about it.
    Memory(Ref<MemoryFile>),
}

/// A descriptor: an object and what is remembered about it.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The object.
    pub object: Object,
    /// `FD_CLOEXEC`.
    pub close_on_exec: bool,
}

impl Handle {
    /// Access mode and status flags, as `F_GETFL` answers.
    pub fn flags(&self) -> u32 {
        match &self.object {
            Object::Console { status } => linux::O_RDWR | status,
            Object::Memory(file) => file.flags(),
        }
    }

    /// Sets status flags, of those that may be changed.
    pub fn set_status(&mut self, flags: u32) {
        match &mut self.object {
            Object::Console { status } => *status = flags,
            Object::Memory(file) => file.set_status(flags),
        }
    }

    /// The memory object.
    ///
    /// # Errors
    /// `other` for what is none.
    pub fn file(&self, other: Errno) -> Result<&Ref<MemoryFile>, Errno> {
        match &self.object {
            Object::Console { .. } => Err(other),
            Object::Memory(file) => Ok(file),
        }
    }
}

/// The table.
#[derive(Debug)]
pub struct HandleTable {
    slots: [Option<Handle>; SLOTS],
}

impl HandleTable {
    /// The console in slots 0 to 2, open for reading and writing as a terminal's would be.
    pub fn with_console() -> Self {
        let console = || Handle {
            object: Object::Console { status: 0 },
            close_on_exec: false,
        };
        Self {
            slots: core::array::from_fn(|slot| (slot < 3).then(console)),
        }
    }

    /// The handle of descriptor `fd`, of which the low 32 bits count, as in Linux.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, fd: u64) -> Result<Handle, Errno> {
        let slot = self.slots.get(fd as u32 as usize);
        slot.cloned().flatten().ok_or(Errno::EBADF)
    }

    /// The memory object behind descriptor `fd`, for `mmap`.
    ///
    /// # Errors
    /// `EBADF`; `ENODEV` for what cannot be mapped.
    pub fn memory(&self, fd: u64) -> Result<Ref<MemObject>, Errno> {
        let slot = self.slots.get(fd as u32 as usize).and_then(Option::as_ref);
        let file = slot.ok_or(Errno::EBADF)?.file(Errno::ENODEV)?;
        match file.is_mappable() {
            true => Ok(file.object().clone()),
            false => Err(Errno::ENODEV),
        }
    }

    /// Changes the handle of descriptor `fd`.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn update(&mut self, fd: u64, change: impl FnOnce(&mut Handle)) -> Result<(), Errno> {
        let slot = self
            .slots
            .get_mut(fd as u32 as usize)
            .and_then(Option::as_mut);
        change(slot.ok_or(Errno::EBADF)?);
        Ok(())
    }

    /// Takes the handle of descriptor `fd` out.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close(&mut self, fd: u64) -> Result<Handle, Errno> {
        let slot = self.slots.get_mut(fd as u32 as usize).ok_or(Errno::EBADF)?;
        slot.take().ok_or(Errno::EBADF)
    }

    /// Puts `handle` into the lowest free slot from `least` on and returns its number.
    ///
    /// # Errors
    /// `EINVAL` if `least` is beyond the table, `EMFILE` if no slot is free.
    pub fn insert(&mut self, handle: Handle, least: u64) -> Result<u64, Errno> {
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        let rest = self.slots.get_mut(least..).filter(|rest| !rest.is_empty());
        let free = rest.ok_or(Errno::EINVAL)?.iter().position(Option::is_none);
        let slot = least + free.ok_or(Errno::EMFILE)?;
        self.slots[slot] = Some(handle);
        Ok(slot as u64)
    }

    /// Puts `handle` into slot `fd` and returns what was there.
    ///
    /// # Errors
    /// `EBADF` if there is no such slot.
    pub fn replace(&mut self, handle: Handle, fd: u64) -> Result<Option<Handle>, Errno> {
        let slot = self.slots.get_mut(fd as u32 as usize).ok_or(Errno::EBADF)?;
        Ok(slot.replace(handle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_process_has_the_console_and_nothing_else() {
        let table = HandleTable::with_console();
        assert!((0..3).all(|fd| table.get(fd).is_ok()));
        for fd in [3, 63, 64, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(table.get(fd).unwrap_err(), Errno::EBADF, "{fd}");
            assert_eq!(table.memory(fd).unwrap_err(), Errno::EBADF, "{fd}");
        }
        assert_eq!(table.memory(0).unwrap_err(), Errno::ENODEV);
    }

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let mut table = HandleTable::with_console();
        let handle = || Handle {
            object: Object::Console { status: 0 },
            close_on_exec: true,
        };
        assert_eq!(table.insert(handle(), 0), Ok(3));
        assert!(table.close(1).is_ok_and(|closed| !closed.close_on_exec));
        assert_eq!(table.close(1).unwrap_err(), Errno::EBADF);
        assert_eq!(table.insert(handle(), 0), Ok(1));
        assert_eq!(table.insert(handle(), 10), Ok(10));
        assert_eq!(table.insert(handle(), 64), Err(Errno::EINVAL));
        for _ in 0..59 {
            table.insert(handle(), 0).unwrap();
        }
        assert_eq!(table.insert(handle(), 0), Err(Errno::EMFILE));
    }

    #[test]
    fn a_replaced_handle_comes_back() {
        let mut table = HandleTable::with_console();
        let console = table.get(0).unwrap();
        let none = table.replace(console.clone(), 7).unwrap();
        assert!(none.is_none());
        assert!(table.replace(console.clone(), 7).unwrap().is_some());
        assert_eq!(table.replace(console, 64).unwrap_err(), Errno::EBADF);
    }
}
