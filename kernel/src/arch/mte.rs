//! Allocation tags: what a thread asks for and how a CPU gets it, and a test of whether tags work at
//! all. [ARM "The Memory Tagging Extension"]

use core::arch::asm;

use aarch64_cpu::registers::{Readable, SCTLR_EL1, Writeable};
use arm64::regs::{Features, Sctlr, TagChecks};
use linux_raw_sys::prctl;
use sync::atomic::{AtomicU32, Ordering};

use super::context::Context;
use super::cpu;
use crate::{bootargs, percpu, sched};

/// What a thread asked for by `prctl(PR_SET_TAGGED_ADDR_CTRL)`: the word as it was given, and whether a
/// tag check fault that was noticed too late for the instruction is still to be told.
#[derive(Debug)]
pub struct TagControl(AtomicU32);

impl TagControl {
    /// In the word: an asynchronous fault is to be told.
    const FAULT: u32 = 1 << 31;

    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The word as it was given.
    #[inline(always)]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed) & !Self::FAULT
    }

    /// For a context that is not loaded; else [`super::run::set_current_tags`].
    pub(super) fn set(&self, control: u32) {
        let fault = self.0.load(Ordering::Relaxed) & Self::FAULT;
        self.0.store(control | fault, Ordering::Relaxed);
    }

    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// What a thread has that `other` has made: not its fault.
    pub(super) fn inherit(&self, other: &Self) {
        self.0.store(other.get(), Ordering::Relaxed);
    }

    /// Whether system calls take pointers with a tag.
    #[inline(always)]
    pub fn takes_tags(&self) -> bool {
        self.0.load(Ordering::Relaxed) & prctl::PR_TAGGED_ADDR_ENABLE != 0
    }

    /// How tag check faults are reported.
    #[inline]
    pub fn checks(&self) -> TagChecks {
        checks_of(self.get())
    }

    pub(super) fn take_fault(&self) -> bool {
        self.0.load(Ordering::Relaxed) & Self::FAULT != 0
            && self.0.fetch_and(!Self::FAULT, Ordering::Relaxed) & Self::FAULT != 0
    }
}

/// The bits of a control word that mean something on this machine.
pub fn known_control() -> u32 {
    match cpu::features().has_tags() {
        true => prctl::PR_TAGGED_ADDR_ENABLE | prctl::PR_MTE_TCF_MASK | prctl::PR_MTE_TAG_MASK,
        false => prctl::PR_TAGGED_ADDR_ENABLE,
    }
}

/// The mode for a control word: of several that the thread would do with, the one that the machine
/// prefers, else the strictest report that costs least, in Linux's order.
fn checks_of(control: u32) -> TagChecks {
    let wants = |bit| control & bit != 0;
    let (sync, lazy) = (
        wants(prctl::PR_MTE_TCF_SYNC),
        wants(prctl::PR_MTE_TCF_ASYNC),
    );
    match (sync, lazy) {
        (false, false) => TagChecks::None,
        (true, false) => TagChecks::Sync,
        (false, true) => TagChecks::Async,
        (true, true) => match bootargs::get().mte_preferred {
            TagChecks::Asymmetric if cpu::features().mte < 3 => TagChecks::Async,
            TagChecks::None => TagChecks::Async,
            preferred => preferred,
        },
    }
}

/// GCR_EL1: IRG never makes the tags that the thread left out of its include mask.
fn exclusion(control: u32) -> u64 {
    const RRND: u64 = 1 << 16;
    let included = control >> prctl::PR_MTE_TAG_SHIFT & 0xffff;
    RRND | u64::from(!included & 0xffff)
}

/// Sets this CPU up for what the thread of `ctx` asked for. Nothing is written if it is so already,
/// which it always is without tags: the word has no such bit then.
#[inline(always)]
pub(super) fn load(ctx: &Context) {
    let control = ctx.tags.get();
    if percpu::this().tags.load(Ordering::Relaxed) != control {
        change(control);
    }
}

#[cold]
#[inline(never)]
fn change(control: u32) {
    percpu::this().tags.store(control, Ordering::Relaxed);
    if !cpu::features().has_tags() {
        return;
    }
    let checks = checks_of(control);
    let sctlr = Sctlr::from_raw(SCTLR_EL1.get()).with_tag_checks(checks);
    SCTLR_EL1.set(sctlr.raw());
    // SAFETY: GCR_EL1 exists (FEAT_MTE2, checked) and concerns IRG only. The exception return to EL0
    // synchronises both registers.
    unsafe {
        asm!(
            "msr s3_0_c1_c0_6, {}",
            in(reg) exclusion(control),
            options(nomem, nostack, preserves_flags),
        );
    }
    sched::this().watch_tags(checks.may_be_late());
}

/// Moves what the CPU has noticed of the checks of `ctx`, which is loaded, to its record.
#[inline(always)]
pub(super) fn save(ctx: &Context) {
    if percpu::this().tags.load(Ordering::Relaxed) & prctl::PR_MTE_TCF_ASYNC != 0 {
        collect(ctx);
    }
}

#[cold]
#[inline(never)]
fn collect(ctx: &Context) {
    let noticed: u64;
    // SAFETY: TFSRE0_EL1 exists: no control word without tags has a mode. Exception entry has made it
    // current (SCTLR_EL1.ITFSB).
    unsafe {
        asm!(
            "mrs {0}, s3_0_c5_c6_1",
            "msr s3_0_c5_c6_1, xzr",
            out(reg) noticed,
            options(nomem, nostack, preserves_flags),
        );
    }
    if noticed & 1 != 0 {
        ctx.tags.0.fetch_or(TagControl::FAULT, Ordering::Relaxed);
    }
}

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

/// Prepares this CPU for programs with tags: IRG makes no tag but 0 until a thread asks for others, no
/// checks until it asks (SCTLR_EL1.TCF0 is zero), no old asynchronous faults,
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
            gcr = in(reg) exclusion(0),
            seed = in(reg) (super::time::now() & 0xffff | 1) << 8,
            options(nomem, nostack, preserves_flags),
        );
    }
}
