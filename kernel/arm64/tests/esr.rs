//! Syndromes: every class and every fault status has a meaning and words.

use std::collections::HashSet;

use aarch64_cpu::registers::ESR_EL1;
use arm64::esr::{Access, Class, Esr, FaultStatus};
use arm64::geometry::Level;

fn esr(ec: u64, iss: u64) -> Esr {
    Esr::new(ec << 26 | 1 << 25 | iss)
}

#[test]
fn every_exception_class_has_one_name() {
    let mut words = HashSet::new();
    for ec in 0..64 {
        let class = Class::from_ec(ec);
        assert_eq!(class.ec(), ec);
        assert_eq!(esr(u64::from(ec), 0x1ff_ffff).class(), class);
        assert!(words.insert(class.to_string()), "{class} twice");
    }
    let unallocated: Vec<_> = (0..64)
        .filter(|&ec| matches!(Class::from_ec(ec), Class::Unallocated(_)))
        .collect();
    let expected = [
        0x02, 0x0b, 0x0f, 0x10, 0x23, 0x29, 0x2a, 0x2b, 0x2e, 0x36, 0x37, 0x39, 0x3b, 0x3e, 0x3f,
    ];
    assert_eq!(unallocated, expected);
}

#[test]
fn classes_agree_with_an_independent_table() {
    use ESR_EL1::EC::Value as V;
    let pairs = [
        (V::Unknown, Class::Unknown),
        (V::TrappedWFIorWFE, Class::Wfx),
        (V::TrappedFP, Class::FpAccess),
        (V::TrappedNotCovered, Class::OtherInstruction),
        (V::BranchTarget, Class::BranchTarget),
        (V::IllegalExecutionState, Class::IllegalState),
        (V::TrappedMSRR_MRRS, Class::SystemInstruction128),
        (V::SVC64, Class::Svc64),
        (V::HVC64, Class::Hvc64),
        (V::SMC64, Class::Smc64),
        (V::TrappedMsrMrs, Class::SystemInstruction),
        (V::TrappedSve, Class::SveAccess),
        (V::TrappedTSTART, Class::TransactionStart),
        (V::PointerAuth, Class::PointerAuthFailure),
        (V::TrappedSME, Class::SmeAccess),
        (V::InstrAbortLowerEL, Class::InstructionAbortEl0),
        (V::InstrAbortCurrentEL, Class::InstructionAbortEl1),
        (V::PCAlignmentFault, Class::PcAlignment),
        (V::DataAbortLowerEL, Class::DataAbortEl0),
        (V::DataAbortCurrentEL, Class::DataAbortEl1),
        (V::SPAlignmentFault, Class::SpAlignment),
        (V::MemoryOperationException, Class::MemoryOperation),
        (V::TrappedFP64, Class::FpException64),
        (V::GCSException, Class::GuardedControlStack),
        (V::SError, Class::SError),
        (V::BreakpointLowerEL, Class::BreakpointEl0),
        (V::SoftwareStepLowerEL, Class::SoftwareStepEl0),
        (V::WatchpointLowerEL, Class::WatchpointEl0),
        (V::Brk64, Class::Brk64),
        (V::ProfilingException, Class::Profiling),
    ];
    for (value, class) in pairs {
        assert_eq!(value as u8, class.ec(), "{class}");
    }
}

#[test]
fn bits_above_the_syndrome_do_not_matter() {
    // An emulator sign-extends the register on tag check faults.
    let seen = Esr::new(0xffff_ffff_9600_0011);
    assert_eq!((seen.class(), seen.iss()), (Class::DataAbortEl1, 0x11));
    assert_eq!(seen.ec(), 0x25);
    let fault = seen.fault().unwrap();
    assert_eq!(
        (fault.status, fault.access),
        (FaultStatus::TagCheck, Access::Read)
    );
}

#[test]
fn every_fault_status_has_words_and_only_the_reserved_ones_say_so() {
    let mut reserved = Vec::new();
    for code in 0..64u8 {
        let (status, level) = FaultStatus::from_code(code);
        assert!(!status.to_string().is_empty());
        if status == FaultStatus::Reserved(code) {
            reserved.push(code);
        }
        assert_eq!(FaultStatus::from_code(code | 0xc0), (status, level));
    }
    let expected = [0x19, 0x1a, 0x20, 0x2d, 0x2e, 0x2f, 0x32, 0x33];
    assert_eq!(
        reserved,
        [&expected[..], &(0x36..0x40).collect::<Vec<_>>()].concat()
    );
}

#[test]
fn codes_measured_on_the_machine_decode_to_what_was_done() {
    use FaultStatus as S;
    let known = [
        (0x04, S::Translation, Some(Level::L0)),
        (0x07, S::Translation, Some(Level::L3)),
        (0x2b, S::Translation, Some(Level::Lm1)),
        (0x0b, S::AccessFlag, Some(Level::L3)),
        (0x08, S::AccessFlag, Some(Level::L0)),
        (0x0f, S::Permission, Some(Level::L3)),
        (0x0d, S::Permission, Some(Level::L1)),
        (0x11, S::TagCheck, None),
        (0x10, S::External, None),
        (0x13, S::ExternalOnWalk, Some(Level::Lm1)),
        (0x17, S::ExternalOnWalk, Some(Level::L3)),
        (0x1c, S::ParityOnWalk, Some(Level::L0)),
        (0x21, S::Alignment, None),
        (0x26, S::GranuleProtectionOnWalk, Some(Level::L2)),
        (0x28, S::GranuleProtection, None),
        (0x29, S::AddressSize, Some(Level::Lm1)),
        (0x00, S::AddressSize, Some(Level::L0)),
        (0x30, S::TlbConflict, None),
        (0x31, S::UnsupportedAtomicUpdate, None),
    ];
    for (code, status, level) in known {
        assert_eq!(FaultStatus::from_code(code), (status, level), "{code:#x}");
    }
}

#[test]
fn the_access_is_what_the_instruction_did() {
    const WNR: u64 = 1 << 6;
    const CM: u64 = 1 << 8;
    let access = |ec, iss| esr(ec, iss).fault().map(|f| (f.access, f.from_el0));
    assert_eq!(access(0x24, 0x07), Some((Access::Read, true)));
    assert_eq!(access(0x24, 0x07 | WNR), Some((Access::Write, true)));
    assert_eq!(access(0x25, 0x07 | WNR), Some((Access::Write, false)));
    assert_eq!(access(0x24, 0x07 | WNR | CM), Some((Access::Read, true)));
    assert_eq!(access(0x20, 0x07), Some((Access::Exec, true)));
    // These bits mean nothing in an instruction abort.
    assert_eq!(access(0x21, 0x07 | WNR | CM), Some((Access::Exec, false)));
    assert_eq!(access(0x15, 0x07), None);
    let fault = |iss| esr(0x24, iss).fault().unwrap();
    assert!(!fault(0x10 | 1 << 10).far_valid && fault(0x10).far_valid);
    assert!(
        fault(0x07 | 1 << 10).far_valid,
        "FnV counts for external aborts only"
    );
    assert!(fault(0x07 | 1 << 7).is_s1ptw && !fault(0x07).is_s1ptw);
}

#[test]
fn syndromes_read_as_sentences() {
    let text = |ec, iss| esr(ec, iss).to_string();
    assert_eq!(
        text(0x24, 0x47),
        "data abort from EL0: translation fault at level 3 on write from EL0 (ESR 0x92000047)"
    );
    assert_eq!(text(0x15, 1), "SVC #0x1 (ESR 0x56000001)");
    // mrs x3, MIDR_EL1 = s3_0_c0_c0_0
    assert_eq!(
        text(0x18, 3 << 20 | 3 << 5 | 1),
        "trapped system instruction: mrs x3, s3_0_c0_c0_0 (ESR 0x62300061)"
    );
    assert_eq!(
        text(
            0x18,
            3 << 20 | 2 << 17 | 3 << 14 | 4 << 10 | 7 << 5 | 2 << 1
        )
        .split(" (")
        .next(),
        Some("trapped system instruction: msr s3_3_c4_c2_2, x7")
    );
    assert_eq!(
        text(0x02, 0),
        "unallocated exception class 0x02 (ESR 0xa000000)"
    );
    assert_eq!(esr(0x15, 0x1234).immediate(), 0x1234);
    assert!(esr(0x15, 0).instruction_is_long());
}
