//! Which space this CPU translates by: TTBR0_EL1, T0SZ and the identifier (D12).
//!
//! The order of what is done is [`pgtable::activation`]'s; here is what each step is on this
//! machine. Beside the registers a CPU keeps the root word that it has loaded, so that it notices a
//! space that has grown: at each change of thread, and when EL0 faults.

use core::arch::asm;

use aarch64_cpu::registers::{Readable, TCR_EL1, TTBR0_EL1, Writeable};
use arm64::addr::PhysAddr;
use arm64::regs::{self, Tcr};
use pgtable::activation::{self, Activation, Needs, Step};
use pgtable::asid::AsidCell;
use pgtable::{Machine, RootWord};
use sync::atomic::{AtomicU64, Ordering};

use super::events;
use super::mmu::hw;
use super::percpu::PerCpu;
use crate::{memory, percpu};

/// A user space as a CPU comes to it: root and levels, and what its identifier is.
#[derive(Clone, Copy, Debug)]
pub struct RootActivation<'a> {
    word: RootWord,
    cell: &'a AsidCell,
}

impl<'a> RootActivation<'a> {
    /// The activation of the space with this root word and identifier.
    #[inline]
    pub fn new(word: RootWord, cell: &'a AsidCell) -> Self {
        Self { word, cell }
    }

    /// Root and levels in one word, which is never 0.
    #[inline]
    fn raw(&self) -> u64 {
        self.word.root().raw() | u64::from(self.word.levels())
    }
}

pub(super) static RESERVED_ROOT: AtomicU64 = AtomicU64::new(0);

/// Names the empty table that TTBR0 holds while no space is loaded.
pub fn set_reserved_root(root: PhysAddr) {
    RESERVED_ROOT.store(regs::ttbr(hw().format(), root, 0), Ordering::Relaxed);
}

/// TTBR0 while no space is loaded.
pub fn reserved_ttbr0() -> u64 {
    RESERVED_ROOT.load(Ordering::Relaxed)
}

/// Loads a user space on this CPU, unless it is loaded with the levels that it has now. True: this
/// CPU had it with fewer levels.
///
/// Nothing else is loaded when the words and the identifiers are the same: while this CPU has a
/// space loaded, the space keeps its identifier, and no other space has it.
#[inline]
pub fn activate(space: RootActivation<'_>) -> bool {
    let cpu = percpu::this();
    let loaded = cpu.root_word.load(Ordering::Relaxed) == space.raw()
        && regs::ttbr_asid(TTBR0_EL1.get()) == space.cell.current();
    !loaded && change(cpu, space)
}

/// Loads the space that this CPU runs once more if it has grown since: an EL0 fault may be about
/// addresses that only the new root reaches. True: it was, so EL0 is to try again.
#[inline(always)]
pub fn reload_grown(space: RootActivation<'_>) -> bool {
    let cpu = percpu::this();
    let grown = cpu.root_word.load(Ordering::Relaxed) != space.raw();
    if grown {
        change(cpu, space);
    }
    grown
}

/// Loads the reserved root: from here on this CPU does not look at any user table. Before going
/// idle, and before a space is torn down.
///
/// T0SZ stays, as the reserved root is empty for each; so does the CPU's active identifier, which
/// its TLB may still hold translations of (see [`pgtable::asid`]).
pub fn deactivate() {
    let reserved = RESERVED_ROOT.load(Ordering::Relaxed);
    if TTBR0_EL1.get() != reserved {
        percpu::this().root_word.store(0, Ordering::Relaxed);
        TTBR0_EL1.set(reserved);
        isb();
    }
}

#[inline(never)]
fn change(cpu: &PerCpu, space: RootActivation<'_>) -> bool {
    let index = cpu.index() as usize;
    let switched = memory::context().asids().switch_to(space.cell, index);
    let regrown = space.cell.changes_levels(index, space.word.levels());
    let (needs, target) = (
        Needs::new(switched, regrown),
        Activation::new(space.word, switched.asid),
    );
    let t0sz = cpu.t0sz.load(Ordering::Relaxed);
    if activation::is_plain(t0sz, &target, needs) {
        load(&target);
        isb();
    } else {
        change_in_steps(cpu, t0sz, &target, needs);
    }
    cpu.root_word.store(space.raw(), Ordering::Relaxed);
    regrown
}

/// Out of line: what it takes on the stack is not for every change.
#[cold]
#[inline(never)]
fn change_in_steps(cpu: &PerCpu, t0sz: u8, target: &Activation, needs: Needs) {
    for &step in activation::steps(t0sz, target, needs).as_slice() {
        execute(cpu, step);
    }
}

fn execute(cpu: &PerCpu, step: Step) {
    match step {
        Step::ReservedRoot => TTBR0_EL1.set(RESERVED_ROOT.load(Ordering::Relaxed)),
        Step::Isb => isb(),
        Step::Tcr(t0sz) => {
            let tcr = Tcr::from_raw(TCR_EL1.get()).with_t0sz(t0sz);
            TCR_EL1.set(tcr.raw());
            cpu.t0sz.store(t0sz, Ordering::Relaxed);
            cpu.window.store(0, Ordering::Relaxed);
        }
        Step::FlushAsid(asid) => {
            let operand = arm64::tlbi::asid(asid);
            events::tlbi();
            // SAFETY: an invalidation makes no translation that the tables do not hold.
            unsafe { asm!("tlbi aside1, {}", in(reg) operand, options(nostack, preserves_flags)) };
        }
        Step::FlushAll => {
            events::tlbi();
            // SAFETY: as above.
            unsafe { asm!("tlbi vmalle1", options(nostack, preserves_flags)) };
        }
        Step::DsbNsh => {
            events::dsb();
            // SAFETY: a barrier.
            unsafe { asm!("dsb nsh", options(nostack, preserves_flags)) };
        }
        Step::DsbIsh => {
            events::dsb();
            // SAFETY: a barrier.
            unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
        }
        Step::Root(target) => load(&target),
    }
}

/// What TTBR0 names from here on is a constructed root that outlives its activation (law 8: a root
/// is freed after the grace period that follows its last deactivation).
fn load(target: &Activation) {
    TTBR0_EL1.set(regs::ttbr(hw().format(), target.root, target.asid));
}

#[inline(always)]
fn isb() {
    events::isb();
    // SAFETY: a barrier.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}
