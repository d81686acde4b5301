//! From the vectors to the kernel: the cause of an exception as a value.

use aarch64_cpu::registers::{ESR_EL1, FAR_EL1, Readable};
use arm64::esr::{Esr, Fault};

use super::context::Context;

/// Why EL0 stopped running, other than for a system call.
#[derive(Clone, Copy, Debug)]
pub enum Cause {
    /// A data or instruction abort, with the address from FAR_EL1, tag bits included.
    Fault(Fault, u64),
    /// Any other synchronous exception.
    Other(Esr),
    /// An interrupt is pending.
    Irq,
    /// A fast interrupt: nothing routes one here.
    Fiq,
    /// A system error: an access went wrong after the fact.
    SError(Esr),
}

/// The way back to EL0: the context the exception came with, if EL0 goes on with that one and
/// nothing in it has changed but `x0` to `x18`. Then the vectors load only those. In every other
/// case all of the context that is current by now is loaded.
pub type WayBack<'a> = Option<&'a Context>;

/// `svc` in AArch64 state (Arm ARM, ESR_EL1.EC).
const EC_SVC64: u64 = 0x15;
/// `svc #0`, all of the syndrome: EC, IL for an instruction of 32 bits, and the immediate. Spelt here
/// because the system-call path compares it before anything is decoded.
const SVC_0: u32 = (EC_SVC64 as u32) << 26 | 1 << 25;
/// `svc #1`.
const SVC_1: u32 = SVC_0 | 1;

/// Entered from the vectors with the registers already in `ctx`. Linux's system calls are told
/// apart first and without a [`Cause`], since every instruction on their way counts.
pub(super) extern "C" fn el0_sync(ctx: &Context) -> WayBack<'_> {
    let esr = ESR_EL1.get();
    if esr as u32 == SVC_0 {
        crate::trap::call_from_el0(ctx)
    } else if let Some(access) = Esr::new(esr).el0_page_fault() {
        crate::trap::page_fault_from_el0(access, FAR_EL1.get(), ctx)
    } else if esr as u32 == SVC_1 {
        crate::trap::native_call_from_el0(ctx)
    } else {
        el0_exception(esr, ctx)
    }
}

#[inline(never)]
fn el0_exception(esr: u64, ctx: &Context) -> WayBack<'_> {
    if esr >> 26 & 0x3f == EC_SVC64 {
        return crate::trap::call_from_el0(ctx);
    }
    handle(decode(esr), ctx);
    None
}

/// As [`el0_sync`], for an interrupt.
pub(super) extern "C" fn el0_irq(ctx: &Context) {
    handle(Cause::Irq, ctx);
}

/// As [`el0_sync`], for a fast interrupt.
pub(super) extern "C" fn el0_fiq(ctx: &Context) {
    handle(Cause::Fiq, ctx);
}

/// As [`el0_sync`], for a system error.
pub(super) extern "C" fn el0_serror(ctx: &Context) {
    handle(Cause::SError(Esr::new(ESR_EL1.get())), ctx);
}

#[inline(always)]
fn handle(cause: Cause, ctx: &Context) {
    crate::trap::from_el0(cause, ctx);
    crate::sched::leave_kernel(crate::sched::this(), ctx);
}

fn decode(raw: u64) -> Cause {
    let esr = Esr::new(raw);
    match esr.fault() {
        Some(fault) => Cause::Fault(fault, FAR_EL1.get()),
        None => Cause::Other(esr),
    }
}
