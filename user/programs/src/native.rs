//! The kernel's own calls, `svc #1`, with registers as they are: for programs that do what the runtime
//! in `user/tessera` would not let them.

use tessera::raw::{self, Frame};

/// `x0` to `x10`; the number of the call goes to `x8` by itself.
pub type Registers = [u64; 11];

/// Enters the kernel and returns `x0`.
///
/// # Safety
/// As [`crate::sys::syscall`].
pub unsafe fn enter(number: u64, x: &mut Registers) -> i64 {
    let [x0, x1, x2, x3, x4, x5, x6, x7, _, x9, x10] = *x;
    let mut frame = Frame {
        x: [x0, x1, x2, x3, x4, x5, x6, x7],
        x9,
        x10,
    };
    // SAFETY: passed on to the caller.
    unsafe { raw::enter(number, &mut frame) };
    x[..8].copy_from_slice(&frame.x);
    (x[9], x[10]) = (frame.x9, frame.x10);
    x[0] as i64
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
