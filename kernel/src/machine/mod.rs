//! What of the machine itself programs are given: interrupts and registers of devices.

pub mod device;
pub mod interrupt;
