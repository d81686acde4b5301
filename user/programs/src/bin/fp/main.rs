//! Registers across system calls and thread switches: x1 to x30, v0 to v31, the flags, FPCR and
//! FPSR, TPIDR_EL0. `fp [ROUNDS]` (200).
//!
//! Every thread fills all registers with a pattern of its own, goes through a system call, or
//! computes long enough to be interrupted, and compares.

#[cfg(target_arch = "aarch64")]
mod registers;

use programs::check;

fn main() {
    check::start("fp");
    check::aarch64_only();
    #[cfg(target_arch = "aarch64")]
    {
        registers::run(check::number_argument(1, 200));
        check::pass();
    }
}
