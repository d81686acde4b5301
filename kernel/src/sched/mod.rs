//! The scheduler: which thread each CPU returns to EL0 with, and what is done on the way out.
//!
//! There is one kernel stack per CPU and the kernel never sleeps (D3), so "switching" is choosing
//! which context the exception exit restores. The short way out (`leave_kernel` without
//! attention) reports a quiescent state and nothing else; everything that is not for every exit
//! (work items, time slices, a thread's unfinished operation, dying) sets *attention* on its own
//! CPU, if need be by an inter-processor interrupt, and is found on the long way.

pub mod timers;

#[cfg(target_os = "none")]
pub mod calls;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod direct;
#[cfg(target_os = "none")]
pub mod entity;
#[cfg(target_os = "none")]
mod idle;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
pub mod stay;
#[cfg(target_os = "none")]
pub mod wait;

#[cfg(target_os = "none")]
pub use self::{cpu::this, run::*};
