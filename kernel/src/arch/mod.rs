//! What only this machine can do: the one module with `asm!`, system registers and devices.
//!
//! The rest of the kernel calls these functions and never sees a register. Nothing in here
//! decides a policy: what to run, what to map and what a fault means are decided elsewhere.

pub mod activate;
pub mod bbm;
pub mod bug;
pub mod context;
mod copy;
pub mod cpu;
mod early_map;
pub mod events;
mod fp;
pub mod frames;
pub mod gic;
pub mod heap;
pub mod idregs;
pub mod initrd;
pub mod memory_ops;
pub mod mmu;
pub mod mte;
pub mod percpu;
pub mod power;
pub mod probe;
mod rtc;
pub mod run;
mod smp;
pub mod start;
pub mod table_window;
pub mod tag_memory;
pub mod time;
pub mod trap;
pub mod uart;
mod vectors;

pub use context::Context;
pub use trap::{Cause, WayBack};
