//! Asking the MMU itself: what it translates an address to, accesses as EL0 would make them, and
//! stores that may fault. For self-tests only.

use core::arch::{asm, global_asm};

use aarch64_cpu::registers::{Readable, TTBR0_EL1};
use arm64::addr::PhysAddr;
use sync::atomic::{AtomicU64, Ordering};

use super::bug::PC;
use crate::percpu::SAVED_WORDS;

// SAFETY: a label of the assembly below, of which only the address is taken.
unsafe extern "C" {
    /// The vector table while a probe may fault.
    static probe_vectors: u8;
}

// A data abort of a probe is skipped, with its syndrome in x9; every other exception is a bug and
// goes where it always goes.
global_asm!(
    r#"
    .section .text.vectors, "ax"
    .balign 2048
    probe_vectors:
    .set probe_offset, 0
    .rept 16
    .balign 128
    .if probe_offset == 0x200
    mrs     x9, esr_el1
    lsr     x10, x9, #26
    cmp     x10, #0x25
    b.ne    exception_vectors + 0x200
    mrs     x10, elr_el1
    add     x10, x10, #4
    msr     elr_el1, x10
    eret
    .else
    b       exception_vectors + probe_offset
    .endif
    .set probe_offset, probe_offset + 128
    .endr
    .balign 128
    "#
);

/// How an address is to be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// A kernel read.
    KernelRead,
    /// A kernel write.
    KernelWrite,
    /// An EL0 read.
    UserRead,
    /// An EL0 write. Marks a clean entry dirty where the hardware manages dirty state.
    UserWrite,
}

/// The MMU's own answer: where `va` leads for that access, or none if it would fault.
pub fn translate(va: u64, access: As) -> Option<PhysAddr> {
    let par: u64;
    // SAFETY: address translation instructions access no memory but the tables.
    unsafe {
        match access {
            As::KernelRead => asm!("at s1e1r, {}", in(reg) va, options(nostack)),
            As::KernelWrite => asm!("at s1e1w, {}", in(reg) va, options(nostack)),
            As::UserRead => asm!("at s1e0r, {}", in(reg) va, options(nostack)),
            As::UserWrite => asm!("at s1e0w, {}", in(reg) va, options(nostack)),
        }
        asm!("isb", "mrs {}, par_el1", out(reg) par, options(nostack));
    }
    let address = par & 0x000f_ffff_ffff_f000 | va & 0xfff;
    (par & 1 == 0).then(|| PhysAddr::new(address))
}

/// Stores a word with EL0's rights in the loaded user space.
///
/// # Panics
/// As any EL1 fault: a kernel bug report, if EL0 could not store there.
pub fn store_as_user(va: u64, value: u64) {
    // SAFETY: with EL0's rights this reaches user memory only.
    unsafe { asm!("sttr {}, [{}]", in(reg) value, in(reg) va, options(nostack)) };
}

/// Loads a word with EL0's rights in the loaded user space.
///
/// # Panics
/// As [`store_as_user`].
pub fn load_as_user(va: u64) -> u64 {
    let value: u64;
    // SAFETY: with EL0's rights this reaches user memory only.
    unsafe { asm!("ldtr {}, [{}]", out(reg) value, in(reg) va, options(nostack, readonly)) };
    value
}

/// Loads a word with the kernel's rights and stores it again at the same place.
///
/// # Panics
/// As any EL1 fault: a kernel bug report, if the kernel could not store there.
pub fn store_again(va: u64) {
    // SAFETY: what is stored is what was there.
    unsafe {
        asm!(
            "ldr {word}, [{va}]",
            "str {word}, [{va}]",
            word = out(reg) _,
            va = in(reg) va,
            options(nostack, preserves_flags),
        );
    }
}

// SAFETY: the assembly below: a function of the C calling convention, and places in it.
unsafe extern "C" {
    /// Stores the word at `va` again: 0 if it could, 1 after a fault.
    safe fn probe_store(va: u64) -> u64;
    static probe_store_load: u8;
    static probe_store_store: u8;
    static probe_store_failed: u8;
}

global_asm!(
    ".section .text.probe_store, \"ax\"",
    ".balign 4",
    ".global probe_store, probe_store_load, probe_store_store, probe_store_failed",
    "probe_store:",
    "probe_store_load:",
    "ldr x1, [x0]",
    "probe_store_store:",
    "str x1, [x0]",
    "mov x0, #0",
    "ret",
    "probe_store_failed:",
    "mov x0, #1",
    "ret",
);

/// TTBR0 while the last fault of a probe was handled.
static IN_HANDLER: AtomicU64 = AtomicU64::new(0);

/// What became of a probe's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// It was made.
    Done,
    /// It faulted; TTBR0 held this while the fault was handled.
    Faulted {
        /// TTBR0_EL1.
        ttbr0: u64,
    },
}

/// Loads a word with the kernel's rights and stores it again, where that may fault. Only in the
/// checked image, while nothing else runs on this CPU; elsewhere a fault is a kernel bug like
/// any other.
pub fn try_store(va: u64) -> Store {
    match probe_store(va) {
        0 => Store::Done,
        _ => Store::Faulted {
            ttbr0: IN_HANDLER.load(Ordering::Relaxed),
        },
    }
}

/// Where to go on after an exception with these registers, if a probe has made it.
pub(super) fn expected(registers: &[u64; SAVED_WORDS]) -> Option<u64> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let places = [&raw const probe_store_load, &raw const probe_store_store];
    let is_probe = places.iter().any(|at| at.addr() as u64 == registers[PC]);
    is_probe.then(|| {
        IN_HANDLER.store(TTBR0_EL1.get(), Ordering::Relaxed);
        (&raw const probe_store_failed).addr() as u64
    })
}

/// Where the probes' exceptions go.
fn probe_base() -> u64 {
    (&raw const probe_vectors).addr() as u64
}

/// One access at EL0's rights that may fault; its syndrome, 0 if it did not. Arguments: the access,
/// and the operands of it.
macro_rules! try_as_user {
    ($($access:literal),+; $($operands:tt)+) => {{
        let syndrome: u64;
        // SAFETY: with EL0's rights this reaches user memory only. A fault returns to the
        // instruction behind the access with the syndrome in x9; interrupts are masked at EL1, so
        // nothing else uses the vectors meanwhile.
        unsafe {
            asm!(
                "mrs {old}, vbar_el1",
                "msr vbar_el1, {probe}",
                "isb",
                "mov x9, xzr",
                $($access,)+
                "msr vbar_el1, {old}",
                "isb",
                old = out(reg) _,
                probe = in(reg) probe_base(),
                out("x9") syndrome,
                out("x10") _,
                options(nostack),
                $($operands)+
            );
        }
        syndrome
    }};
}

/// As [`load_as_user`], but an access that faults has no value. A real access, which uses whatever
/// translation the CPU still holds: `AT` would walk anew.
pub fn try_load_as_user(va: u64) -> Option<u64> {
    let value: u64;
    let syndrome = try_as_user!(
        "mov {value}, xzr", "ldtr {value}, [{va}]";
        va = in(reg) va, value = out(reg) value,
    );
    (syndrome == 0).then_some(value)
}

/// As [`store_as_user`]; false if the access faults.
pub fn try_store_as_user(va: u64, value: u64) -> bool {
    let syndrome = try_as_user!(
        "sttr {value}, [{va}]";
        va = in(reg) va, value = in(reg) value,
    );
    syndrome == 0
}
