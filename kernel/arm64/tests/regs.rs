//! Control register values, checked against the field definitions of `aarch64-cpu` and against the
//! CPU models the project runs on.

use aarch64_cpu::registers::{
    ID_AA64ISAR0_EL1, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64MMFR2_EL1, ID_AA64PFR0_EL1,
    ID_AA64PFR1_EL1, SCTLR_EL1, TCR_EL1,
};
use arm64::addr::PhysAddr;
use arm64::pte::Format;
use arm64::regs::{
    Features, IdRegs, Sctlr, TagChecks, Tcr, USER_T0SZ, mair, ttbr, ttbr_asid, ttbr_root,
};

fn field<R: tock_registers::RegisterLongName>(
    field: tock_registers::fields::Field<u64, R>,
    value: u64,
) -> u64 {
    field.val(value).value
}

/// The registers of a CPU of the kind `max`, by the other crate's field definitions where it has
/// them, and by position where it has not.
fn max() -> IdRegs {
    IdRegs {
        mmfr0: field(ID_AA64MMFR0_EL1::PARange, 6)
            | field(ID_AA64MMFR0_EL1::ASIDBits, 2)
            | field(ID_AA64MMFR0_EL1::TGran4, 1),
        mmfr1: field(ID_AA64MMFR1_EL1::HAFDBS, 2) | field(ID_AA64MMFR1_EL1::PAN, 3),
        mmfr2: field(ID_AA64MMFR2_EL1::CnP, 1)
            | field(ID_AA64MMFR2_EL1::ST, 1)
            | field(ID_AA64MMFR2_EL1::TTL, 1)
            | field(ID_AA64MMFR2_EL1::BBM, 2)
            | field(ID_AA64MMFR2_EL1::E0PD, 1),
        mmfr3: 0,
        pfr0: field(ID_AA64PFR0_EL1::SVE, 1) | 1 << 24,
        pfr1: field(ID_AA64PFR1_EL1::MTE, 3) | 1,
        isar0: field(ID_AA64ISAR0_EL1::RNDR, 1) | 2 << 20 | 2 << 56,
        isar1: 0,
        isar2: 2 | 1 << 16,
    }
}

/// Cortex-A72: every one of these features is absent.
fn a72() -> IdRegs {
    IdRegs {
        mmfr0: 0x1124,
        pfr0: 0x0100_2222,
        ..IdRegs::default()
    }
}

#[test]
fn features_of_the_largest_cpu_are_all_found() {
    let f = Features::from_id_regs(&max());
    assert!(f.granule_4k && f.lpa2 && f.va52 && f.lse && f.tlb_range && f.ttl && f.cnp && f.ttst);
    assert!(f.e0pd && f.fp && f.sve && f.bti && f.rndr && f.mops && f.wfxt && !f.s1pie);
    assert_eq!(
        (f.pa_bits, f.output_bits(), f.ips(), f.asid_bits),
        (52, 52, 6, 16)
    );
    assert_eq!((f.hafdbs, f.mte, f.pan, f.bbm, f.gic), (2, 3, 3, 2, 1));
    let text = "pa52,asid16,hafdbs2,mte3,pan3,bbm2,lpa2,lse,tlbirange,ttl,cnp,ttst,e0pd,fp,sve,\
                bti,rndr,mops,wfxt";
    assert_eq!(f.to_string(), text);
}

#[test]
fn a_cpu_without_features_has_none() {
    let f = Features::from_id_regs(&a72());
    let expected = Features {
        granule_4k: true,
        pa_bits: 44,
        asid_bits: 16,
        fp: true,
        gic: 1,
        ..Features::default()
    };
    assert_eq!(f, expected);
    assert_eq!((f.ips(), f.format()), (4, Format::NORMAL));
    assert_eq!(Features::from_id_regs(&max()).common(&f), f);
    assert_eq!(f.common(&Features::from_id_regs(&max())), f);
}

#[test]
fn absent_values_of_signed_fields_are_absent() {
    let f = Features::from_id_regs(&IdRegs {
        mmfr0: 0xf << 28,
        ..a72()
    });
    assert!(!f.granule_4k && !f.lpa2);
    let f = Features::from_id_regs(&IdRegs {
        pfr0: 0x00ff_0000,
        ..a72()
    });
    assert!(!f.fp);
}

#[test]
fn each_feature_comes_from_its_own_field() {
    // Any one field of any register, set to 1, may change at most the features of that field.
    let zero = Features::from_id_regs(&IdRegs::default());
    let mut seen = Vec::new();
    for register in 0..9 {
        for nibble in 0..16 {
            let mut id = IdRegs::default();
            let registers = [
                &mut id.mmfr0,
                &mut id.mmfr1,
                &mut id.mmfr2,
                &mut id.mmfr3,
                &mut id.pfr0,
                &mut id.pfr1,
                &mut id.isar0,
                &mut id.isar1,
                &mut id.isar2,
            ];
            *registers.into_iter().nth(register).unwrap() = 2 << (4 * nibble);
            if Features::from_id_regs(&id) != zero {
                seen.push((register, nibble));
            }
        }
    }
    let expected = [
        (0, 0),
        (0, 1),
        (0, 7),
        (1, 0),
        (1, 5),
        (2, 0),
        (2, 7),
        (2, 12),
        (2, 13),
        (2, 15),
        (3, 2),
        (4, 6),
        (4, 8),
        (5, 0),
        (5, 2),
        (6, 5),
        (6, 14),
        (6, 15),
        (8, 0),
        (8, 4),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_address_size_never_exceeds_what_descriptors_hold() {
    for range in 0..16u64 {
        for lpa2 in [0, 1 << 28] {
            let f = Features::from_id_regs(&IdRegs {
                mmfr0: range | lpa2,
                ..IdRegs::default()
            });
            assert!(f.ips() <= if f.lpa2 { 6 } else { 5 });
            let bits = [32, 36, 40, 42, 44, 48, 52][usize::from(f.ips())];
            assert_eq!(bits, f.output_bits());
        }
    }
}

#[test]
fn tcr_agrees_with_the_other_crate_field_by_field() {
    let common = TCR_EL1::TBI0::Ignored
        + TCR_EL1::TG1::KiB_4
        + TCR_EL1::TG0::KiB_4
        + TCR_EL1::SH1::Inner
        + TCR_EL1::SH0::Inner
        + TCR_EL1::ORGN1::WriteBack_ReadAlloc_WriteAlloc_Cacheable
        + TCR_EL1::ORGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
        + TCR_EL1::IRGN1::WriteBack_ReadAlloc_WriteAlloc_Cacheable
        + TCR_EL1::IRGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
        + TCR_EL1::A1::TTBR0
        + TCR_EL1::AS::ASID16Bits
        + TCR_EL1::T1SZ.val(16);
    let small = Tcr::kernel(&Features::from_id_regs(&a72()), USER_T0SZ);
    assert_eq!(
        small.raw(),
        common.value | (TCR_EL1::T0SZ.val(25) + TCR_EL1::IPS.val(4)).value
    );
    let large = Tcr::kernel(&Features::from_id_regs(&max()), 12);
    let fields =
        TCR_EL1::T0SZ.val(12) + TCR_EL1::IPS.val(6) + TCR_EL1::HA::Enable + TCR_EL1::HD::Enable;
    // E0PD1 and DS, which the other crate does not know.
    assert_eq!(large.raw(), common.value | fields.value | 1 << 56 | 1 << 59);
    assert_eq!(
        (large.format(), small.format()),
        (Format::LPA2, Format::NORMAL)
    );
}

#[test]
fn only_t0sz_and_hardware_management_vary() {
    let tcr = Tcr::kernel(&Features::from_id_regs(&max()), 25);
    for t0sz in 12..=48 {
        assert_eq!(tcr.with_t0sz(t0sz).t0sz(), t0sz);
        assert_eq!(tcr.with_t0sz(t0sz).with_t0sz(25), tcr);
    }
    assert_eq!(tcr.raw() ^ tcr.with_hafdbs(0).raw(), 3 << 39);
    assert_eq!(tcr.raw() ^ tcr.with_hafdbs(1).raw(), 1 << 40);
    assert_eq!(Tcr::from_raw(tcr.raw()).with_hafdbs(2), tcr);
}

#[test]
fn sctlr_agrees_with_the_other_crate() {
    assert_eq!(Sctlr::MMU_OFF.raw(), 0x30d0_0800);
    let enabled = SCTLR_EL1::M::Enable
        + SCTLR_EL1::C::Cacheable
        + SCTLR_EL1::I::Cacheable
        + SCTLR_EL1::SA::Enable
        + SCTLR_EL1::SA0::Enable
        + SCTLR_EL1::UCT::DontTrap
        + SCTLR_EL1::UCI::DontTrap
        + SCTLR_EL1::DZE::DontTrap
        + SCTLR_EL1::NTWE::DontTrap
        + SCTLR_EL1::NTWI::DontTrap;
    const SED: u64 = 1 << 8;
    const SPAN: u64 = 1 << 23;
    let plain = Sctlr::kernel(&Features::from_id_regs(&a72())).raw();
    assert_eq!(plain, enabled.value | 0x30d0_0800 | SED);
    let full = Sctlr::kernel(&Features::from_id_regs(&max()));
    // EPAN, ATA, ATA0 and ITFSB come; SPAN goes, so that PAN is set on entry.
    assert_eq!(full.raw(), plain & !SPAN | 1 << 57 | 3 << 42 | 1 << 37);
    assert_eq!(
        full.with_tag_checks(TagChecks::Sync).raw() ^ full.raw(),
        1 << 38
    );
    assert_eq!(
        full.with_tag_checks(TagChecks::Asymmetric)
            .with_tag_checks(TagChecks::None),
        full
    );
}

#[test]
fn a_translation_base_holds_root_and_asid() {
    for (format, pa) in [
        (Format::NORMAL, 0xffff_ffff_f000),
        (Format::LPA2, 0xf_ffff_ffff_f000),
    ] {
        let value = ttbr(format, PhysAddr::new(pa), 0xabcd);
        assert_eq!(ttbr_root(format, value), PhysAddr::new(pa));
        assert_eq!(
            (ttbr_asid(value), value & 3),
            (0xabcd, 0),
            "CnP is never set"
        );
    }
    assert_eq!(
        ttbr(Format::LPA2, PhysAddr::new(0xd_0000_4010_1000), 1),
        0x0001_0000_4010_1034
    );
    assert_eq!(
        ttbr(Format::NORMAL, PhysAddr::new(0x4010_1000), 2),
        0x0002_0000_4010_1000
    );
}

#[test]
fn tagged_memory_is_plain_memory_on_a_cpu_without_tags() {
    assert_eq!(mair(&Features::from_id_regs(&max())), 0x44f0_ff00);
    assert_eq!(mair(&Features::from_id_regs(&a72())), 0x44ff_ff00);
    let instructions_only = Features {
        mte: 1,
        ..Features::default()
    };
    assert_eq!(mair(&instructions_only), 0x44ff_ff00);
}
