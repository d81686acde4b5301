//! The measured part of a row: from one reading of the counter to the next, with the page faults
//! that the kernel counts meanwhile.

use crate::pmu;
use crate::sys::{nr, syscall};

/// What one repetition of a row took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// Instructions of the whole repetition.
    pub instructions: u64,
    /// Minor faults; `None` where the kernel does not count them.
    pub faults: Option<u64>,
}

/// Measures `action`. The rows that a profiler is to see are marked by calls of their own.
#[inline(always)]
pub fn measure(marked: bool, action: impl FnOnce()) -> Sample {
    let faults = minor_faults();
    let begin = if marked { profile_begin() } else { pmu::now() };
    action();
    let end = if marked { profile_end() } else { pmu::now() };
    let faults = minor_faults().zip(faults).map(|(now, then)| now - then);
    Sample {
        instructions: end.wrapping_sub(begin),
        faults,
    }
}

/// Where a profiler begins to count: the first instruction of a translated block.
// SAFETY: no other function of this program has this name, and it has no caller elsewhere.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn profile_begin() -> u64 {
    pmu::now()
}

/// Where a profiler stops counting. A body that differs from that of [`profile_begin`], else the
/// compiler would make them one.
// SAFETY: as `profile_begin`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn profile_end() -> u64 {
    let now = pmu::now();
    pmu::two_instructions(1);
    now
}

/// `ru_minflt` of the process.
fn minor_faults() -> Option<u64> {
    let mut usage = [0u64; 18];
    // SAFETY: RUSAGE_SELF (0) writes the 144 bytes of `usage`.
    let got = unsafe { syscall(nr::GETRUSAGE, [0, (&raw mut usage) as usize, 0, 0, 0, 0]) };
    (got == 0).then_some(usage[8])
}
