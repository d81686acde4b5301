//! What programs see of the identification registers: the values that Linux shows
//! (`Documentation/arch/arm64/cpu-feature-registers.rst`), and the same as `AT_HWCAP` bits.
//!
//! Only features are shown that work at EL0 here. Fields that need the kernel's help which it does
//! not give (SVE, SME, BTI, pointer authentication) read as zero.

use arm64::esr::SystemInstruction;

/// The registers that matter, as the CPU has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRegs {
    /// MIDR_EL1.
    pub midr: u64,
    /// REVIDR_EL1.
    pub revidr: u64,
    /// ID_AA64PFR0_EL1.
    pub pfr0: u64,
    /// ID_AA64PFR1_EL1, its MTE field as far as tags work on this machine.
    pub pfr1: u64,
    /// ID_AA64ISAR0_EL1.
    pub isar0: u64,
    /// ID_AA64ISAR1_EL1.
    pub isar1: u64,
    /// ID_AA64ISAR2_EL1.
    pub isar2: u64,
    /// ID_AA64MMFR2_EL1.
    pub mmfr2: u64,
}

const fn fields(list: &[u32]) -> u64 {
    let mut mask = 0;
    let mut at = 0;
    while at < list.len() {
        mask |= 0xf << list[at];
        at += 1;
    }
    mask
}

/// AES, SHA1, SHA2, CRC32, Atomic, RDM, SHA3, SM3, SM4, DP, FHM, TS, RNDR.
const ISAR0: u64 = fields(&[4, 8, 12, 16, 20, 28, 32, 36, 40, 44, 48, 52, 60]);
/// DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, BF16, DGH, I8MM. Without the four fields of pointer
/// authentication.
const ISAR1: u64 = fields(&[0, 12, 16, 20, 32, 36, 44, 48, 52]);
/// WFxT, RPRES, BC. Without MOPS, whose exceptions nobody handles here.
const ISAR2: u64 = fields(&[0, 4, 48]);
/// FP, AdvSIMD, DIT.
const PFR0: u64 = fields(&[16, 20, 48]);
/// SSBS, MTE.
const PFR1: u64 = fields(&[4, 8]);
/// AT (unaligned single-copy atomicity).
const MMFR2: u64 = fields(&[32]);
/// EL0 and EL1 in AArch64 state only.
const PFR0_LEVELS: u64 = 0x11;
/// What Linux shows for MPIDR_EL1: bit 31 is always one, and nothing else is told.
const MPIDR: u64 = 1 << 31;

/// The value that a program reads; `None` if the instruction is not such a read.
pub fn visible(instruction: &SystemInstruction, regs: IdRegs) -> Option<u64> {
    if (instruction.op0, instruction.op1, instruction.crn) != (3, 0, 0) {
        return None;
    }
    Some(match (instruction.crm, instruction.op2) {
        (0, 0) => regs.midr,
        (0, 5) => MPIDR,
        (0, 6) => regs.revidr,
        (4, 0) => regs.pfr0 & PFR0 | PFR0_LEVELS,
        (4, 1) => regs.pfr1 & PFR1,
        (6, 0) => regs.isar0 & ISAR0,
        (6, 1) => regs.isar1 & ISAR1,
        (6, 2) => regs.isar2 & ISAR2,
        (7, 2) => regs.mmfr2 & MMFR2,
        // Reserved or hidden: read as zero.
        (2..=7, _) => 0,
        _ => return None,
    })
}

/// `AT_HWCAP` and `AT_HWCAP2` (`arch/arm64/include/uapi/asm/hwcap.h`): bit, register, field, least
/// value.
pub fn hwcaps(regs: IdRegs) -> (u64, u64) {
    let at_least = |register: u64, shift: u32, least: u64| register >> shift & 0xf >= least;
    // In these two fields 0xf says that there is none.
    let fp = |shift: u32, least: u64| match regs.pfr0 >> shift & 0xf {
        0xf => false,
        value => value >= least,
    };
    let first: [(u32, bool); 24] = [
        (0, fp(16, 0)),
        (1, fp(20, 0)),
        (3, at_least(regs.isar0, 4, 1)),
        (4, at_least(regs.isar0, 4, 2)),
        (5, at_least(regs.isar0, 8, 1)),
        (6, at_least(regs.isar0, 12, 1)),
        (7, at_least(regs.isar0, 16, 1)),
        (8, at_least(regs.isar0, 20, 2)),
        (9, fp(16, 1)),
        (10, fp(20, 1)),
        // CPUID: identification registers can be read.
        (11, true),
        (12, at_least(regs.isar0, 28, 1)),
        (13, at_least(regs.isar1, 12, 1)),
        (14, at_least(regs.isar1, 16, 1)),
        (15, at_least(regs.isar1, 20, 1)),
        (16, at_least(regs.isar1, 0, 1)),
        (17, at_least(regs.isar0, 32, 1)),
        (20, at_least(regs.isar0, 44, 1)),
        (21, at_least(regs.isar0, 12, 2)),
        (23, at_least(regs.isar0, 48, 1)),
        (24, at_least(regs.pfr0, 48, 1)),
        (25, at_least(regs.mmfr2, 32, 1)),
        (26, at_least(regs.isar1, 20, 2)),
        (27, at_least(regs.isar0, 52, 1)),
    ];
    let second: [(u32, bool); 8] = [
        (0, at_least(regs.isar1, 0, 2)),
        (7, at_least(regs.isar0, 52, 2)),
        (8, at_least(regs.isar1, 32, 1)),
        (13, at_least(regs.isar1, 52, 1)),
        (14, at_least(regs.isar1, 44, 1)),
        (16, at_least(regs.isar0, 60, 1)),
        (18, at_least(regs.pfr1, 8, 2)),
        (22, at_least(regs.pfr1, 8, 3)),
    ];
    (bits(&first), bits(&second))
}

fn bits(list: &[(u32, bool)]) -> u64 {
    list.iter()
        .filter(|(_, present)| *present)
        .fold(0, |all, (bit, _)| all | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cortex-A72: no LSE, no PAN.
    const A72: IdRegs = IdRegs {
        midr: 0x410f_d083,
        revidr: 0,
        pfr0: 0x2222,
        pfr1: 0,
        isar0: 0x1_1120,
        isar1: 0,
        isar2: 0,
        mmfr2: 0,
    };

    fn read(crm: u8, op2: u8) -> SystemInstruction {
        SystemInstruction {
            op0: 3,
            op1: 0,
            crn: 0,
            crm,
            op2,
            rt: 0,
            is_read: true,
        }
    }

    #[test]
    fn no_feature_is_claimed_that_the_cpu_does_not_have() {
        let (first, second) = hwcaps(A72);
        // FP, ASIMD, AES, PMULL, SHA1, SHA2, CRC32, CPUID; no ATOMICS.
        assert_eq!(first, 0b1000_1111_1011);
        assert_eq!(second, 0);
        let lse = IdRegs {
            isar0: A72.isar0 | 2 << 20,
            ..A72
        };
        assert_eq!(hwcaps(lse).0, first | 1 << 8);
        let without_fp = IdRegs {
            pfr0: 0xff_2222,
            ..A72
        };
        assert_eq!(hwcaps(without_fp).0 & 3, 0);
        // MTE, and MTE3 with asymmetric checks.
        let tags = |mte: u64| {
            hwcaps(IdRegs {
                pfr1: mte << 8,
                ..A72
            })
        };
        assert_eq!(
            [0, 1, 2, 3].map(|mte| tags(mte).1),
            [0, 0, 1 << 18, 1 << 18 | 1 << 22]
        );
    }

    #[test]
    fn what_the_kernel_does_not_support_is_hidden() {
        let all = IdRegs {
            midr: 7,
            revidr: 0,
            pfr0: u64::MAX,
            pfr1: u64::MAX,
            isar0: u64::MAX,
            isar1: u64::MAX,
            isar2: u64::MAX,
            mmfr2: u64::MAX,
        };
        let pfr0 = visible(&read(4, 0), all).unwrap();
        assert_eq!(pfr0 >> 32 & 0xf, 0, "SVE");
        assert_eq!(pfr0 & 0xff, 0x11);
        let pfr1 = visible(&read(4, 1), all).unwrap();
        assert_eq!(pfr1 & 0xf, 0, "BTI");
        assert_eq!(visible(&read(6, 2), all).unwrap() >> 16 & 0xf, 0, "MOPS");
        assert_eq!(
            visible(&read(6, 1), all).unwrap() >> 4 & 0xff,
            0,
            "pointer authentication"
        );
        assert_eq!(visible(&read(7, 0), all), Some(0));
    }

    #[test]
    fn other_registers_are_not_answered() {
        assert_eq!(
            visible(
                &SystemInstruction {
                    op1: 3,
                    ..read(0, 0)
                },
                A72
            ),
            None
        );
        assert_eq!(
            visible(
                &SystemInstruction {
                    crn: 1,
                    ..read(0, 0)
                },
                A72
            ),
            None
        );
        assert_eq!(visible(&read(0, 1), A72), None);
        assert_eq!(visible(&read(0, 0), A72), Some(0x410f_d083));
    }
}
