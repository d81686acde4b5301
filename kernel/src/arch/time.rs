//! The generic timer, the cycle counter and the wall clock.

use core::arch::asm;

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTKCTL_EL1, CNTV_CTL_EL0, CNTV_CVAL_EL0, Readable};
use aarch64_cpu::registers::{ID_AA64DFR0_EL1, Writeable};
use sync::atomic::{AtomicU64, Ordering};

const NANOSECONDS: u64 = 1_000_000_000;

/// Nanoseconds to add to the time since boot for the time since 1970; 0 without a clock.
static REALTIME_OFFSET: AtomicU64 = AtomicU64::new(0);

/// Ticks of the virtual counter: starts near reset, the same on all CPUs.
#[inline]
pub fn now() -> u64 {
    let ticks: u64;
    // SAFETY: reading a counter. The barrier keeps the read from being done early (Arm ARM,
    // “The virtual counter”).
    unsafe {
        asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags));
    }
    ticks
}

/// Ticks per second.
#[inline]
pub fn freq() -> u64 {
    CNTFRQ_EL0.get().max(1)
}

/// Nanoseconds in `ticks`, rounded down.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    scale(ticks, NANOSECONDS, freq())
}

/// Ticks in `ns` nanoseconds, rounded up, so that a wait is never too short.
pub fn ns_to_ticks(ns: u64) -> u64 {
    scale(ns, freq(), NANOSECONDS).saturating_add(1)
}

/// `value * by / of` without overflow in between; the largest number if the result has no room.
fn scale(value: u64, by: u64, of: u64) -> u64 {
    if by == of {
        return value;
    }
    u64::try_from(u128::from(value) * u128::from(by) / u128::from(of)).unwrap_or(u64::MAX)
}

/// Arms this CPU's timer for the moment `deadline` (ticks), unless it is armed for an earlier one.
pub fn advance_deadline(deadline: u64) {
    if !CNTV_CTL_EL0.is_set(CNTV_CTL_EL0::ENABLE) || CNTV_CVAL_EL0.get() > deadline {
        set_deadline(Some(deadline));
    }
}

/// Arms this CPU's timer for the moment `deadline` (ticks), or stops it. A deadline in the past
/// fires at once.
pub fn set_deadline(deadline: Option<u64>) {
    match deadline {
        Some(ticks) => {
            CNTV_CVAL_EL0.set(ticks);
            CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
        }
        None => CNTV_CTL_EL0.set(0),
    }
}

/// This CPU's cycle counter: under QEMU's `-icount`, instructions since reset. 0 without a PMU.
#[inline]
pub fn instructions() -> u64 {
    if has_pmu() { cycles() } else { 0 }
}

/// This CPU's cycle counter, on a machine that is known to have one ([`has_pmu`]); without a PMU
/// the read is an undefined instruction.
#[inline(always)]
pub fn cycles() -> u64 {
    let count: u64;
    // SAFETY: reading a counter changes nothing.
    unsafe {
        asm!("mrs {}, pmccntr_el0", out(reg) count, options(nomem, nostack, preserves_flags));
    }
    count
}

/// Nanoseconds between the start of the virtual counter and 1970-01-01; 0 if the machine has no
/// real-time clock.
pub fn realtime_offset() -> u64 {
    REALTIME_OFFSET.load(Ordering::Relaxed)
}

/// Sets the wall clock: it is `seconds` since 1970 now.
pub(super) fn set_realtime(seconds: u64) {
    let offset = seconds
        .saturating_mul(NANOSECONDS)
        .saturating_sub(ticks_to_ns(now()));
    REALTIME_OFFSET.store(offset, Ordering::Relaxed);
}

/// Stops this CPU's timer and opens the virtual counter and the cycle counter to EL0.
pub(super) fn init_cpu() {
    set_deadline(None);
    CNTKCTL_EL1.write(CNTKCTL_EL1::EL0VCTEN::SET);
    if has_pmu() {
        // SAFETY: counters that exist (checked): all on, 64 bits wide (E, LC in PMCR_EL0), cycle
        // counter enabled, readable from EL0 (CR and ER in PMUSERENR_EL0). It is not reset: boot
        // started it.
        unsafe {
            asm!(
                "mrs {t}, pmcr_el0",
                "orr {t}, {t}, #1",
                "orr {t}, {t}, #0x40",
                "msr pmcr_el0, {t}",
                "mov {t}, #0x80000000",
                "msr pmcntenset_el0, {t}",
                "msr pmintenclr_el1, {t}",
                "mov {t}, #0xc",
                "msr pmuserenr_el0, {t}",
                "isb",
                t = out(reg) _,
                options(nomem, nostack, preserves_flags),
            );
        }
    }
}

/// Whether there is a performance monitor: PMUVer is neither 0 nor “implementation defined”.
pub fn has_pmu() -> bool {
    !matches!(ID_AA64DFR0_EL1.get() >> 8 & 0xf, 0 | 0xf)
}
