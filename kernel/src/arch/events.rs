//! Counts of invalidations and barriers, in the bench image only: in every other one the functions
//! here are nothing.

#[cfg(feature = "bench")]
use sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Instructions that counting one event takes; a benchmark subtracts them.
#[cfg(feature = "bench")]
pub const COST: u64 = 4;

#[cfg(feature = "bench")]
static TLBI: AtomicU64 = AtomicU64::new(0);
#[cfg(feature = "bench")]
static DSB: AtomicU64 = AtomicU64::new(0);
#[cfg(feature = "bench")]
static ISB: AtomicU64 = AtomicU64::new(0);

/// TLB invalidations, data barriers and instruction barriers so far.
#[cfg(feature = "bench")]
pub fn counts() -> [u64; 3] {
    [TLBI.load(Relaxed), DSB.load(Relaxed), ISB.load(Relaxed)]
}

/// Adds one to a counter. In these instructions and no others, whatever the compiler has in its
/// registers; one CPU, so nothing is lost.
#[cfg(feature = "bench")]
macro_rules! count {
    ($counter:ident) => {
        // SAFETY: a plain increment of a static that nothing but this and `counts` touches.
        unsafe {
            core::arch::asm!(
                "adrp {at}, {counter}",
                "ldr {value}, [{at}, :lo12:{counter}]",
                "add {value}, {value}, #1",
                "str {value}, [{at}, :lo12:{counter}]",
                counter = sym $counter,
                at = out(reg) _,
                value = out(reg) _,
                options(nostack, preserves_flags),
            );
        }
    };
}

#[cfg(not(feature = "bench"))]
macro_rules! count {
    ($counter:ident) => {};
}

/// A TLB invalidation is about to be executed.
#[inline(always)]
pub(super) fn tlbi() {
    count!(TLBI);
}

/// A data barrier is about to be executed.
#[inline(always)]
pub(super) fn dsb() {
    count!(DSB);
}

/// An instruction barrier is about to be executed.
#[inline(always)]
pub(super) fn isb() {
    count!(ISB);
}
