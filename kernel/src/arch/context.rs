//! The registers of one EL0 thread while it does not run.

use core::mem::offset_of;

use sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::mte::TagControl;

/// Registers of an EL0 thread.
///
/// The exception vectors store the general registers here on every entry from EL0 and load them
/// on every exit: at EL0 the CPU's `SP_EL1` points at the context of the thread that runs.
/// Floating-point registers and `TPIDR_EL0` stay in the CPU between entries and are moved only
/// when [`super::run`] switches threads (DESIGN D9).
///
/// While a context is loaded, only `x0` to `x18` may be changed without further ado: whoever changes
/// more asks for attention ([`crate::sched`]), since the quick way back to EL0 loads nothing else.
///
/// All fields are atomics, read and written relaxed: a context is only looked at by a CPU that
/// holds the thread, so no order is needed, and other code needs no `unsafe` to touch it.
/// The layout is known to `vectors.rs`; the assertions below keep the two together.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct Context {
    /// `x0` to `x30`.
    pub x: [AtomicU64; 31],
    /// `SP_EL0`.
    pub sp: AtomicU64,
    /// Program counter: where EL0 goes on.
    pub pc: AtomicU64,
    pstate: AtomicU64,
    /// `TPIDR_EL0`: the thread pointer. Valid only while the context is not loaded on a CPU.
    pub tpidr: AtomicU64,
    /// CPU number + 1 while the context is loaded, else 0.
    pub(super) loaded: AtomicU32,
    /// What the thread asked for about tagged addresses and tag checks.
    pub(super) tags: TagControl,
    v: [AtomicU64; 64],
    fpcr: AtomicU64,
    fpsr: AtomicU64,
}

/// What a program may have in PSTATE: the condition flags, TCO, DIT, SSBS and BTYPE. Everything else
/// (exception level, masks, single step, illegal state) is the kernel's (Arm ARM, SPSR_EL1).
const PSTATE_USER: u64 = 0xf << 28 | 1 << 25 | 1 << 24 | 1 << 12 | 0b11 << 10;

/// Words of [`Context::general`].
pub const GENERAL_WORDS: usize = 34;
/// Words of [`Context::vector`].
pub const VECTOR_WORDS: usize = 66;

/// `v0`'s place in [`Context`], for the assembly that moves the vector registers.
pub(super) const OFFSET_V: usize = offset_of!(Context, v);

const _: () = {
    assert!(offset_of!(Context, x) == 0);
    assert!(offset_of!(Context, sp) == 248);
    assert!(offset_of!(Context, pc) == 256);
    assert!(offset_of!(Context, pstate) == 264);
    assert!(OFFSET_V.is_multiple_of(16));
    assert!(offset_of!(Context, fpcr) == OFFSET_V + 512);
    assert!(offset_of!(Context, fpsr) == OFFSET_V + 520);
};

impl Context {
    /// All registers zero.
    pub const fn new() -> Self {
        Self {
            x: [const { AtomicU64::new(0) }; 31],
            sp: AtomicU64::new(0),
            pc: AtomicU64::new(0),
            pstate: AtomicU64::new(0),
            tpidr: AtomicU64::new(0),
            loaded: AtomicU32::new(0),
            tags: TagControl::new(),
            v: [const { AtomicU64::new(0) }; 64],
            fpcr: AtomicU64::new(0),
            fpsr: AtomicU64::new(0),
        }
    }

    /// Makes the context that of a thread that starts at `entry` with stack pointer `sp`: every
    /// other register is zero.
    pub fn reset(&self, entry: u64, sp: u64) {
        let zero = |word: &AtomicU64| word.store(0, Ordering::Relaxed);
        self.x.iter().chain(&self.v).for_each(zero);
        [&self.pstate, &self.tpidr, &self.fpcr, &self.fpsr]
            .into_iter()
            .for_each(zero);
        self.tags.reset();
        self.sp.store(sp, Ordering::Relaxed);
        self.pc.store(entry, Ordering::Relaxed);
    }

    /// Copies all registers of `other`, as for a thread that another one has just made.
    ///
    /// When `other` is loaded on this CPU its floating-point registers and `TPIDR_EL0` are in the
    /// CPU: [`super::run::save_current`] first.
    pub fn clone_from(&self, other: &Context) {
        let copy = |(to, from): (&AtomicU64, &AtomicU64)| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        // One loop for each array: over a chain of them it takes three times as many instructions.
        self.x.iter().zip(&other.x).for_each(copy);
        self.v.iter().zip(&other.v).for_each(copy);
        copy((&self.sp, &other.sp));
        copy((&self.pc, &other.pc));
        copy((&self.pstate, &other.pstate));
        copy((&self.tpidr, &other.tpidr));
        copy((&self.fpcr, &other.fpcr));
        copy((&self.fpsr, &other.fpsr));
        self.tags.inherit(&other.tags);
    }

    /// What the thread asked for about tagged addresses and tag checks.
    #[inline]
    pub fn tags(&self) -> &TagControl {
        &self.tags
    }

    /// `x{n}`, n from 0 to 30.
    #[inline]
    pub fn get(&self, n: usize) -> u64 {
        self.x[n].load(Ordering::Relaxed)
    }

    /// Sets `x{n}`, n from 0 to 30.
    #[inline]
    pub fn set(&self, n: usize, value: u64) {
        self.x[n].store(value, Ordering::Relaxed);
    }

    /// Has the thread make again the call that it has come by.
    pub fn rewind(&self) {
        let pc = self.pc.load(Ordering::Relaxed);
        self.pc.store(pc.wrapping_sub(4), Ordering::Relaxed);
    }

    /// `x0` to `x30`, `sp`, `pc`, PSTATE.
    pub fn general(&self) -> [u64; GENERAL_WORDS] {
        let mut words = [0; GENERAL_WORDS];
        let all = self.x.iter().chain([&self.sp, &self.pc, &self.pstate]);
        for (word, from) in words.iter_mut().zip(all) {
            *word = from.load(Ordering::Relaxed);
        }
        words
    }

    /// Sets the same from the front of `words`; of PSTATE what belongs to the program.
    pub fn set_general(&self, words: &[u64]) {
        let all = self.x.iter().chain([&self.sp, &self.pc]);
        for (to, word) in all.zip(words) {
            to.store(*word, Ordering::Relaxed);
        }
        self.set_pstate(words[GENERAL_WORDS - 1]);
    }

    /// `v0` to `v31`, then `fpsr` and `fpcr` in one word, then nothing. Not of a loaded context.
    pub fn vector(&self) -> [u64; VECTOR_WORDS] {
        let mut words = [0; VECTOR_WORDS];
        for (word, from) in words.iter_mut().zip(&self.v) {
            *word = from.load(Ordering::Relaxed);
        }
        let (fpsr, fpcr) = (&self.fpsr, &self.fpcr);
        let low = fpsr.load(Ordering::Relaxed) & u64::from(u32::MAX);
        words[64] = low | fpcr.load(Ordering::Relaxed) << 32;
        words
    }

    /// Sets the same.
    pub fn set_vector(&self, words: &[u64; VECTOR_WORDS]) {
        for (to, word) in self.v.iter().zip(words) {
            to.store(*word, Ordering::Relaxed);
        }
        let (low, high) = (words[64] & u64::from(u32::MAX), words[64] >> 32);
        self.fpsr.store(low, Ordering::Relaxed);
        self.fpcr.store(high, Ordering::Relaxed);
    }

    /// PSTATE as the thread had it.
    pub fn pstate(&self) -> u64 {
        self.pstate.load(Ordering::Relaxed)
    }

    /// Sets the part of PSTATE that belongs to the program; the rest of `value` is ignored, so
    /// that no value makes a context return anywhere but to EL0 with interrupts open.
    pub fn set_pstate(&self, value: u64) {
        self.pstate.store(value & PSTATE_USER, Ordering::Relaxed);
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Context {
    /// A context that a CPU still returns through must not go away: that is a kernel bug, caught
    /// here rather than as a wild store by the next exception.
    fn drop(&mut self) {
        assert_eq!(
            self.loaded.load(Ordering::Relaxed),
            0,
            "a loaded thread context was dropped"
        );
    }
}
