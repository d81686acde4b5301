//! The prompt: what a person can ask the kernel between programs (`tessera.prompt=1`).

pub mod line;

#[cfg(target_os = "none")]
mod serve;
#[cfg(target_os = "none")]
pub use serve::{after_program, echo, main_cpu, remember, remember_stats, secondary_cpu, serve};
