//! The cycle counter, PMCCNTR_EL0, read at EL0.
//!
//! Under `-icount shift=0` it counts exactly one per instruction; otherwise it follows the host's
//! clock, and its differences are times, not instructions. [`Unit`] tells the two apart.

/// Reads the counter (Arm ARM, "PMCCNTR_EL0, Performance Monitors Cycle Count Register"). The
/// kernel has to allow it with PMUSERENR_EL0.{EN,CR}, else the instruction ends the program.
#[inline(always)]
pub fn now() -> u64 {
    #[cfg(target_arch = "aarch64")]
    {
        let count: u64;
        // SAFETY: reads a counter; the barriers keep the measured code between two readings.
        unsafe {
            core::arch::asm!("isb", "mrs {}, pmccntr_el0", "isb", out(reg) count, options(nostack));
        }
        count
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        0
    }
}

/// Runs `rounds` rounds of a loop of exactly two instructions each.
#[inline(never)]
pub fn two_instructions(rounds: u64) {
    #[cfg(target_arch = "aarch64")]
    if rounds > 0 {
        // SAFETY: counts a register down to zero; no memory, no stack.
        unsafe {
            core::arch::asm!("2:", "subs {0}, {0}, #1", "b.ne 2b", inout(reg) rounds => _,
                options(nomem, nostack));
        }
    }
    #[cfg(not(target_arch = "aarch64"))]
    let _ = rounds;
}

/// What one count of the counter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One instruction (icount).
    Instruction,
    /// Some clock of the host.
    Clock,
    /// The counter stands still.
    Nothing,
}

/// Finds the unit out: three runs of a loop of 2000 instructions must cost 2000 and the same small
/// surplus each.
pub fn unit() -> Unit {
    let runs: [u64; 4] = std::array::from_fn(|_| {
        let start = now();
        two_instructions(1000);
        now().wrapping_sub(start)
    });
    // The first run may take page faults.
    let [_, a, b, c] = runs;
    if a == b && b == c && (2000..2032).contains(&a) {
        Unit::Instruction
    } else if a == 0 && b == 0 && c == 0 {
        Unit::Nothing
    } else {
        Unit::Clock
    }
}

/// Cost of one `action`, averaged over `rounds`, without the cost of the loop and of reading the
/// counter. The first, unmeasured call takes the page faults of the code itself.
#[inline(never)]
pub fn cost(rounds: u64, mut action: impl FnMut(u64)) -> u64 {
    action(0);
    let empty = span(rounds, &mut |round| {
        std::hint::black_box(round);
    });
    let full = span(rounds, &mut |round| {
        std::hint::black_box(round);
        action(round);
    });
    full.saturating_sub(empty) / rounds.max(1)
}

/// The counter's difference over `rounds` calls of `action`.
#[inline(always)]
fn span(rounds: u64, action: &mut impl FnMut(u64)) -> u64 {
    let start = now();
    for round in 0..rounds {
        action(round);
    }
    now().wrapping_sub(start)
}

/// Cost of one system call `number` without arguments: from the `svc` until the instruction after
/// it, averaged over `rounds` (not zero).
#[inline(never)]
pub fn call_cost(number: usize, rounds: u64) -> u64 {
    calls(number, 1);
    let start = now();
    two_instructions(rounds);
    let empty = now().wrapping_sub(start);
    let start = now();
    calls(number, rounds);
    now().wrapping_sub(start).saturating_sub(empty) / rounds
}

/// `rounds` system calls in a loop whose other two instructions are those of
/// [`two_instructions`].
#[inline(always)]
pub fn calls(number: usize, rounds: u64) {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: all arguments are zero, and the numbers given have no effect then.
    unsafe {
        core::arch::asm!("2:", "svc #0", "subs {0}, {0}, #1", "b.ne 2b", inout(reg) rounds => _,
            in("x8") number, inout("x0") 0usize => _, in("x1") 0usize, in("x2") 0usize,
            in("x3") 0usize, in("x4") 0usize, in("x5") 0usize, options(nostack));
    }
    #[cfg(not(target_arch = "aarch64"))]
    let _ = (number, rounds);
}

/// Cost of the first write to a fresh page, averaged over all pages of `area` (which must be
/// mapped writable and untouched, and not empty), without the loop around it.
#[inline(never)]
pub fn fault_cost(area: &crate::memory::Area) -> u64 {
    let pages = (area.len() / crate::sys::PAGE) as u64;
    let start = now();
    two_instructions(pages);
    let empty = now().wrapping_sub(start);
    let start = now();
    touch(area.addr(0), pages);
    // The store itself and the step to the next page are two instructions more than the loop's.
    now().wrapping_sub(start).saturating_sub(empty + 2 * pages) / pages
}

/// Writes a zero byte to each of `pages` pages from `addr` on.
#[inline(always)]
fn touch(addr: usize, pages: u64) {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the addresses are an area's, which no Rust object lives in.
    unsafe {
        core::arch::asm!("2:", "strb wzr, [{1}]", "add {1}, {1}, #4096", "subs {0}, {0}, #1",
            "b.ne 2b", inout(reg) pages => _, inout(reg) addr => _, options(nostack));
    }
    #[cfg(not(target_arch = "aarch64"))]
    let _ = (addr, pages);
}
