//! Moving the floating-point and vector registers of EL0 (DESIGN D9).
//!
//! The kernel is built without floating point, so these registers are EL0's at all times. The two
//! functions here move them; nothing else touches any, but for the copying of a page, which puts
//! back what it uses.

use core::arch::asm;
use core::ptr;

use super::context::{Context, OFFSET_V};

/// Stores `v0`-`v31`, FPCR and FPSR of this CPU into `ctx`.
pub(super) fn save(ctx: &Context) {
    // SAFETY: the stores stay inside `ctx`, whose layout `OFFSET_V` gives (FPCR and FPSR follow
    // the vector registers); its fields are atomics, which a shared reference may change.
    unsafe {
        asm!(
            ".arch_extension fp",
            ".arch_extension simd",
            "stp q0, q1, [{v}, #0]",
            "stp q2, q3, [{v}, #32]",
            "stp q4, q5, [{v}, #64]",
            "stp q6, q7, [{v}, #96]",
            "stp q8, q9, [{v}, #128]",
            "stp q10, q11, [{v}, #160]",
            "stp q12, q13, [{v}, #192]",
            "stp q14, q15, [{v}, #224]",
            "stp q16, q17, [{v}, #256]",
            "stp q18, q19, [{v}, #288]",
            "stp q20, q21, [{v}, #320]",
            "stp q22, q23, [{v}, #352]",
            "stp q24, q25, [{v}, #384]",
            "stp q26, q27, [{v}, #416]",
            "stp q28, q29, [{v}, #448]",
            "stp q30, q31, [{v}, #480]",
            "mrs {a}, fpcr",
            "mrs {b}, fpsr",
            "str {a}, [{v}, #512]",
            "str {b}, [{v}, #520]",
            ".arch_extension nosimd",
            ".arch_extension nofp",
            v = in(reg) ptr::from_ref(ctx).addr() + OFFSET_V,
            a = out(reg) _,
            b = out(reg) _,
            options(nostack, preserves_flags),
        );
    }
}

/// Loads `v0`-`v31`, FPCR and FPSR of this CPU from `ctx`.
pub(super) fn load(ctx: &Context) {
    // SAFETY: reads stay inside `ctx`, as in `save`; the registers belong to EL0, no kernel code
    // depends on them.
    unsafe {
        asm!(
            ".arch_extension fp",
            ".arch_extension simd",
            "ldp q0, q1, [{v}, #0]",
            "ldp q2, q3, [{v}, #32]",
            "ldp q4, q5, [{v}, #64]",
            "ldp q6, q7, [{v}, #96]",
            "ldp q8, q9, [{v}, #128]",
            "ldp q10, q11, [{v}, #160]",
            "ldp q12, q13, [{v}, #192]",
            "ldp q14, q15, [{v}, #224]",
            "ldp q16, q17, [{v}, #256]",
            "ldp q18, q19, [{v}, #288]",
            "ldp q20, q21, [{v}, #320]",
            "ldp q22, q23, [{v}, #352]",
            "ldp q24, q25, [{v}, #384]",
            "ldp q26, q27, [{v}, #416]",
            "ldp q28, q29, [{v}, #448]",
            "ldp q30, q31, [{v}, #480]",
            "ldr {a}, [{v}, #512]",
            "ldr {b}, [{v}, #520]",
            "msr fpcr, {a}",
            "msr fpsr, {b}",
            ".arch_extension nosimd",
            ".arch_extension nofp",
            v = in(reg) ptr::from_ref(ctx).addr() + OFFSET_V,
            a = out(reg) _,
            b = out(reg) _,
            options(nostack, preserves_flags, readonly),
        );
    }
}
