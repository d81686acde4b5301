//! Asking the MMU itself: what it translates an address to, and accesses as EL0 would make them.
//! For self-tests only.

use core::arch::asm;

use arm64::addr::PhysAddr;

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
