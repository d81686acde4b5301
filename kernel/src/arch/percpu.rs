//! What each CPU keeps for itself, reached through `TPIDR_EL1`.

use core::arch::asm;
use core::mem::offset_of;

use arm64::regs::USER_T0SZ;
use sync::MAX_CPUS;
use sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::arch::Context;

/// Bytes of the stack that EL1 exceptions run on.
pub const EMERGENCY_STACK_SIZE: usize = 8 * 1024;

/// Number of words in [`PerCpu::saved`]: `x0`-`x30`, SP, PC, PSTATE, ESR,
/// FAR, TTBR0.
pub const SAVED_WORDS: usize = 37;

/// [`PerCpu::state`] before the CPU has said a word.
pub const ABSENT: u32 = 0;
/// [`PerCpu::state`] of a CPU that runs.
pub const ONLINE: u32 = 1;
/// [`PerCpu::state`] of a CPU that came up and found that it does not fit.
pub const LEFT_OUT: u32 = 2;

/// One CPU's block. The vectors know the first fields' places (see the assertions); the CPU number
/// comes first because the `sync` crate reads it there.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct PerCpu {
    index: AtomicU32,
    /// How deep this CPU is in reporting a kernel bug; see `bug.rs`.
    pub bug_depth: AtomicU32,
    /// The thread context that EL0 returns through; null while none is loaded.
    pub current: AtomicPtr<Context>,
    /// Top of the one kernel stack.
    pub kernel_stack: AtomicU64,
    /// Top of the stack for EL1 exceptions, which may be about the kernel stack itself.
    pub emergency_stack: AtomicU64,
    /// Registers at an EL1 exception, stored before any stack is used.
    pub saved: [AtomicU64; SAVED_WORDS],
    /// TTBR0 as it was before this CPU opened the window on tables; 0 while that is closed.
    pub outside: AtomicU64,
    /// TTBR0 for the window on tables under this CPU's T0SZ; 0 until it is asked for.
    pub window: AtomicU64,
    /// Windows on tables that this CPU has opened.
    pub windows: AtomicU64,
    /// Affinity fields of MPIDR_EL1.
    pub mpidr: AtomicU64,
    /// The root word of the space that TTBR0 holds; 0 with the reserved root.
    pub root_word: AtomicU64,
    /// T0SZ in this CPU's TCR_EL1.
    pub t0sz: AtomicU8,
    /// What GCR_EL1 and SCTLR_EL1.TCF0 are set to: the control word of the thread that was loaded last.
    pub tags: AtomicU32,
    /// How far the CPU has come: [`ABSENT`], [`ONLINE`] or [`LEFT_OUT`].
    pub state: AtomicU32,
}

/// Where the vectors find [`PerCpu::current`].
pub const OFFSET_CURRENT: usize = offset_of!(PerCpu, current);
/// Where the vectors find [`PerCpu::kernel_stack`].
pub const OFFSET_KERNEL_STACK: usize = offset_of!(PerCpu, kernel_stack);
/// Where the vectors find [`PerCpu::emergency_stack`].
pub const OFFSET_EMERGENCY_STACK: usize = offset_of!(PerCpu, emergency_stack);
/// Where the vectors find [`PerCpu::saved`].
pub const OFFSET_SAVED: usize = offset_of!(PerCpu, saved);

const _: () = assert!(offset_of!(PerCpu, index) == 0);

impl PerCpu {
    const fn new(index: u32) -> Self {
        Self {
            index: AtomicU32::new(index),
            bug_depth: AtomicU32::new(0),
            current: AtomicPtr::new(core::ptr::null_mut()),
            kernel_stack: AtomicU64::new(0),
            emergency_stack: AtomicU64::new(0),
            saved: [const { AtomicU64::new(0) }; SAVED_WORDS],
            outside: AtomicU64::new(0),
            window: AtomicU64::new(0),
            windows: AtomicU64::new(0),
            mpidr: AtomicU64::new(0),
            root_word: AtomicU64::new(0),
            t0sz: AtomicU8::new(USER_T0SZ),
            tags: AtomicU32::new(0),
            state: AtomicU32::new(ABSENT),
        }
    }

    /// Number of the CPU, 0 for the one that booted.
    #[inline]
    pub fn index(&self) -> u32 {
        self.index.load(Ordering::Relaxed)
    }
}

static BLOCKS: [PerCpu; MAX_CPUS] = {
    let mut blocks = [const { PerCpu::new(0) }; MAX_CPUS];
    let mut i = 0;
    while i < MAX_CPUS {
        blocks[i] = PerCpu::new(i as u32);
        i += 1;
    }
    blocks
};

/// This CPU's block.
#[inline]
pub fn this() -> &'static PerCpu {
    let block: *const PerCpu;
    // SAFETY: reading TPIDR_EL1 has no effect, and the value does not change after boot, which
    // points it at this CPU's entry of `BLOCKS` before any other Rust code runs with the MMU on.
    unsafe {
        asm!("mrs {}, tpidr_el1", out(reg) block, options(nomem, nostack, preserves_flags, pure));
        &*block
    }
}

/// CPU `index`'s block; `index` must be below [`MAX_CPUS`].
pub fn of(index: usize) -> &'static PerCpu {
    &BLOCKS[index]
}
