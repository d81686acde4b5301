//! The first instructions of every CPU.
//!
//! All of this runs with the MMU off, at physical addresses, until `enable_mmu` jumps to the
//! kernel's half. Symbols are reached by `adrp` only, so that the image may lie anywhere.

use core::arch::global_asm;

use kernel::early::layout::KIMAGE;

use crate::tables;

/// Bytes of the stack that the boot CPU runs on until the allocator gives it one. Boot moves large
/// values into statics, which takes room for copies of them.
const BOOT_STACK_SIZE: usize = 64 * 1024;

#[repr(C, align(16))]
struct BootStack([u8; BOOT_STACK_SIZE]);

/// Not cleared at boot: it holds nothing before it is used.
// SAFETY: linker.ld keeps .noinit writable and apart; nothing reads the stack before writing it.
#[unsafe(link_section = ".noinit.boot_stack")]
static mut BOOT_STACK: BootStack = BootStack([0; BOOT_STACK_SIZE]);

// SAFETY: the label exists in the assembly below; only its address is taken.
unsafe extern "C" {
    /// Where firmware starts secondary CPUs.
    pub(crate) safe static secondary_entry: u8;
}

/// Top of the boot stack: an address of this moment, so physical with the MMU off.
pub(crate) fn boot_stack_top() -> u64 {
    (&raw const BOOT_STACK).addr() as u64 + BOOT_STACK_SIZE as u64
}

// The header of an arm64 Image (Linux, “Booting AArch64 Linux”). Flags: little endian, 4 KiB
// pages, loaded at any multiple of 2 MiB.
global_asm!(
    r#"
    .section .head.text, "ax"
    .global _start
    _start:
    b       primary_entry
    .long   0
    .quad   0
    .quad   __image_size
    .quad   0xa
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .long   0

    // The boot CPU; x0 is the device tree's physical address.
    primary_entry:
    mov     x19, x0
    mrs     x20, currentel
    lsr     x20, x20, #2
    bl      enter_el1
    bl      start_counting

    // Zeroed data.
    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
    1:
    cmp     x0, x1
    b.hs    2f
    stp     xzr, xzr, [x0], #16
    b       1b
    2:
    adrp    x0, {stack}
    add     x0, x0, :lo12:{stack}
    mov     x1, #{stack_size}
    add     sp, x0, x1
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    mov     x1, x20
    bl      {make_tables}
    cbz     x0, 3f
    b       enable_mmu
    3:
    adrp    x0, message_granule
    add     x0, x0, :lo12:message_granule
    b       refuse

    // Starts the cycle counter, if there is one, so that it counts from here on: enabled, reset,
    // 64 bits wide (PMCR_EL0: E, P, C, LC).
    start_counting:
    mrs     x0, id_aa64dfr0_el1
    ubfx    x0, x0, #8, #4
    cbz     x0, 1f
    cmp     x0, #0xf
    b.eq    1f
    mov     x0, #0x47
    msr     pmcr_el0, x0
    msr     pmccfiltr_el0, xzr
    mov     x0, #0x80000000
    msr     pmcntenset_el0, x0
    isb
    1:
    ret

    // Prints the text at x0 on the conventional console and stops with exit status 78, through
    // semihosting; without that the CPU sleeps.
    refuse:
    movz    x1, #0x0900, lsl #16
    1:
    ldrb    w2, [x0], #1
    cbz     w2, 2f
    str     w2, [x1]
    b       1b
    2:
    adrp    x1, exit_block
    add     x1, x1, :lo12:exit_block
    mov     w0, #0x18
    hlt     #0xf000
    3:
    wfi
    b       3b

    .section .rodata.head, "a"
    message_el3:
    .asciz  "[tessera] cannot run on this machine: entered at EL3; start the Image with a loader or firmware that enters at EL2 or EL1\n"
    message_granule:
    .asciz  "[tessera] cannot run on this machine: the CPU has no 4 KiB translation granule\n"
    .balign 8
    exit_block:
    .quad   0x20026
    .quad   78
    "#,
    stack = sym BOOT_STACK,
    stack_size = const BOOT_STACK_SIZE,
    make_tables = sym tables::make,
);

// From whatever exception level the CPU was entered at to EL1, MMU off, interrupts masked,
// returning to the caller. Registers x0 to x3 are used.
global_asm!(
    r#"
    .section .idmap.text, "ax"
    enter_el1:
    msr     daifset, #0xf
    ldr     x0, ={sctlr_off}
    mrs     x1, currentel
    cmp     x1, #(2 << 2)
    b.hi    4f
    b.eq    1f
    msr     sctlr_el1, x0
    msr     spsel, #1
    isb
    ret

    1:
    msr     sctlr_el1, x0
    // EL1 is AArch64; no pointer authentication traps, no trapped tags (HCR_EL2: RW, APK, API,
    // ATA); nothing else is trapped or translated.
    ldr     x0, =(1 << 31 | 1 << 40 | 1 << 41 | 1 << 56)
    msr     hcr_el2, x0
    msr     vttbr_el2, xzr
    msr     hstr_el2, xzr
    // The counters are EL1's, and the virtual one has no offset.
    mov     x0, #3
    msr     cnthctl_el2, x0
    msr     cntvoff_el2, xzr
    // FP and SIMD are not trapped; the ones are RES1 (SVE and SME trapped where they exist).
    mov     x0, #0x33ff
    msr     cptr_el2, x0
    // All event counters are EL1's (MDCR_EL2.HPMN), none of it trapped.
    mrs     x0, id_aa64dfr0_el1
    ubfx    x1, x0, #8, #4
    mov     x2, xzr
    cbz     x1, 2f
    cmp     x1, #0xf
    b.eq    2f
    mrs     x2, pmcr_el0
    ubfx    x2, x2, #11, #5
    2:
    msr     mdcr_el2, x2
    // The virtual identity is the real one.
    mrs     x0, midr_el1
    msr     vpidr_el2, x0
    mrs     x0, mpidr_el1
    msr     vmpidr_el2, x0
    // EL1 uses the interrupt controller's system registers (ICC_SRE_EL2: SRE, Enable; ICH_HCR_EL2).
    mrs     x0, id_aa64pfr0_el1
    ubfx    x0, x0, #24, #4
    cbz     x0, 3f
    mrs     x0, s3_4_c12_c9_5
    orr     x0, x0, #1
    orr     x0, x0, #8
    msr     s3_4_c12_c9_5, x0
    isb
    msr     s3_4_c12_c11_0, xzr
    3:
    // No fine-grained traps (HFGRTR, HFGWTR, HFGITR, HDFGRTR, HDFGWTR), where there are such.
    mrs     x0, id_aa64mmfr0_el1
    ubfx    x0, x0, #56, #4
    cbz     x0, 5f
    msr     s3_4_c1_c1_4, xzr
    msr     s3_4_c1_c1_5, xzr
    msr     s3_4_c1_c1_6, xzr
    msr     s3_4_c3_c1_4, xzr
    msr     s3_4_c3_c1_5, xzr
    5:
    // Return to the caller at EL1 with its own stack pointer, all interrupts masked.
    mov     x0, #0x3c5
    msr     spsr_el2, x0
    msr     elr_el2, x30
    isb
    eret

    4:
    adrp    x0, message_el3
    add     x0, x0, :lo12:message_el3
    b       refuse

    // A CPU that firmware has started; x0 is the physical address of its EntryRecord.
    .global secondary_entry
    secondary_entry:
    mov     x19, x0
    bl      enter_el1
    bl      start_counting
    mov     x0, x19

    // Turns the MMU on as the EntryRecord at x0 says and jumps to the kernel's half. This page is
    // mapped at its physical address too, so the instructions after the switch are found.
    enable_mmu:
    ldp     x1, x2, [x0]
    ldp     x3, x4, [x0, #16]
    ldp     x5, x6, [x0, #32]
    ldp     x7, x8, [x0, #48]
    ldr     x0, [x0, #64]
    msr     mair_el1, x1
    msr     tcr_el1, x2
    msr     ttbr0_el1, x3
    msr     ttbr1_el1, x4
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el1, x5
    isb
    mov     sp, x6
    msr     tpidr_el1, x7
    mov     x29, xzr
    mov     x30, xzr
    br      x8

    .ltorg
    "#,
    sctlr_off = const arm64::regs::Sctlr::MMU_OFF.raw(),
);

/// What to add to an address of this image, as seen with the MMU off, for its address in the
/// kernel's half.
pub(crate) fn to_kernel(physical: u64, image: u64) -> u64 {
    physical.wrapping_sub(image).wrapping_add(KIMAGE)
}
