//! The machine: interrupts and registers for drivers at EL0, and policies.

use abi::{calls, slot};

use crate::endpoint::Endpoint;
use crate::handle::kind_of_handle;
use crate::sys::mapping::Mapping;
use crate::{Error, Handle, Prot, sys};

/// A handle of the machine.
#[derive(Debug)]
pub struct Machine(Handle);

/// A handle of an interrupt.
#[derive(Debug)]
pub struct Interrupt(Handle);

/// A handle of a range of device registers.
#[derive(Debug)]
pub struct Device(Handle);

kind_of_handle!(Machine Interrupt Device);

impl Machine {
    /// The machine, if this process was given it. Take it once.
    ///
    /// # Errors
    /// It was not.
    pub fn own() -> Result<Self, Error> {
        Handle::copy_of(slot::MACHINE).map(Self)
    }

    /// Sets notification bits when interrupt `number` of the interrupt controller comes. From then on
    /// it is masked until it is acknowledged.
    ///
    /// # Errors
    /// It is no shared peripheral interrupt, or in use.
    pub fn interrupt(
        &self,
        number: u64,
        endpoint: &Endpoint,
        bits: u64,
    ) -> Result<Interrupt, Error> {
        let endpoint = endpoint.as_ref().number();
        let arguments = [self.0.number(), number, endpoint, bits];
        let number = sys::control(calls::INTERRUPT_OPEN, arguments)?;
        Ok(Interrupt(Handle::made(number)))
    }

    /// Opens `len` bytes of registers at the physical address `base`, for this process alone: both are
    /// multiples of a page.
    ///
    /// # Errors
    /// It is memory or the kernel's, or a part of it is open.
    pub fn device(&self, base: u64, len: u64) -> Result<Device, Error> {
        let number = sys::control(calls::DEVICE_OPEN, [self.0.number(), base, len])?;
        Ok(Device(Handle::made(number)))
    }

    /// Sets how many bytes around a fault are mapped with it, and returns what it was.
    ///
    /// # Errors
    /// The handle lacks the rights.
    pub fn set_fault_around(&self, bytes: u64) -> Result<u64, Error> {
        sys::control(calls::POLICY, [0, bytes, self.0.number()])
    }
}

impl Device {
    /// Maps `len` bytes of the registers from `offset` on; [`Mapping::load`] and [`Mapping::store`]
    /// access them.
    ///
    /// # Errors
    /// As `mmap`; not in the range, or to be executed.
    pub fn map(&self, offset: u64, len: usize, prot: Prot) -> Result<Mapping, Error> {
        Mapping::new(self.0.number(), offset, len, prot)
    }
}

impl Interrupt {
    /// Lets the interrupt come again.
    ///
    /// # Errors
    /// The handle is none of an interrupt.
    pub fn acknowledge(&self) -> Result<(), Error> {
        sys::control(calls::INTERRUPT_ACK, [self.0.number()]).map(drop)
    }
}
