//! The identification registers that programs are shown something of.

use core::arch::asm;

use crate::trap::idregs::IdRegs;

/// Reads them on this CPU. QEMU's CPUs are all of one kind, so any CPU's will do.
pub fn read() -> IdRegs {
    let mut regs = IdRegs::default();
    // SAFETY: reading identification registers; ISAR2, by its encoding, reads as zero where it
    // does not exist.
    unsafe {
        asm!(
            "mrs {midr}, midr_el1",
            "mrs {revidr}, revidr_el1",
            "mrs {pfr0}, id_aa64pfr0_el1",
            "mrs {pfr1}, id_aa64pfr1_el1",
            "mrs {isar0}, id_aa64isar0_el1",
            "mrs {isar1}, id_aa64isar1_el1",
            "mrs {isar2}, s3_0_c0_c6_2",
            "mrs {mmfr2}, id_aa64mmfr2_el1",
            midr = out(reg) regs.midr,
            revidr = out(reg) regs.revidr,
            pfr0 = out(reg) regs.pfr0,
            pfr1 = out(reg) regs.pfr1,
            isar0 = out(reg) regs.isar0,
            isar1 = out(reg) regs.isar1,
            isar2 = out(reg) regs.isar2,
            mmfr2 = out(reg) regs.mmfr2,
            options(nomem, nostack, preserves_flags),
        );
    }
    let tags = match super::cpu::features() {
        features if features.has_tags() => u64::from(features.mte),
        _ => 0,
    };
    regs.pfr1 = regs.pfr1 & !(0xf << 8) | tags << 8;
    regs
}
