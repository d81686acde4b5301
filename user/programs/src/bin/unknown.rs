//! Makes system calls that do not exist, a known number of times each, and checks ENOSYS.
//!
//! The kernel counts them in its exit report: 4000 once, 1023 three times, 600 twice, 9999 once,
//! and three very large numbers once each. Linux looks at the lower 32 bits of x8 only, so numbers
//! that need more are left out.

use programs::sys::{self, errno};
use programs::{check, require_result};

const CALLS: &[(usize, u32)] = &[
    (1023, 3),
    (4000, 1),
    (600, 2),
    (9999, 1),
    (usize::MAX, 1),
    (0x8000_0000, 1),
    (0x7fff_ffff, 1),
];

fn main() {
    check::start("unknown");
    check::section(10, "unknown system calls");
    for (number, times) in CALLS {
        for _ in 0..*times {
            require_result!(sys::unknown_call(*number), -errno::ENOSYS, "call {number}");
        }
    }
    check::pass();
}
