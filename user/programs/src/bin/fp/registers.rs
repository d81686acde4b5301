//! The register patterns and the passages they must survive.

use core::arch::{asm, naked_asm};
use programs::random::Random;
use programs::sys::nr;
use programs::{check, require};
use std::thread;

/// What is loaded before a passage and stored after it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
struct State {
    v: [u128; 32],
    /// x0 (unused) to x30.
    x: [u64; 31],
    nzcv: u64,
    fpcr: u64,
    fpsr: u64,
}

/// Saves what a function must keep, loads the state at x0, and leaves the output pointer (x1) on
/// the stack. x8 becomes the third argument.
macro_rules! enter {
    () => {
        "stp x29, x30, [sp, #-192]!
         stp x19, x20, [sp, #16]
         stp x21, x22, [sp, #32]
         stp x23, x24, [sp, #48]
         stp x25, x26, [sp, #64]
         stp x27, x28, [sp, #80]
         stp d8, d9, [sp, #96]
         stp d10, d11, [sp, #112]
         stp d12, d13, [sp, #128]
         stp d14, d15, [sp, #144]
         mrs x9, fpcr
         stp x1, x9, [sp, #160]
         mov x8, x2
         ldr x9, [x0, #760]
         msr nzcv, x9
         ldr x9, [x0, #768]
         msr fpcr, x9
         ldr x9, [x0, #776]
         msr fpsr, x9
         ldp q0, q1, [x0]
         ldp q2, q3, [x0, #32]
         ldp q4, q5, [x0, #64]
         ldp q6, q7, [x0, #96]
         ldp q8, q9, [x0, #128]
         ldp q10, q11, [x0, #160]
         ldp q12, q13, [x0, #192]
         ldp q14, q15, [x0, #224]
         ldp q16, q17, [x0, #256]
         ldp q18, q19, [x0, #288]
         ldp q20, q21, [x0, #320]
         ldp q22, q23, [x0, #352]
         ldp q24, q25, [x0, #384]
         ldp q26, q27, [x0, #416]
         ldp q28, q29, [x0, #448]
         ldp q30, q31, [x0, #480]
         add x0, x0, #512
         ldr x1, [x0, #8]
         ldp x2, x3, [x0, #16]
         ldp x4, x5, [x0, #32]
         ldp x6, x7, [x0, #48]
         ldr x9, [x0, #72]
         ldp x10, x11, [x0, #80]
         ldp x12, x13, [x0, #96]
         ldp x14, x15, [x0, #112]
         ldp x16, x17, [x0, #128]
         ldp x18, x19, [x0, #144]
         ldp x20, x21, [x0, #160]
         ldp x22, x23, [x0, #176]
         ldp x24, x25, [x0, #192]
         ldp x26, x27, [x0, #208]
         ldp x28, x29, [x0, #224]
         ldr x30, [x0, #240]"
    };
}

/// Stores the registers at the output pointer and gives back what `enter!` saved.
macro_rules! leave {
    () => {
        "ldr x0, [sp, #160]
         add x0, x0, #512
         stp xzr, x1, [x0]
         stp x2, x3, [x0, #16]
         stp x4, x5, [x0, #32]
         stp x6, x7, [x0, #48]
         stp x8, x9, [x0, #64]
         stp x10, x11, [x0, #80]
         stp x12, x13, [x0, #96]
         stp x14, x15, [x0, #112]
         stp x16, x17, [x0, #128]
         stp x18, x19, [x0, #144]
         stp x20, x21, [x0, #160]
         stp x22, x23, [x0, #176]
         stp x24, x25, [x0, #192]
         stp x26, x27, [x0, #208]
         stp x28, x29, [x0, #224]
         mrs x9, nzcv
         stp x30, x9, [x0, #240]
         mrs x9, fpcr
         mrs x10, fpsr
         stp x9, x10, [x0, #256]
         sub x0, x0, #512
         stp q0, q1, [x0]
         stp q2, q3, [x0, #32]
         stp q4, q5, [x0, #64]
         stp q6, q7, [x0, #96]
         stp q8, q9, [x0, #128]
         stp q10, q11, [x0, #160]
         stp q12, q13, [x0, #192]
         stp q14, q15, [x0, #224]
         stp q16, q17, [x0, #256]
         stp q18, q19, [x0, #288]
         stp q20, q21, [x0, #320]
         stp q22, q23, [x0, #352]
         stp q24, q25, [x0, #384]
         stp q26, q27, [x0, #416]
         stp q28, q29, [x0, #448]
         stp q30, q31, [x0, #480]
         ldr x9, [sp, #168]
         msr fpcr, x9
         ldp d8, d9, [sp, #96]
         ldp d10, d11, [sp, #112]
         ldp d12, d13, [sp, #128]
         ldp d14, d15, [sp, #144]
         ldp x19, x20, [sp, #16]
         ldp x21, x22, [sp, #32]
         ldp x23, x24, [sp, #48]
         ldp x25, x26, [sp, #64]
         ldp x27, x28, [sp, #80]
         ldp x29, x30, [sp], #192
         ret"
    };
}

/// Through the system call in x8. Its arguments are the pattern, x0 the address of its part.
///
/// # Safety
/// `number` names a call that takes no argument; both pointers are good.
#[unsafe(naked)]
unsafe extern "C" fn through_call(from: *const State, to: *mut State, number: u64) {
    naked_asm!(enter!(), "svc #0", leave!())
}

/// Through a loop of `rounds` rounds that leaves everything but x8 alone.
///
/// # Safety
/// `rounds` is not zero; both pointers are good.
#[unsafe(naked)]
unsafe extern "C" fn through_loop(from: *const State, to: *mut State, rounds: u64) {
    naked_asm!(enter!(), "2: sub x8, x8, #1", "cbnz x8, 2b", leave!())
}

impl State {
    /// A pattern that differs in every register; FPCR has the rounding mode of `thread`.
    fn pattern(random: &mut Random, thread: u64) -> Self {
        let mut word = || random.next_u64();
        Self {
            v: std::array::from_fn(|_| u128::from(word()) << 64 | u128::from(word())),
            x: std::array::from_fn(|_| word()),
            nzcv: (word() & 0xf) << 28,
            // RMode and FZ: two architected fields that every CPU has.
            fpcr: (thread & 3) << 22 | (thread >> 2 & 1) << 24,
            fpsr: word() & 0x0800_009f,
        }
    }

    /// A state of zeroes, to be stored over.
    const fn empty() -> Self {
        Self {
            v: [0; 32],
            x: [0; 31],
            nzcv: 0,
            fpcr: 0,
            fpsr: 0,
        }
    }

    /// Compares with what came out; x0 is a result and x8 is `x8`.
    fn compare(&self, after: &Self, x8: u64, passage: &str) {
        let mut expected = self.x;
        (expected[0], expected[8]) = (0, x8);
        let wrong_x = (0..31).find(|at| expected[*at] != after.x[*at]);
        require!(
            wrong_x.is_none(),
            "x{} changed in {passage}",
            wrong_x.unwrap_or(0)
        );
        let wrong_v = (0..32).find(|at| self.v[*at] != after.v[*at]);
        require!(
            wrong_v.is_none(),
            "v{} changed in {passage}",
            wrong_v.unwrap_or(0)
        );
        let (before, now) = (self.nzcv, after.nzcv);
        require!(
            before == now,
            "NZCV was {before:#x}, is {now:#x} after {passage}"
        );
        let (before, now) = (self.fpcr, after.fpcr);
        require!(
            before == now,
            "FPCR was {before:#x}, is {now:#x} after {passage}"
        );
        let (before, now) = (self.fpsr, after.fpsr);
        require!(
            before == now,
            "FPSR was {before:#x}, is {now:#x} after {passage}"
        );
    }
}

fn thread_pointer() -> u64 {
    let value;
    // SAFETY: reads a register that EL0 owns.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) value, options(nomem, nostack)) };
    value
}

fn one_thread(number: u64, rounds: u64) {
    let mut random = Random::new(number);
    let pointer = thread_pointer();
    let mut after = State::empty();
    for round in 0..rounds {
        let before = State::pattern(&mut random, number);
        let (call, name) = match round % 4 {
            0 => (nr::GETPPID as u64, "getppid"),
            1 => (nr::SCHED_YIELD as u64, "sched_yield"),
            2 => (nr::GETTID as u64, "gettid"),
            _ => (4000, "an unknown call"),
        };
        // SAFETY: these calls take no argument.
        unsafe { through_call(&before, &mut after, call) };
        before.compare(&after, call, name);
        // SAFETY: good pointers, and many rounds.
        unsafe { through_loop(&before, &mut after, 1 + random.below(200_000)) };
        before.compare(&after, 0, "a loop");
        require!(thread_pointer() == pointer, "TPIDR_EL0 changed");
    }
}

/// A sum that the rounding mode and any lost register would change.
fn series(terms: u32) -> f64 {
    (1..=terms).map(|term| 1.0 / f64::from(term)).sum()
}

/// Runs everything: alone first, then with more threads than CPUs.
pub fn run(rounds: u64) {
    check::section(10, "one thread");
    let alone = series(200_000).to_bits();
    one_thread(1, 50);
    check::section(11, "many threads");
    thread::scope(|scope| {
        for number in 0..12 {
            scope.spawn(move || one_thread(number, rounds));
        }
        for _ in 0..4 {
            scope.spawn(move || {
                for _ in 0..20 {
                    let sum = std::hint::black_box(series(200_000)).to_bits();
                    require!(sum == alone, "a sum is {sum:#x}, not {alone:#x}");
                }
            });
        }
    });
}
