//! What the kernel may not change of a program's registers.

use std::sync::atomic::AtomicU64;

/// Stores `value` to `word` while `v0` to `v3` hold `kept`; `got` is what they hold afterwards.
pub fn store_among_vectors(word: &AtomicU64, value: u64, kept: &[u64; 8], got: &mut [u64; 8]) {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: loads and stores of the arrays and the word, and registers that are named.
    unsafe {
        core::arch::asm!(
            "ldp q0, q1, [{kept}]",
            "ldp q2, q3, [{kept}, #32]",
            "str {value}, [{word}]",
            "stp q0, q1, [{got}]",
            "stp q2, q3, [{got}, #32]",
            kept = in(reg) kept.as_ptr(),
            got = in(reg) got.as_mut_ptr(),
            word = in(reg) word.as_ptr(),
            value = in(reg) value,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            options(nostack),
        );
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        word.store(value, std::sync::atomic::Ordering::Relaxed);
        *got = *kept;
    }
}
