//! The calls that rows are made of.

use std::sync::atomic::AtomicU32;

use programs::sys;

const WAIT: usize = 128;
const WAKE: usize = 129;

/// Waits until `word` is not `value`, or a wake; the raw answer.
#[inline(always)]
pub fn wait(word: &AtomicU32, value: u32) -> isize {
    // SAFETY: a wait changes nothing.
    unsafe { sys::futex([word.as_ptr() as usize, WAIT, value as usize, 0, 0, 0]) }
}

/// Wakes a thread that waits for `word`; the raw answer.
#[inline(always)]
pub fn wake(word: &AtomicU32) -> isize {
    // SAFETY: a wake changes nothing.
    unsafe { sys::futex([word.as_ptr() as usize, WAKE, 1, 0, 0, 0]) }
}

/// As [`wait`], for a wake of the kernel's own: of the word that the end of a thread clears.
#[inline(always)]
pub fn wait_shared(word: &AtomicU32, value: u32) -> isize {
    // SAFETY: a wait changes nothing.
    unsafe { sys::futex([word.as_ptr() as usize, 0, value as usize, 0, 0, 0]) }
}

/// Starts a thread that has no stack and ends at once; the raw answer. `word` is its number until it
/// has ended, then 0.
#[inline(always)]
pub fn spawn_bare(word: &AtomicU32) -> isize {
    /// `CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
    /// CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID`
    const FLAGS: usize = 0x35_0f00;
    #[cfg(target_arch = "aarch64")]
    {
        let mut x0 = FLAGS;
        // SAFETY: the new thread executes nothing but its own end, and touches no memory; the kernel
        // writes its number, then 0, to `word`, which the caller waits for.
        unsafe {
            core::arch::asm!("svc #0", "cbnz x0, 2f", "mov x8, {exit}", "svc #0", "2:",
                exit = const sys::nr::EXIT, inlateout("x0") x0, in("x1") 0,
                in("x2") word.as_ptr(), in("x3") 0, in("x4") word.as_ptr(),
                inlateout("x8") sys::nr::CLONE => _, options(nostack));
        }
        x0 as isize
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        let _ = (word, FLAGS);
        -sys::errno::ENOSYS
    }
}
