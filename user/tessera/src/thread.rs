//! Threads of other processes.

use abi::calls;

use crate::handle::kind_of_handle;
use crate::process::Process;
use crate::registers::{self, Registers, VectorRegisters};
use crate::{Error, Handle, sys};

/// A handle of a thread.
#[derive(Debug)]
pub struct Thread(Handle);

kind_of_handle!(Thread);

impl Thread {
    /// A new thread, suspended: it will begin at `pc`, with this stack pointer and `x0`.
    ///
    /// # Errors
    /// Too many threads, or the process has ended.
    pub fn create(process: &Process, pc: u64, sp: u64, x0: u64) -> Result<Self, Error> {
        let process = process.as_ref().number();
        let number = sys::control(calls::THREAD_CREATE, [process, pc, sp, x0])?;
        Ok(Self(Handle::made(number)))
    }

    /// A thread of a process, by its number: the sender of a message, for one.
    ///
    /// # Errors
    /// There is none.
    pub fn open(process: &Process, number: u64) -> Result<Self, Error> {
        let process = process.as_ref().number();
        let number = sys::control(calls::THREAD_OPEN, [process, number])?;
        Ok(Self(Handle::made(number)))
    }

    /// Stops it. When the call returns it does not run.
    ///
    /// # Errors
    /// It has ended.
    pub fn suspend(&self) -> Result<(), Error> {
        sys::control(calls::THREAD_SUSPEND, [self.0.number()]).map(drop)
    }

    /// Lets it go on, or begin.
    ///
    /// # Errors
    /// It has ended.
    pub fn resume(&self) -> Result<(), Error> {
        sys::control(calls::THREAD_RESUME, [self.0.number()]).map(drop)
    }

    /// Its registers, while it is suspended.
    ///
    /// # Errors
    /// It is not.
    pub fn registers(&self) -> Result<Registers, Error> {
        registers::read(self.0.number())
    }

    /// Gives it other registers, while it is suspended.
    ///
    /// # Errors
    /// It is not.
    pub fn set_registers(&self, registers: &Registers) -> Result<(), Error> {
        registers::write(self.0.number(), registers)
    }

    /// Its vector registers, while it is suspended.
    ///
    /// # Errors
    /// It is not.
    pub fn vector_registers(&self) -> Result<VectorRegisters, Error> {
        registers::read_vector(self.0.number())
    }

    /// Gives it other vector registers, while it is suspended.
    ///
    /// # Errors
    /// It is not.
    pub fn set_vector_registers(&self, registers: &VectorRegisters) -> Result<(), Error> {
        registers::write_vector(self.0.number(), registers)
    }

    /// Sets its priority, 0 to 3, and returns what it was: 1 is usual, 2 for servers.
    ///
    /// # Errors
    /// More than the caller's own.
    pub fn set_priority(&self, priority: u64) -> Result<u64, Error> {
        sys::control(calls::THREAD_PRIORITY, [self.0.number(), priority])
    }
}
