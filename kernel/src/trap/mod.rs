//! What becomes of an exception from EL0: a system call, a resolved fault, an interrupt, an
//! emulated register read, or a signal.

pub mod idregs;

#[cfg(target_os = "none")]
pub use entry::{call_from_el0, from_el0, native_call_from_el0, page_fault_from_el0};

#[cfg(target_os = "none")]
mod entry;
