//! A process: an address space, descriptors and threads that live and die together.

pub mod end;
pub mod limits;

#[cfg(target_os = "none")]
mod record;
#[cfg(target_os = "none")]
pub mod signals;

#[cfg(target_os = "none")]
pub use record::{Process, THREADS_MAX, init};
