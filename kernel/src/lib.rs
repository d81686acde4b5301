//! The Tessera kernel: an event kernel for arm64 whose heart is virtual memory.
//!
//! One kernel stack per CPU, none per thread; interrupts stay masked in the kernel, and the kernel
//! never sleeps (DESIGN D3). Policy lives in the libraries below this crate; here is what touches
//! the machine: `arch` is the only module that may hold `asm!`, everything else is told what to
//! do by values. On a host the crate shrinks to its portable parts, so that they can be tested.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod bootargs;
pub mod early;
pub mod errno;
pub mod fdt;
pub mod handle;
pub mod loader;
pub mod paging;
pub mod process;
pub mod prompt;
pub mod sched;
pub mod trace;
pub mod trap;

#[cfg(target_os = "none")]
pub mod arch;
#[cfg(target_os = "none")]
pub use arch::{bug, percpu};
#[cfg(all(target_os = "none", feature = "bench"))]
pub mod bench;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod control;
#[cfg(target_os = "none")]
pub mod futex;
#[cfg(target_os = "none")]
pub mod ipc;
#[cfg(target_os = "none")]
pub mod logger;
#[cfg(target_os = "none")]
pub mod machine;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
pub mod report;
#[cfg(target_os = "none")]
pub mod selftest;
#[cfg(target_os = "none")]
pub mod syscall;
#[cfg(target_os = "none")]
pub mod thread;
#[cfg(target_os = "none")]
pub mod work;

/// The boot CPU enters the scheduler, once the machine is set up.
#[cfg(target_os = "none")]
pub fn main_cpu() -> ! {
    prompt::main_cpu()
}

/// Another CPU enters the scheduler.
#[cfg(target_os = "none")]
pub fn secondary_cpu(_index: usize) -> ! {
    prompt::secondary_cpu()
}
