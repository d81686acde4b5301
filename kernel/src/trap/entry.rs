//! The entry from EL0.

use abi::Binding;
use arm64::esr::{self, Class, Esr, Fault, FaultStatus};
use frame::slab::Ref;
use mm::{FaultInput, FaultOutcome, Mode, SegvCode};
use sync::atomic::Ordering;

use super::idregs;
use crate::arch::{self, Cause, Context, WayBack};
use crate::ipc;
use crate::ipc::kernel::Access;
use crate::memory;
use crate::process::end::signal;
use crate::sched::cpu::Cpu;
use crate::sched::stay::What;
use crate::sched::{self, settle};
use crate::syscall;
use crate::thread::{Step, Thread};

/// Serves `svc` from EL0: a call of Linux's, which ignores the immediate.
#[inline(always)]
pub fn call_from_el0(context: &Context) -> WayBack<'_> {
    syscall::enter(sched::this(), context)
}

/// Serves `svc #1` from EL0: a call of the kernel's own.
#[inline(never)]
pub fn native_call_from_el0(context: &Context) -> WayBack<'_> {
    syscall::enter_native(sched::this(), context)
}

/// Serves an ordinary page fault of EL0 at the address `far` of FAR_EL1. Not inlined: what it has to
/// save would be saved for system calls too.
#[inline(never)]
pub fn page_fault_from_el0(access: esr::Access, far: u64, context: &Context) -> WayBack<'_> {
    let cpu = sched::this();
    cpu.stay.begin(What::FAULT);
    page_fault(cpu, access, untagged(far));
    sched::leave_kernel(cpu, context)
}

/// Serves any other exception from EL0, with its registers in `context`. The vectors call
/// [`sched::leave_kernel`] afterwards.
#[inline(always)]
pub fn from_el0(cause: Cause, context: &Context) {
    let cpu = sched::this();
    match cause {
        Cause::Fault(fault, far) => {
            cpu.stay.begin(What::FAULT);
            memory_fault(fault, far, context);
        }
        Cause::Irq | Cause::Fiq => {
            cpu.stay.begin(What::INTERRUPT);
            sched::interrupts(cpu);
        }
        Cause::Other(esr) => {
            cpu.stay.begin(What::EXCEPTION);
            other(esr, context);
        }
        Cause::SError(esr) => {
            cpu.stay.begin(What::EXCEPTION);
            system_error(esr);
        }
    }
}

/// An exception of the current thread: the end of its process, unless somebody answers it.
fn kill(number: u32, code: &'static str, addr: u64) {
    raise(&sched::current(), number, code, addr, Access::None);
}

fn raise(thread: &Ref<Thread>, number: u32, code: &'static str, addr: u64, access: Access) {
    ipc::kernel::exception(thread, number, code, addr, access);
}

/// Addresses are looked up without the tag byte, which EL0 may use as it likes (TBI).
const fn untagged(far: u64) -> u64 {
    ((far << 8) as i64 >> 8) as u64
}

fn memory_fault(fault: Fault, far: u64, context: &Context) {
    let va = untagged(far);
    match fault.status {
        FaultStatus::Translation | FaultStatus::Permission | FaultStatus::AccessFlag => {
            page_fault(sched::this(), fault.access, va);
        }
        FaultStatus::Alignment => kill(signal::BUS, "BUS_ADRALN", va),
        FaultStatus::TagCheck => kill(signal::SEGV, "SEGV_MTESERR", va),
        FaultStatus::External | FaultStatus::Parity | FaultStatus::UnsupportedExclusive => {
            log::error!(
                "{fault} at {va:#x}, pc {:#x}",
                context.pc.load(Ordering::Relaxed)
            );
            kill(signal::BUS, "BUS_OBJERR", va);
        }
        // The rest says that tables or the memory under them are broken.
        _ => {
            log::error!(
                "{fault} at {va:#x}, pc {:#x}",
                context.pc.load(Ordering::Relaxed)
            );
            kill(signal::KILL, "SI_KERNEL", va);
        }
    }
}

#[inline(always)]
fn page_fault(cpu: &'static Cpu, access: esr::Access, va: u64) {
    let access = match access {
        esr::Access::Read => mm::Access::Read,
        esr::Access::Write => mm::Access::Write,
        esr::Access::Exec => mm::Access::Exec,
    };
    let thread = sched::current_of(cpu);
    let process = thread.process();
    // This CPU may have the space with fewer levels than it has by now, and the fault may be about
    // that: then it is none. A change costs one retry at the most, as the words agree afterwards.
    if arch::activate::reload_grown(process.space_activation()) {
        return process.space().counters().root_reloads.bump();
    }
    let input = FaultInput {
        va,
        access,
        mode: Mode::User,
    };
    if process.is_bound(Binding::Faults) {
        return watched_fault(&thread, input);
    }
    let outcome = process.space().fault(input);
    if !matches!(outcome, FaultOutcome::Done | FaultOutcome::Again) {
        unresolved(&thread, outcome, va, access);
    }
}

/// A fault of a process whose faults somebody looks at.
#[cold]
#[inline(never)]
fn watched_fault(thread: &Ref<Thread>, input: FaultInput) {
    let before = arch::time::cycles();
    let outcome = thread.process().space().fault(input);
    let cost = arch::time::cycles().wrapping_sub(before);
    match outcome {
        FaultOutcome::Done => ipc::kernel::resolved(thread, input.va, input.access, cost),
        outcome => unresolved(thread, outcome, input.va, input.access),
    }
}

/// A fault that the program cannot simply go on after.
#[cold]
#[inline(never)]
fn unresolved(thread: &Ref<Thread>, outcome: FaultOutcome, va: u64, access: mm::Access) {
    let how = Access::from(access);
    match outcome {
        FaultOutcome::Done | FaultOutcome::Again => {}
        // Woken, it returns to EL0 and faults again.
        FaultOutcome::Busy => {
            settle(thread, Step::Busy);
        }
        FaultOutcome::Segv {
            code: SegvCode::MapErr,
        } => {
            raise(thread, signal::SEGV, "SEGV_MAPERR", va, how);
        }
        FaultOutcome::Segv {
            code: SegvCode::AccErr,
        } => {
            raise(thread, signal::SEGV, "SEGV_ACCERR", va, how);
        }
        FaultOutcome::Bus => raise(thread, signal::BUS, "BUS_ADRERR", va, how),
        FaultOutcome::OutOfMemory => out_of_memory(thread, va),
    }
}

/// Clean pages dropped before a thread tries again for memory.
const RECLAIMED: u32 = 64;

/// Pages may be dropped that come again, tables may be waiting for a grace period, and other CPUs have been asked for the frames in
/// their lists: until that has come to its end the thread tries again.
fn out_of_memory(thread: &Ref<Thread>, va: u64) {
    if memory::context().reclaim(RECLAIMED) != 0 {
        return;
    }
    let grace = arch::mmu::grace();
    if thread.is_out_of_memory(arch::time::now(), || grace.start()) {
        return raise(thread, signal::KILL, "OUT_OF_MEMORY", va, Access::None);
    }
    sched::hasten_grace();
    sched::rotate(sched::this());
}

/// Everything synchronous that is neither a call nor a memory fault, as Linux signals it.
fn other(esr: Esr, context: &Context) {
    let pc = context.pc.load(Ordering::Relaxed);
    match esr.class() {
        Class::SystemInstruction => system_instruction(esr, context, pc),
        Class::Brk64 | Class::Bkpt32 => kill(signal::TRAP, "TRAP_BRKPT", pc),
        Class::BreakpointEl0 | Class::WatchpointEl0 => kill(signal::TRAP, "TRAP_HWBKPT", pc),
        Class::SoftwareStepEl0 => kill(signal::TRAP, "TRAP_TRACE", pc),
        Class::PcAlignment | Class::SpAlignment => kill(signal::BUS, "BUS_ADRALN", pc),
        Class::FpException64 | Class::FpException32 => kill(signal::FPE, "FPE_FLTUNK", pc),
        Class::PointerAuthFailure => kill(signal::ILL, "ILL_ILLOPN", pc),
        Class::Unknown
        | Class::BranchTarget
        | Class::IllegalState
        | Class::SveAccess
        | Class::SmeAccess
        | Class::MemoryOperation
        | Class::Wfx => kill(signal::ILL, "ILL_ILLOPC", pc),
        class => {
            log::warn!(
                "an exception from EL0 that nothing should cause: {class}, {esr} at {pc:#x}"
            );
            kill(signal::ILL, "ILL_ILLOPC", pc);
        }
    }
}

/// Reads of identification registers are answered as Linux answers them; everything else that
/// traps is not for programs.
fn system_instruction(esr: Esr, context: &Context, pc: u64) {
    let value = esr
        .system_instruction()
        .filter(|instruction| instruction.is_read)
        .and_then(|instruction| {
            let value = idregs::visible(&instruction, arch::idregs::read())?;
            Some((instruction.rt, value))
        });
    let Some((register, value)) = value else {
        return kill(signal::ILL, "ILL_ILLOPC", pc);
    };
    // Register 31 is the zero register here.
    if let Some(place) = context.x.get(usize::from(register)) {
        place.store(value, Ordering::Relaxed);
    }
    context.pc.store(pc + 4, Ordering::Relaxed);
}

/// An access of the program that went wrong after the fact: who did it cannot be said, so the
/// program that ran is ended.
#[cold]
fn system_error(esr: Esr) {
    log::error!("system error while at EL0: {esr}");
    kill(signal::BUS, "BUS_OBJERR", 0);
}
