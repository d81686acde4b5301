//! The handle table of a process: a file descriptor is a slot of it (D8).
//!
//! Slots 0 to 2 hold the console when a program starts. Other kernel objects (userfaultfd, memory
//! objects, endpoints) become further cases of [`Object`]; descriptors of files belong to the
//! personality server and are not in the kernel at all.

#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod transfer;

use crate::errno::Errno;

/// Slots of a table, and so the limit on open descriptors.
pub const SLOTS: usize = 64;

/// What a slot can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The serial console.
    Console,
}

/// A descriptor: an object and what is remembered about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    /// The object.
    pub object: Object,
    /// `FD_CLOEXEC`.
    pub close_on_exec: bool,
    /// Status flags that `F_SETFL` may change (`O_APPEND`, `O_NONBLOCK`, …).
    pub status: u32,
}

/// The table.
#[derive(Debug)]
pub struct HandleTable {
    slots: [Option<Handle>; SLOTS],
}

impl HandleTable {
    /// The console in slots 0 to 2, open for reading and writing as a terminal's would be.
    pub const fn with_console() -> Self {
        let console = Handle {
            object: Object::Console,
            close_on_exec: false,
            status: 0,
        };
        let mut slots = [None; SLOTS];
        let mut slot = 0;
        while slot < 3 {
            slots[slot] = Some(console);
            slot += 1;
        }
        Self { slots }
    }

    /// The handle of descriptor `fd`, of which the low 32 bits count, as in Linux.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, fd: u64) -> Result<Handle, Errno> {
        self.slots
            .get(fd as u32 as usize)
            .copied()
            .flatten()
            .ok_or(Errno::EBADF)
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

    /// Closes descriptor `fd`.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close(&mut self, fd: u64) -> Result<(), Errno> {
        let slot = self.slots.get_mut(fd as u32 as usize).ok_or(Errno::EBADF)?;
        slot.take().map(drop).ok_or(Errno::EBADF)
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

    /// Puts `handle` into slot `fd`, whatever was there.
    ///
    /// # Errors
    /// `EBADF` if there is no such slot.
    pub fn replace(&mut self, handle: Handle, fd: u64) -> Result<(), Errno> {
        let slot = self.slots.get_mut(fd as u32 as usize).ok_or(Errno::EBADF)?;
        *slot = Some(handle);
        Ok(())
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
            assert_eq!(table.get(fd), Err(Errno::EBADF), "{fd}");
        }
    }

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let mut table = HandleTable::with_console();
        let handle = table.get(1).unwrap();
        assert_eq!(table.insert(handle, 0), Ok(3));
        assert_eq!(table.close(1), Ok(()));
        assert_eq!(table.close(1), Err(Errno::EBADF));
        assert_eq!(table.insert(handle, 0), Ok(1));
        assert_eq!(table.insert(handle, 10), Ok(10));
        assert_eq!(table.insert(handle, 64), Err(Errno::EINVAL));
        for _ in 0..59 {
            table.insert(handle, 0).unwrap();
        }
        assert_eq!(table.insert(handle, 0), Err(Errno::EMFILE));
    }
}
