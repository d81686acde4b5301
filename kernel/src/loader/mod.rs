//! From the boot archive to a process that is ready to run.

pub mod cpio;
pub mod plan;
mod refusal;
pub mod stack;

#[cfg(target_os = "none")]
mod load;
#[cfg(target_os = "none")]
pub use load::{ExecFail, Program, load, names};
