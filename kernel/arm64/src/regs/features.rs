//! What a CPU can do, out of its identification registers.

use core::fmt;

/// The identification registers, as read. Registers a CPU does not have read as 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdRegs {
    /// ID_AA64MMFR0_EL1.
    pub mmfr0: u64,
    /// ID_AA64MMFR1_EL1.
    pub mmfr1: u64,
    /// ID_AA64MMFR2_EL1.
    pub mmfr2: u64,
    /// ID_AA64MMFR3_EL1.
    pub mmfr3: u64,
    /// ID_AA64PFR0_EL1.
    pub pfr0: u64,
    /// ID_AA64PFR1_EL1.
    pub pfr1: u64,
    /// ID_AA64ISAR0_EL1.
    pub isar0: u64,
    /// ID_AA64ISAR1_EL1.
    pub isar1: u64,
    /// ID_AA64ISAR2_EL1.
    pub isar2: u64,
}

/// The features that Tessera's memory management cares about.
/// [ARM "AArch64 System register descriptions", ID_AA64*_EL1]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// The 4 KiB granule is there; without it Tessera cannot run.
    pub granule_4k: bool,
    /// FEAT_LPA2 for the 4 KiB granule: 52-bit addresses and five levels with `TCR_EL1.DS`.
    pub lpa2: bool,
    /// 52-bit virtual addresses with the 4 KiB granule; comes with LPA2.
    pub va52: bool,
    /// Bits of a physical address, 32 to 56.
    pub pa_bits: u8,
    /// Hardware management: 0 none, 1 access flag, 2 dirty state too.
    pub hafdbs: u8,
    /// MTE: 0 none, 1 instructions only, 2 tags in memory, 3 asymmetric checks too.
    pub mte: u8,
    /// PAN: 0 none, 1 PAN, 2 with AT S1E1RP, 3 with EPAN.
    pub pan: u8,
    /// FEAT_LSE atomics.
    pub lse: bool,
    /// Bits of an ASID, 8 or 16.
    pub asid_bits: u8,
    /// FEAT_TLBIRANGE.
    pub tlb_range: bool,
    /// FEAT_TTL: level hints of TLB invalidations.
    pub ttl: bool,
    /// FEAT_BBM level, 0 to 2. Level 2 permits TLB conflict aborts, so nothing relies on it.
    pub bbm: u8,
    /// FEAT_TTCNP.
    pub cnp: bool,
    /// FEAT_TTST: spaces below 25 bits.
    pub ttst: bool,
    /// FEAT_E0PD.
    pub e0pd: bool,
    /// Floating point and Advanced SIMD.
    pub fp: bool,
    /// FEAT_SVE.
    pub sve: bool,
    /// FEAT_BTI.
    pub bti: bool,
    /// FEAT_RNG.
    pub rndr: bool,
    /// FEAT_MOPS.
    pub mops: bool,
    /// FEAT_S1PIE.
    pub s1pie: bool,
    /// FEAT_WFxT.
    pub wfxt: bool,
    /// System register interface to the GIC: 0 none, 1 versions 3.0 and 4.0, 3 version 4.1.
    pub gic: u8,
}

/// A field of 4 bits, unsigned.
const fn field(register: u64, shift: u32) -> u8 {
    (register >> shift & 0xf) as u8
}

/// A field of 4 bits of the kind where 0 means present and 0xf absent.
const fn signed_field(register: u64, shift: u32) -> i8 {
    ((register >> shift & 0xf) as i8) << 4 >> 4
}

const fn at_most(value: u8, limit: u8) -> u8 {
    if value < limit { value } else { limit }
}

impl Features {
    /// The features of a CPU with these registers. Values newer than this code mean at least the
    /// largest one that it knows, which is how the architecture lets fields grow.
    /// [ARM "Principles of the ID scheme for fields in ID registers"]
    pub const fn from_id_regs(id: &IdRegs) -> Self {
        let granule_4k = signed_field(id.mmfr0, 28);
        Self {
            granule_4k: granule_4k >= 0,
            lpa2: granule_4k >= 1,
            va52: granule_4k >= 1,
            pa_bits: match field(id.mmfr0, 0) {
                0 => 32,
                1 => 36,
                2 => 40,
                3 => 42,
                4 => 44,
                5 => 48,
                6 => 52,
                _ => 56,
            },
            asid_bits: if field(id.mmfr0, 4) >= 2 { 16 } else { 8 },
            hafdbs: at_most(field(id.mmfr1, 0), 2),
            pan: at_most(field(id.mmfr1, 20), 3),
            cnp: field(id.mmfr2, 0) != 0,
            ttst: field(id.mmfr2, 28) != 0,
            ttl: field(id.mmfr2, 48) != 0,
            bbm: at_most(field(id.mmfr2, 52), 2),
            e0pd: field(id.mmfr2, 60) != 0,
            s1pie: field(id.mmfr3, 8) != 0,
            fp: signed_field(id.pfr0, 16) >= 0 && signed_field(id.pfr0, 20) >= 0,
            gic: field(id.pfr0, 24),
            sve: field(id.pfr0, 32) != 0,
            bti: field(id.pfr1, 0) != 0,
            mte: at_most(field(id.pfr1, 8), 3),
            lse: field(id.isar0, 20) >= 2,
            tlb_range: field(id.isar0, 56) >= 2,
            rndr: field(id.isar0, 60) != 0,
            wfxt: field(id.isar2, 0) >= 2,
            mops: field(id.isar2, 16) != 0,
        }
    }

    /// Whether memory can carry tags: instructions alone (MTE 1) do not make any.
    #[inline(always)]
    pub const fn has_tags(&self) -> bool {
        self.mte >= 2
    }

    /// The value for TCR_EL1.IPS: the CPU's range, as far as the descriptor format reaches.
    pub const fn ips(&self) -> u8 {
        match self.pa_bits {
            0..36 => 0,
            36..40 => 1,
            40..42 => 2,
            42..44 => 3,
            44..48 => 4,
            48..52 => 5,
            _ if self.lpa2 => 6,
            _ => 5,
        }
    }

    /// Bits of an address that table entries can hold and the CPU can issue.
    pub const fn output_bits(&self) -> u8 {
        at_most(self.pa_bits, if self.lpa2 { 52 } else { 48 })
    }

    /// The descriptor format to use.
    #[inline(always)]
    pub const fn format(&self) -> crate::pte::Format {
        crate::pte::Format { lpa2: self.lpa2 }
    }

    /// What range invalidation may use.
    pub const fn tlb_abilities(&self) -> crate::tlbi::Abilities {
        crate::tlbi::Abilities {
            ranges: self.tlb_range,
            hints: self.ttl,
            lpa2: self.lpa2,
        }
    }

    /// The features that two CPUs have in common, which is what a kernel running on both may use.
    pub const fn common(&self, other: &Self) -> Self {
        Self {
            granule_4k: self.granule_4k && other.granule_4k,
            lpa2: self.lpa2 && other.lpa2,
            va52: self.va52 && other.va52,
            pa_bits: at_most(self.pa_bits, other.pa_bits),
            hafdbs: at_most(self.hafdbs, other.hafdbs),
            mte: at_most(self.mte, other.mte),
            pan: at_most(self.pan, other.pan),
            lse: self.lse && other.lse,
            asid_bits: at_most(self.asid_bits, other.asid_bits),
            tlb_range: self.tlb_range && other.tlb_range,
            ttl: self.ttl && other.ttl,
            bbm: at_most(self.bbm, other.bbm),
            cnp: self.cnp && other.cnp,
            ttst: self.ttst && other.ttst,
            e0pd: self.e0pd && other.e0pd,
            fp: self.fp && other.fp,
            sve: self.sve && other.sve,
            bti: self.bti && other.bti,
            rndr: self.rndr && other.rndr,
            mops: self.mops && other.mops,
            s1pie: self.s1pie && other.s1pie,
            wfxt: self.wfxt && other.wfxt,
            gic: at_most(self.gic, other.gic),
        }
    }
}

impl fmt::Display for Features {
    /// The features present, separated by commas without spaces, as in `lpa2,pa52,hafdbs2,lse`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pa{},asid{}", self.pa_bits, self.asid_bits)?;
        let levels = [
            (self.hafdbs, "hafdbs"),
            (self.mte, "mte"),
            (self.pan, "pan"),
            (self.bbm, "bbm"),
        ];
        for (level, name) in levels {
            if level != 0 {
                write!(f, ",{name}{level}")?;
            }
        }
        let flags = [
            (self.lpa2, "lpa2"),
            (self.lse, "lse"),
            (self.tlb_range, "tlbirange"),
            (self.ttl, "ttl"),
            (self.cnp, "cnp"),
            (self.ttst, "ttst"),
            (self.e0pd, "e0pd"),
            (self.fp, "fp"),
            (self.sve, "sve"),
            (self.bti, "bti"),
            (self.rndr, "rndr"),
            (self.mops, "mops"),
            (self.s1pie, "s1pie"),
            (self.wfxt, "wfxt"),
        ];
        for (present, name) in flags {
            if present {
                write!(f, ",{name}")?;
            }
        }
        Ok(())
    }
}
