//! Processes and what can be done to them from outside.

use std::time::Duration;

use abi::{Binding, NONE, Rights, calls, slot};

use crate::endpoint::{Endpoint, nanoseconds};
use crate::handle::kind_of_handle;
use crate::sys::{self, Frame};
use crate::{Error, Handle, MapFlags, Prot};

/// A handle of a process.
///
/// Through a handle of itself a program can change its own memory behind the compiler's back, as by
/// `/proc/self/mem` on Linux: that is for loaders, and for nobody else.
#[derive(Debug)]
pub struct Process(Handle);

kind_of_handle!(Process);

/// What a new process, and all below it, may use: a part of what the process above may. 0: whatever
/// that has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Pages of memory that are mapped, touched or not; and as many in memory objects that it makes, mapped
    /// or not.
    pub pages: u64,
    /// Handles.
    pub handles: u64,
    /// Threads.
    pub threads: u64,
}

/// How a process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this status.
    Exited(i32),
    /// It was ended.
    Killed {
        /// As if by this signal.
        signal: u32,
        /// The address of the fault, if it was one.
        address: u64,
        /// Where it was.
        pc: u64,
    },
}

impl End {
    /// The status as a shell would tell it: 128 and the signal's number for who was killed.
    pub const fn status(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Killed { signal, .. } => 128 + signal as i32,
        }
    }
}

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Its number.
    pub number: u64,
    /// Threads.
    pub threads: u64,
    /// Pages of memory.
    pub pages: u64,
    /// Handles.
    pub handles: u64,
    /// Page faults so far.
    pub faults: u64,
}

/// A range of a process's memory, to be mapped.
#[derive(Clone, Copy, Debug)]
pub struct Area<'a> {
    /// First byte.
    pub address: u64,
    /// Bytes.
    pub len: u64,
    /// What may be done there.
    pub prot: Prot,
    /// How it is mapped.
    pub flags: MapFlags,
    /// From which byte of which memory object; none: zeros.
    pub object: Option<(&'a Handle, u64)>,
}

impl Process {
    /// This process itself, if it was given its own handle. Take it once.
    ///
    /// # Errors
    /// It was not.
    pub fn own() -> Result<Self, Error> {
        // A copy, so that the next one who asks finds it still.
        Handle::copy_of(slot::PROCESS).map(Self)
    }

    /// A new process below this one: no memory, no handles, no threads.
    ///
    /// # Errors
    /// More than what this one may use, or no memory.
    pub fn create(&self, limits: Limits) -> Result<Self, Error> {
        let Limits {
            pages,
            handles,
            threads,
        } = limits;
        let arguments = [self.0.number(), pages, handles, threads];
        let number = sys::control(calls::PROCESS_CREATE, arguments)?;
        Ok(Self(Handle::made(number)))
    }

    /// Sends what happens to the process to an endpoint, or with none no longer to any.
    ///
    /// # Errors
    /// The endpoint's handle lacks the rights.
    pub fn bind(&self, binding: Binding, endpoint: Option<&Endpoint>) -> Result<(), Error> {
        let endpoint = endpoint.map_or(NONE, |endpoint| endpoint.as_ref().number());
        let arguments = [self.0.number(), binding as u64, endpoint];
        sys::control(calls::PROCESS_BIND, arguments).map(drop)
    }

    /// Puts a copy of a handle into the process's table, with the rights it has or fewer, and returns
    /// the slot: the one given, or a free one.
    ///
    /// # Errors
    /// The slot is taken or the table full, or the handle may not be passed on.
    pub fn give(
        &self,
        slot: Option<u64>,
        handle: &impl AsRef<Handle>,
        rights: Option<Rights>,
    ) -> Result<u64, Error> {
        self.give_number(slot, handle.as_ref().number(), rights)
    }

    /// [`Process::give`] for a handle by its number: standard input and the like have no owner here.
    pub(crate) fn give_number(
        &self,
        slot: Option<u64>,
        handle: u64,
        rights: Option<Rights>,
    ) -> Result<u64, Error> {
        let rights = rights.map_or(Rights::SAME, |rights| rights.bits());
        let slot = slot.unwrap_or(NONE);
        let arguments = [self.0.number(), slot, handle, rights.into()];
        sys::control(calls::HANDLE_GIVE, arguments)
    }

    /// `mmap` for the process; where the mapping is.
    ///
    /// # Errors
    /// As `mmap`.
    pub fn map(&self, area: &Area<'_>) -> Result<u64, Error> {
        let (flags, object, offset) = match area.object {
            Some((object, offset)) => (area.flags, object.number(), offset),
            None => (area.flags | MapFlags::ANONYMOUS, NONE, 0),
        };
        let (prot, flags) = (u64::from(area.prot.bits()), u64::from(flags.bits()));
        let process = self.0.number();
        let arguments = [process, area.address, area.len, prot, flags, object, offset];
        sys::control(calls::MEMORY_MAP, arguments)
    }

    /// `munmap` for the process.
    ///
    /// # Errors
    /// As `munmap`.
    pub fn unmap(&self, address: u64, len: u64) -> Result<(), Error> {
        sys::control(calls::MEMORY_UNMAP, [self.0.number(), address, len]).map(drop)
    }

    /// `mprotect` for the process.
    ///
    /// # Errors
    /// As `mprotect`.
    pub fn protect(&self, address: u64, len: u64, prot: Prot) -> Result<(), Error> {
        let prot = u64::from(prot.bits());
        sys::control(calls::MEMORY_PROTECT, [self.0.number(), address, len, prot]).map(drop)
    }

    /// Says where the heap of a process begins that has none yet.
    ///
    /// # Errors
    /// It has one.
    pub fn set_break(&self, address: u64) -> Result<(), Error> {
        sys::control(calls::MEMORY_BRK, [self.0.number(), address]).map(drop)
    }

    /// Copies from the process's memory; fewer bytes where there is no more.
    ///
    /// # Errors
    /// Nothing could be copied.
    pub fn read_memory(&self, address: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        sys::read(calls::MEMORY_READ, self.0.number(), address, buffer)
    }

    /// Copies all of this to the process's memory, where it may be written.
    ///
    /// # Errors
    /// Not all of it could be copied.
    pub fn write_memory(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        let copied = sys::write(calls::MEMORY_WRITE, self.0.number(), address, bytes)?;
        match copied == bytes.len() {
            true => Ok(()),
            false => Err(Error::BadAddress),
        }
    }

    /// Ends the process, and all below it, as if by this signal.
    ///
    /// # Errors
    /// There is no such signal.
    pub fn kill(&self, signal: u32) -> Result<(), Error> {
        sys::control(calls::PROCESS_KILL, [self.0.number(), signal.into()]).map(drop)
    }

    /// Waits until the process has come to its end.
    ///
    /// # Errors
    /// The handle lacks the rights.
    pub fn wait(&self) -> Result<End, Error> {
        self.wait_within(None)
    }

    /// [`Process::wait`] that waits no longer than this.
    ///
    /// # Errors
    /// Those of [`Process::wait`], and [`Error::TimedOut`].
    pub fn wait_within(&self, limit: Option<Duration>) -> Result<End, Error> {
        let mut frame = Frame::new([self.0.number()]).within(nanoseconds(limit));
        sys::call(calls::PROCESS_WAIT, &mut frame)?;
        let [_, killed, value, address, pc, ..] = frame.x;
        Ok(match killed {
            0 => End::Exited(value as i32),
            _ => End::Killed {
                signal: value as u32,
                address,
                pc,
            },
        })
    }

    /// What it uses.
    ///
    /// # Errors
    /// The handle lacks the rights.
    pub fn usage(&self) -> Result<Usage, Error> {
        let mut frame = Frame::new([self.0.number()]);
        let number = sys::call(calls::PROCESS_INFO, &mut frame)?;
        let [_, threads, pages, handles, faults, ..] = frame.x;
        Ok(Usage {
            number,
            threads,
            pages,
            handles,
            faults,
        })
    }
}
