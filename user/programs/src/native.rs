//! The kernel's own calls, `svc #1`, with registers as they are: for programs that do what the runtime
//! in `user/tessera` would not let them.

/// `x0` to `x10`; the number of the call goes to `x8` by itself.
pub type Registers = [u64; 11];

/// Enters the kernel and returns `x0`.
///
/// # Safety
/// As [`crate::sys::syscall`].
pub unsafe fn enter(number: u64, x: &mut Registers) -> i64 {
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: the kernel changes no other registers; memory effects are the caller's promise.
        unsafe {
            core::arch::asm!("svc #1", in("x8") number,
                inlateout("x0") x[0], inlateout("x1") x[1], inlateout("x2") x[2],
                inlateout("x3") x[3], inlateout("x4") x[4], inlateout("x5") x[5],
                inlateout("x6") x[6], inlateout("x7") x[7],
                inlateout("x9") x[9], inlateout("x10") x[10],
                options(nostack));
        }
        x[0] as i64
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        let _ = (number, x);
        -(crate::sys::errno::ENOSYS as i64)
    }
}

/// Makes a call that does nothing to this program's memory, and returns `x0`. For calls that take an
/// address here it has to be one at which nothing is mapped.
pub fn call(number: u64, x: &mut Registers) -> i64 {
    // SAFETY: no memory of this program is named.
    unsafe { enter(number, x) }
}

/// The same with arguments only.
pub fn control(number: u64, arguments: &[u64]) -> i64 {
    let mut x = Registers::default();
    x[..arguments.len()].copy_from_slice(arguments);
    call(number, &mut x)
}

/// What a call that has failed with this error returns.
pub const fn failed(error: isize) -> i64 {
    -(error as i64)
}
