//! Bringing up the other CPUs, and the Rust side of a CPU's entry.

use aarch64_cpu::registers::{VBAR_EL1, Writeable};
use arm64::regs;
use sync::atomic::Ordering;
use sync::{MAX_CPUS, relax};

use super::{cpu, gic, memory_ops, power, time, vectors};
use crate::early::handoff::{EntryRecord, Handoff};
use crate::percpu::{self, EMERGENCY_STACK_SIZE, PerCpu};
use crate::{early::layout::KIMAGE, memory};

/// How long a CPU may take from the request to its first word.
const PATIENCE_NS: u64 = 10_000_000_000;
/// CPUs per interrupt group whose number the controller's driver can name.
const MAX_AFFINITY0: u64 = 15;

#[repr(C, align(16))]
struct EmergencyStack([u8; EMERGENCY_STACK_SIZE]);

/// Stacks for EL1 exceptions. Not zeroed at boot: they hold nothing before they are used.
// SAFETY: linker.ld keeps .noinit writable and apart; nothing reads a stack before writing it.
#[unsafe(link_section = ".noinit")]
static mut EMERGENCY_STACKS: [EmergencyStack; MAX_CPUS] =
    [const { EmergencyStack([0; EMERGENCY_STACK_SIZE]) }; MAX_CPUS];

/// One record per CPU, so that none is overwritten while a slow CPU may still read it.
static mut RECORDS: [EntryRecord; MAX_CPUS] = [const {
    EntryRecord {
        mair: 0,
        tcr: 0,
        ttbr0: 0,
        ttbr1: 0,
        sctlr: 0,
        stack: 0,
        per_cpu: 0,
        entry: 0,
        argument: 0,
    }
}; MAX_CPUS];

/// Makes exceptions from EL1 on this CPU lead to a report. The first thing a CPU does in Rust.
pub(super) fn init_exceptions() {
    let block = percpu::this();
    let stacks = &raw const EMERGENCY_STACKS;
    let top = stacks.addr() + (block.index() as usize + 1) * EMERGENCY_STACK_SIZE;
    block.emergency_stack.store(top as u64, Ordering::Relaxed);
    block.mpidr.store(cpu::affinity(), Ordering::Relaxed);
    VBAR_EL1.set(vectors::base());
}

/// TTBR0 for a CPU that has no user space loaded.
pub(super) fn reserved_ttbr(handoff: &Handoff) -> u64 {
    regs::ttbr(cpu::features().format(), handoff.reserved_root.pa, 0)
}

/// Starts the CPUs with these affinities, of which the boot CPU's is skipped, one after another.
/// One that does not come up is left out, with a warning.
pub(super) fn start_others(affinities: &[u64], handoff: &'static Handoff) {
    let others = affinities
        .iter()
        .filter(|&&affinity| affinity != cpu::affinity());
    for (index, &affinity) in (1..MAX_CPUS).zip(others) {
        if let Err(reason) = start_one(index, affinity, handoff) {
            log::warn!("CPU {index} (affinity {affinity:#x}) is left out: {reason}");
        }
    }
}

fn start_one(index: usize, affinity: u64, handoff: &'static Handoff) -> Result<(), &'static str> {
    if affinity & 0xff > MAX_AFFINITY0 {
        return Err("its number within its cluster is above 15");
    }
    let block = percpu::of(index);
    let stack = memory::alloc_kernel_stack().ok_or("no memory for its stack")?;
    block.kernel_stack.store(stack.raw(), Ordering::Relaxed);
    block.mpidr.store(affinity, Ordering::Relaxed);
    let record = write_record(index, block, stack.raw(), handoff);
    power::start_cpu(affinity, handoff.secondary_entry, record)
        .map_err(|_| "firmware could not start it")?;
    let deadline = time::now().saturating_add(time::ns_to_ticks(PATIENCE_NS));
    loop {
        match block.state.load(Ordering::Acquire) {
            percpu::ONLINE => return Ok(()),
            percpu::LEFT_OUT => return Err("it differs from the boot CPU, or has no interrupts"),
            _ if time::now() > deadline => return Err("it did not report"),
            _ => relax(),
        }
    }
}

/// Fills the CPU's record and writes it to memory; returns its physical address.
fn write_record(index: usize, block: &PerCpu, stack: u64, handoff: &'static Handoff) -> u64 {
    let record = EntryRecord {
        stack,
        per_cpu: core::ptr::from_ref(block).addr() as u64,
        entry: (secondary as extern "C" fn(&'static Handoff) -> !) as usize as u64,
        argument: core::ptr::from_ref(handoff).expose_provenance() as u64,
        ..handoff.record
    };
    // SAFETY: `index` is below MAX_CPUS (the caller's loop); the boot CPU alone writes records,
    // each once, before it asks for the CPU that reads it.
    let place = unsafe {
        let place = (&raw mut RECORDS).cast::<EntryRecord>().add(index);
        place.write(record);
        place
    };
    memory_ops::clean_to_memory(place.cast_const().cast(), size_of::<EntryRecord>());
    place.addr() as u64 - KIMAGE + handoff.image.text.start
}

/// A secondary CPU's first Rust function, on its kernel stack with the MMU on.
extern "C" fn secondary(handoff: &'static Handoff) -> ! {
    init_exceptions();
    let features = cpu::features();
    // Everything that the boot CPU decided on must be there, or threads could not move.
    let fits = cpu::detect().common(features) == *features;
    if fits {
        cpu::init_this(reserved_ttbr(handoff));
    }
    if !fits || gic::init_cpu().is_err() {
        percpu::this()
            .state
            .store(percpu::LEFT_OUT, Ordering::Release);
        power::cpu_off();
    }
    cpu::set_online();
    crate::secondary_cpu(percpu::this().index() as usize)
}
