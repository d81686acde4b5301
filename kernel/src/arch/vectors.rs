//! The exception vectors (Arm ARM, “Exception vectors”) and the way back to EL0.
//!
//! While EL0 runs, `SP_EL1` points at the [`Context`](super::Context) of its thread, so that an
//! entry stores registers at once, without a scratch register and without touching any stack;
//! only then does it move to the CPU's kernel stack, which is empty. The exit loads from the
//! context that is current *then*, which may be another thread's. Entry and exit together are
//! below 60 instructions, and below 45 where the thread that came goes back ([`trap::WayBack`]).
//!
//! An exception from EL1 is a kernel bug, whatever it is (interrupts are masked at EL1). It may be
//! about the stack, so its registers go to the CPU's own block and the report runs on the
//! emergency stack. The reserved root goes into TTBR0 first, so that a window on tables that was
//! open is closed before anything else runs (XC-07). `TPIDRRO_EL0` and `TPIDR_EL0` hold a register
//! each meanwhile: nothing returns from there but a probe of the self-tests, which run without a
//! thread.

use core::arch::global_asm;

use super::{activate, trap};
use crate::{bug, percpu};

// SAFETY: both labels are in the assembly below: code that is branched to, and a table of which
// only the address is taken.
unsafe extern "C" {
    /// Loads the current context and returns to EL0. Not a function: it takes no return address.
    pub(super) fn el0_exit();
    /// The vector table, aligned as VBAR_EL1 wants it.
    static exception_vectors: u8;
}

/// The value for VBAR_EL1.
pub fn base() -> u64 {
    (&raw const exception_vectors).addr() as u64
}

global_asm!(
    r#"
    .macro save_el0
    stp     x0, x1, [sp, #16 * 0]
    stp     x2, x3, [sp, #16 * 1]
    stp     x4, x5, [sp, #16 * 2]
    stp     x6, x7, [sp, #16 * 3]
    stp     x8, x9, [sp, #16 * 4]
    stp     x10, x11, [sp, #16 * 5]
    stp     x12, x13, [sp, #16 * 6]
    stp     x14, x15, [sp, #16 * 7]
    stp     x16, x17, [sp, #16 * 8]
    stp     x18, x19, [sp, #16 * 9]
    stp     x20, x21, [sp, #16 * 10]
    stp     x22, x23, [sp, #16 * 11]
    stp     x24, x25, [sp, #16 * 12]
    stp     x26, x27, [sp, #16 * 13]
    stp     x28, x29, [sp, #16 * 14]
    mrs     x1, sp_el0
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    stp     x30, x1, [sp, #16 * 15]
    stp     x2, x3, [sp, #16 * 16]
    mov     x0, sp
    mrs     x4, tpidr_el1
    ldr     x4, [x4, #{kernel_stack}]
    mov     sp, x4
    mov     x29, xzr
    .endm

    .macro from_el0 handler
    .balign 128
    save_el0
    bl      \handler
    b       {exit}
    .endm

    // The handler answers with the context if nothing has changed that a call preserves: then x19 to
    // x28, SP_EL0, ELR and SPSR are still what they were. It has no room among the vectors.
    .macro from_el0_shortly handler
    .balign 128
    save_el0
    bl      \handler
    b       el0_quick_exit
    .endm

    .macro from_el1 kind
    .balign 128
    msr     tpidrro_el0, x30
    mov     x30, #\kind
    b       el1_exception
    .endm

    .section .text.vectors, "ax"
    .balign 2048
    .global exception_vectors
    exception_vectors:
    // From EL1 with SP_EL0, which the kernel never selects.
    from_el1 0
    from_el1 1
    from_el1 2
    from_el1 3
    // From EL1.
    from_el1 4
    from_el1 5
    from_el1 6
    from_el1 7
    // From EL0, AArch64.
    from_el0_shortly {el0_sync}
    from_el0 {el0_irq}
    from_el0 {el0_fiq}
    from_el0 {el0_serror}
    // From EL0, AArch32, which no context selects.
    from_el1 12
    from_el1 13
    from_el1 14
    from_el1 15

    .balign 64
    el0_quick_exit:
    cbz     x0, {exit}
    mov     sp, x0
    ldr     x30, [sp, #8 * 30]
    ldr     x29, [sp, #8 * 29]
    ldr     x18, [sp, #8 * 18]
    ldp     x16, x17, [sp, #16 * 8]
    ldp     x14, x15, [sp, #16 * 7]
    ldp     x12, x13, [sp, #16 * 6]
    ldp     x10, x11, [sp, #16 * 5]
    ldp     x8, x9, [sp, #16 * 4]
    ldp     x6, x7, [sp, #16 * 3]
    ldp     x4, x5, [sp, #16 * 2]
    ldp     x2, x3, [sp, #16 * 1]
    ldp     x0, x1, [sp, #16 * 0]
    eret

    .balign 64
    .global {exit}
    {exit}:
    mrs     x0, tpidr_el1
    ldr     x0, [x0, #{current}]
    mov     sp, x0
    ldp     x2, x3, [sp, #16 * 16]
    ldp     x30, x1, [sp, #16 * 15]
    msr     spsr_el1, x3
    msr     elr_el1, x2
    msr     sp_el0, x1
    ldp     x28, x29, [sp, #16 * 14]
    ldp     x26, x27, [sp, #16 * 13]
    ldp     x24, x25, [sp, #16 * 12]
    ldp     x22, x23, [sp, #16 * 11]
    ldp     x20, x21, [sp, #16 * 10]
    ldp     x18, x19, [sp, #16 * 9]
    ldp     x16, x17, [sp, #16 * 8]
    ldp     x14, x15, [sp, #16 * 7]
    ldp     x12, x13, [sp, #16 * 6]
    ldp     x10, x11, [sp, #16 * 5]
    ldp     x8, x9, [sp, #16 * 4]
    ldp     x6, x7, [sp, #16 * 3]
    ldp     x4, x5, [sp, #16 * 2]
    ldp     x2, x3, [sp, #16 * 1]
    ldp     x0, x1, [sp, #16 * 0]
    eret

    // x30 is the vector's number; the interrupted x30 is in TPIDRRO_EL0.
    el1_exception:
    msr     tpidr_el0, x29
    mrs     x29, tpidr_el1
    add     x29, x29, #{saved}
    stp     x0, x1, [x29, #16 * 0]
    mrs     x0, ttbr0_el1
    str     x0, [x29, #8 * 36]
    adrp    x1, {reserved_root}
    ldr     x1, [x1, #:lo12:{reserved_root}]
    cbz     x1, 1f
    msr     ttbr0_el1, x1
    isb
    1:
    stp     x2, x3, [x29, #16 * 1]
    stp     x4, x5, [x29, #16 * 2]
    stp     x6, x7, [x29, #16 * 3]
    stp     x8, x9, [x29, #16 * 4]
    stp     x10, x11, [x29, #16 * 5]
    stp     x12, x13, [x29, #16 * 6]
    stp     x14, x15, [x29, #16 * 7]
    stp     x16, x17, [x29, #16 * 8]
    stp     x18, x19, [x29, #16 * 9]
    stp     x20, x21, [x29, #16 * 10]
    stp     x22, x23, [x29, #16 * 11]
    stp     x24, x25, [x29, #16 * 12]
    stp     x26, x27, [x29, #16 * 13]
    mrs     x0, tpidr_el0
    stp     x28, x0, [x29, #16 * 14]
    mrs     x0, tpidrro_el0
    mov     x1, sp
    stp     x0, x1, [x29, #16 * 15]
    mrs     x0, elr_el1
    mrs     x1, spsr_el1
    stp     x0, x1, [x29, #16 * 16]
    mrs     x0, esr_el1
    mrs     x1, far_el1
    stp     x0, x1, [x29, #16 * 17]
    mov     x0, x30
    mrs     x1, tpidr_el1
    ldr     x1, [x1, #{emergency_stack}]
    mov     sp, x1
    mov     x29, xzr
    mov     x30, xzr
    bl      {el1}
    // A probe's fault: on at the address in x0, with everything else as it was but what a call
    // may change.
    msr     elr_el1, x0
    mrs     x1, tpidr_el1
    add     x1, x1, #{saved}
    ldr     x29, [x1, #8 * 29]
    ldp     x30, x2, [x1, #16 * 15]
    mov     sp, x2
    ldr     x2, [x1, #8 * 33]
    msr     spsr_el1, x2
    ldr     x2, [x1, #8 * 36]
    msr     ttbr0_el1, x2
    eret
    "#,
    exit = sym el0_exit,
    el0_sync = sym trap::el0_sync,
    el0_irq = sym trap::el0_irq,
    el0_fiq = sym trap::el0_fiq,
    el0_serror = sym trap::el0_serror,
    el1 = sym bug::el1_exception,
    current = const percpu::OFFSET_CURRENT,
    kernel_stack = const percpu::OFFSET_KERNEL_STACK,
    emergency_stack = const percpu::OFFSET_EMERGENCY_STACK,
    saved = const percpu::OFFSET_SAVED,
    reserved_root = sym activate::RESERVED_ROOT,
);
