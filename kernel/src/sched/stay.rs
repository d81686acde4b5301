//! How long a CPU stays in the kernel (law 16): the longest stay and what it was for.
//!
//! A stay begins when EL0 is left and ends when it is entered again, or at a preemption point: a
//! place where no lock, guard or walk is held, interrupts are looked at, a quiescent state is
//! reported and another thread may be put on the CPU. Counted in instructions, so only with
//! `tessera.icount=1`; otherwise nothing is measured and nothing is claimed.

use core::fmt;

use sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::cpu;
use crate::arch;
use crate::syscall::names;

/// Switches the measurement on, once, at boot.
pub fn measure() {
    let has_pmu = arch::time::has_pmu();
    cpu::all().for_each(|cpu| cpu.stay.measured.store(has_pmu, Ordering::Relaxed));
}

/// Whether stays are measured.
pub fn is_measured() -> bool {
    cpu::this().stay.is_measured()
}

/// What a stay is for: a kind above bit 32, a number below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct What(u64);

impl What {
    /// An interrupt.
    pub const INTERRUPT: Self = Self(2 << 32);
    /// A page fault.
    pub const FAULT: Self = Self(3 << 32);
    /// Another exception.
    pub const EXCEPTION: Self = Self(4 << 32);
    /// Work left over from elsewhere, or a thread that goes on with a long operation.
    pub const WORK: Self = Self(5 << 32);
    /// A report for people: not measured.
    pub const EXEMPT: Self = Self(6 << 32);

    /// System call `number`.
    #[inline]
    pub const fn call(number: u32) -> Self {
        Self(number as u64)
    }

    /// Native call `number`.
    pub const fn native(number: u32) -> Self {
        Self(1 << 32 | number as u64)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0 as u32;
        match self.0 >> 32 {
            0 => write!(f, "{}", names::Name(number)),
            1 => write!(f, "native call {number}"),
            2 => f.write_str("interrupt"),
            3 => f.write_str("page fault"),
            4 => f.write_str("exception"),
            _ => f.write_str("work"),
        }
    }
}

/// The measurement of one CPU, written by that CPU only.
#[derive(Debug)]
pub struct Stay {
    start: AtomicU64,
    what: AtomicU64,
    longest: AtomicU64,
    longest_what: AtomicU64,
    /// The same for all CPUs: here it costs the way in and out one instruction less each.
    measured: AtomicBool,
}

impl Stay {
    pub(super) const fn new() -> Self {
        Self {
            start: AtomicU64::new(0),
            what: AtomicU64::new(What::EXEMPT.0),
            longest: AtomicU64::new(0),
            longest_what: AtomicU64::new(0),
            measured: AtomicBool::new(false),
        }
    }

    #[inline]
    fn is_measured(&self) -> bool {
        self.measured.load(Ordering::Relaxed)
    }

    /// The kernel was entered from EL0.
    #[inline]
    pub fn begin(&self, what: What) {
        self.what.store(what.0, Ordering::Relaxed);
        if self.is_measured() {
            self.start.store(arch::time::cycles(), Ordering::Relaxed);
        }
    }

    /// Says more exactly what the stay is for.
    pub fn rename(&self, what: What) {
        self.what.store(what.0, Ordering::Relaxed);
    }

    /// EL0 is entered, or a preemption point is reached.
    #[inline]
    pub fn end(&self) {
        if self.is_measured() {
            self.record();
        }
    }

    fn record(&self) {
        let start = self.start.load(Ordering::Relaxed);
        let length = arch::time::cycles().wrapping_sub(start);
        if length > self.longest.load(Ordering::Relaxed) {
            self.keep(length);
        }
    }

    #[cold]
    fn keep(&self, length: u64) {
        let what = self.what.load(Ordering::Relaxed);
        if what != What::EXEMPT.0 {
            self.longest.store(length, Ordering::Relaxed);
            self.longest_what.store(what, Ordering::Relaxed);
        }
    }

    /// The longest stay so far, in instructions, and what it was for.
    pub fn longest(&self) -> (u64, What) {
        let what = self.longest_what.load(Ordering::Relaxed);
        (self.longest.load(Ordering::Relaxed), What(what))
    }

    /// Forgets the longest stay: another program begins.
    pub fn reset(&self) {
        self.longest.store(0, Ordering::Relaxed);
    }
}
