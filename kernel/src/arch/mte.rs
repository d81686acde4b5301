//! Allocation tags: the per-CPU switch, and a test of whether tags work at all.

use core::arch::asm;

use arm64::regs::Features;

/// Whether two granules of one page keep two tags. `page` is the address of a page that is mapped
/// Tagged and writable and holds nothing; the CPU has MTE2.
///
/// QEMU before 8.0 says it has tags, and keeps one byte of them per page.
pub(super) fn granules_are_apart(page: u64) -> bool {
    let tagged = |tag: u64| page & !(0xf << 56) | tag << 56;
    let (first, second): (u64, u64);
    // SAFETY: stores the tags of two granules of the caller's page and reads them back. Neither
    // instruction checks tags.
    unsafe {
        asm!(
            ".arch_extension memtag",
            "stg {a}, [{page}]",
            "stg {b}, [{page}, #64]",
            "dsb ish",
            "mov {a}, xzr",
            "mov {b}, xzr",
            "ldg {a}, [{page}]",
            "ldg {b}, [{page}, #64]",
            ".arch_extension nomemtag",
            page = in(reg) page,
            a = inout(reg) tagged(0x3) => first,
            b = inout(reg) tagged(0xc) => second,
            options(nostack, preserves_flags),
        );
    }
    (first >> 56 & 0xf, second >> 56 & 0xf) == (0x3, 0xc)
}

/// Prepares this CPU for programs with tags: random tags from IRG without 0 excluded beyond what
/// the program asks, no checks until it asks (SCTLR_EL1.TCF0 is zero), no old asynchronous faults,
/// and checks off in the kernel (TCO).
pub(super) fn init_this(features: &Features) {
    if !features.has_tags() {
        return;
    }
    // SAFETY: registers of FEAT_MTE2 (checked): GCR_EL1 (RRND), RGSR_EL1 (a seed that is not zero,
    // different per CPU by its counter), TFSR_EL1, TFSRE0_EL1, PSTATE.TCO.
    unsafe {
        asm!(
            ".arch_extension memtag",
            "msr s3_0_c1_c0_6, {gcr}",
            "msr s3_0_c1_c0_5, {seed}",
            "msr s3_0_c5_c6_0, xzr",
            "msr s3_0_c5_c6_1, xzr",
            "msr tco, #1",
            "isb",
            ".arch_extension nomemtag",
            gcr = in(reg) 1u64 << 16,
            seed = in(reg) (super::time::now() & 0xffff | 1) << 8,
            options(nomem, nostack, preserves_flags),
        );
    }
}
