//! Values of the control registers that decide how translation works.
//!
//! Facts only: `boot` and `kernel::arch` write them. All functions are usable with the MMU off.

mod features;

pub use features::{Features, IdRegs};

use crate::addr::PhysAddr;
use crate::pte::Format;

/// T1SZ of the kernel's half: 48 bits, four levels, at all times.
pub const KERNEL_T1SZ: u8 = 16;
/// T0SZ of a fresh user space: 39 bits, three levels (D12).
pub const USER_T0SZ: u8 = 25;

/// MAIR_EL1. Without MTE the tagged type, whose encoding would be reserved, is plain Normal memory.
/// [ARM "MAIR_EL1, Memory Attribute Indirection Register (EL1)"]
pub const fn mair(features: &Features) -> u64 {
    use crate::attrs::MemType;
    if features.has_tags() {
        return crate::attrs::MAIR_VALUE;
    }
    let shift = 8 * MemType::Tagged.index() as u32;
    crate::attrs::MAIR_VALUE & !(0xff << shift) | (MemType::Normal.attribute() as u64) << shift
}

/// A TTBRn_EL1 value: the root table (a page) and the ASID. CnP stays 0 (D12).
///
/// With LPA2 the register's bits 5:2 hold address bits 51:48.
/// [ARM "TTBR0_EL1, Translation Table Base Register 0 (EL1)"]
#[inline(always)]
pub const fn ttbr(format: Format, root: PhysAddr, asid: u16) -> u64 {
    let low = root.raw() & 0x0000_ffff_ffff_f000;
    let high = if format.lpa2 {
        (root.raw() >> 48 & 0xf) << 2
    } else {
        0
    };
    (asid as u64) << 48 | low | high
}

/// The root table of a TTBRn_EL1 value.
pub const fn ttbr_root(format: Format, ttbr: u64) -> PhysAddr {
    let high = if format.lpa2 {
        (ttbr >> 2 & 0xf) << 48
    } else {
        0
    };
    PhysAddr::new(ttbr & 0x0000_ffff_ffff_f000 | high)
}

/// The ASID of a TTBRn_EL1 value.
pub const fn ttbr_asid(ttbr: u64) -> u16 {
    (ttbr >> 48) as u16
}

/// A value of TCR_EL1. [ARM "TCR_EL1, Translation Control Register (EL1)"]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tcr(u64);

impl Tcr {
    const IPS_SHIFT: u32 = 32;
    const AS: u64 = 1 << 36;
    const TBI0: u64 = 1 << 37;
    const HA: u64 = 1 << 39;
    const HD: u64 = 1 << 40;
    const E0PD1: u64 = 1 << 56;
    const DS: u64 = 1 << 59;
    /// Table walks of both halves: Inner and Outer Write-Back Write-Allocate, Inner Shareable,
    /// 4 KiB granules (TG0 = 0b00, TG1 = 0b10).
    const WALKS: u64 = 1 << 8 | 1 << 10 | 3 << 12 | 1 << 24 | 1 << 26 | 3 << 28 | 2 << 30;

    /// The one TCR of a CPU but for T0SZ (D12).
    ///
    /// T1SZ is 16; top-byte-ignore is on for EL0 (Linux's ABI) and off for the kernel; the ASID
    /// comes from TTBR0, with 16 bits where there are as many; AF and dirty are left to the hardware
    /// as far as it can; EL0 gets no timing from the kernel's half (E0PD1).
    pub const fn kernel(features: &Features, t0sz: u8) -> Self {
        let mut value = Self::WALKS | (KERNEL_T1SZ as u64) << 16 | Self::TBI0;
        value |= (features.ips() as u64) << Self::IPS_SHIFT;
        if features.asid_bits == 16 {
            value |= Self::AS;
        }
        if features.e0pd {
            value |= Self::E0PD1;
        }
        if features.lpa2 {
            value |= Self::DS;
        }
        Self(value).with_hafdbs(features.hafdbs).with_t0sz(t0sz)
    }

    /// The value for the register.
    #[inline(always)]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The value as read from the register.
    #[inline(always)]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The same for a space of `64 − t0sz` bits.
    #[inline(always)]
    pub const fn with_t0sz(self, t0sz: u8) -> Self {
        Self(self.0 & !0x3f | t0sz as u64 & 0x3f)
    }

    /// T0SZ.
    #[inline(always)]
    pub const fn t0sz(self) -> u8 {
        (self.0 & 0x3f) as u8
    }

    /// The same with this much hardware management: 0 none, 1 access flag, 2 dirty state too.
    pub const fn with_hafdbs(self, hafdbs: u8) -> Self {
        let mut value = self.0 & !(Self::HA | Self::HD);
        if hafdbs >= 1 {
            value |= Self::HA;
        }
        if hafdbs >= 2 {
            value |= Self::HD;
        }
        Self(value)
    }

    /// The descriptor format that the value selects.
    pub const fn format(self) -> Format {
        Format {
            lpa2: self.0 & Self::DS != 0,
        }
    }
}

/// How tag check faults are reported. [ARM "SCTLR_EL1.TCF0"]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum TagChecks {
    /// Not at all.
    #[default]
    None = 0,
    /// At the instruction.
    Sync = 1,
    /// In TFSRE0_EL1, some time later.
    Async = 2,
    /// Reads at the instruction, writes later (FEAT_MTE3).
    Asymmetric = 3,
}

impl TagChecks {
    /// Whether some are reported later than at the instruction.
    pub const fn may_be_late(self) -> bool {
        matches!(self, Self::Async | Self::Asymmetric)
    }

    /// Whether the kernel checks what it reads for a program: where the program's own reads would fault
    /// at the instruction.
    pub const fn check_reads(self) -> bool {
        matches!(self, Self::Sync | Self::Asymmetric)
    }

    /// The same, for writes.
    pub const fn check_writes(self) -> bool {
        matches!(self, Self::Sync)
    }
}

/// A value of SCTLR_EL1. [ARM "SCTLR_EL1, System Control Register (EL1)"]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sctlr(u64);

impl Sctlr {
    const M: u64 = 1 << 0;
    const C: u64 = 1 << 2;
    const SA: u64 = 1 << 3;
    const SA0: u64 = 1 << 4;
    const SED: u64 = 1 << 8;
    const EOS: u64 = 1 << 11;
    const I: u64 = 1 << 12;
    const DZE: u64 = 1 << 14;
    const UCT: u64 = 1 << 15;
    const NTWI: u64 = 1 << 16;
    const NTWE: u64 = 1 << 18;
    const TSCXT: u64 = 1 << 20;
    const EIS: u64 = 1 << 22;
    const SPAN: u64 = 1 << 23;
    const UCI: u64 = 1 << 26;
    const NTLSMD: u64 = 1 << 28;
    const LSMAOE: u64 = 1 << 29;
    const ITFSB: u64 = 1 << 37;
    const TCF0_SHIFT: u32 = 38;
    const ATA0: u64 = 1 << 42;
    const ATA: u64 = 1 << 43;
    const EPAN: u64 = 1 << 57;

    /// The MMU and the caches are off: the value to leave EL2 with. The bits set are those that are
    /// RES1 where their feature is absent.
    pub const MMU_OFF: Self =
        Self(Self::EOS | Self::TSCXT | Self::EIS | Self::SPAN | Self::NTLSMD | Self::LSMAOE);

    /// The kernel's value.
    ///
    /// MMU and caches on; stack alignment checked at both levels; PAN set on every exception entry
    /// where there is PAN (D4); EL0 may use DC ZVA, cache maintenance, CTR_EL0, WFI and WFE; tag
    /// access at both levels where there are tags, with EL0's checks off until a thread asks for
    /// them. WXN stays off: the tables keep W^X, and an EL0 program may ask for a page it can both
    /// write and execute, as on Linux.
    pub const fn kernel(features: &Features) -> Self {
        let mut value = Self::MMU_OFF.0 | Self::M | Self::C | Self::I | Self::SA | Self::SA0;
        value |= Self::SED | Self::DZE | Self::UCT | Self::UCI | Self::NTWI | Self::NTWE;
        if features.pan >= 1 {
            value &= !Self::SPAN;
        }
        if features.pan >= 3 {
            value |= Self::EPAN;
        }
        if features.has_tags() {
            value |= Self::ATA | Self::ATA0 | Self::ITFSB;
        }
        Self(value)
    }

    /// The value for the register.
    #[inline(always)]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The value as read from the register.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The same with EL0's tag check faults reported so (TCF0).
    pub const fn with_tag_checks(self, checks: TagChecks) -> Self {
        Self(self.0 & !(3 << Self::TCF0_SHIFT) | (checks as u64) << Self::TCF0_SHIFT)
    }
}
