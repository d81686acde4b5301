//! What kind of CPU this is, and how each CPU is set up.

use core::arch::asm;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    ID_AA64ISAR0_EL1, ID_AA64ISAR1_EL1, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1, ID_AA64PFR1_EL1, MIDR_EL1, MPIDR_EL1, Readable, SCTLR_EL1, TCR_EL1, TPIDR_EL0,
    TPIDRRO_EL0, TTBR0_EL1, Writeable,
};
use arm64::regs::{Features, IdRegs, Sctlr, Tcr, USER_T0SZ};
use sync::Once;
use sync::atomic::{AtomicU64, Ordering};

use super::{memory_ops, mte, time};
use crate::percpu;

/// MPIDR_EL1's affinity fields.
const AFFINITY: u64 = 0xff_00ff_ffff;

static FEATURES: Once<Features> = Once::new();
static ONLINE: AtomicU64 = AtomicU64::new(0);

/// What the CPUs of this machine can do. Where the machine or a boot argument takes something
/// away (tags without usable storage, `tessera.af=0`), it is not in here.
pub fn features() -> &'static Features {
    FEATURES.call_once(detect)
}

/// Reads the identification registers of this CPU. Also called with the MMU off.
pub fn detect() -> Features {
    let (mmfr3, isar2): (u64, u64);
    // SAFETY: reading ID_AA64MMFR3_EL1 and ID_AA64ISAR2_EL1 by their encodings, which read as zero
    // on CPUs that do not have them.
    unsafe {
        asm!(
            "mrs {}, s3_0_c0_c7_3",
            "mrs {}, s3_0_c0_c6_2",
            out(reg) mmfr3,
            out(reg) isar2,
            options(nomem, nostack, preserves_flags),
        );
    }
    Features::from_id_regs(&IdRegs {
        mmfr0: ID_AA64MMFR0_EL1.get(),
        mmfr1: ID_AA64MMFR1_EL1.get(),
        mmfr2: ID_AA64MMFR2_EL1.get(),
        mmfr3,
        pfr0: ID_AA64PFR0_EL1.get(),
        pfr1: ID_AA64PFR1_EL1.get(),
        isar0: ID_AA64ISAR0_EL1.get(),
        isar1: ID_AA64ISAR1_EL1.get(),
        isar2,
    })
}

/// Fixes what the machine can do, once, on the boot CPU.
pub(super) fn set_features(features: Features) {
    FEATURES.call_once(|| features);
}

/// The part number and so on of this CPU.
pub fn midr() -> u64 {
    MIDR_EL1.get()
}

/// This CPU's affinity, as device trees, PSCI and the GIC name CPUs.
pub fn affinity() -> u64 {
    MPIDR_EL1.get() & AFFINITY
}

/// How many CPUs are running.
pub fn count() -> usize {
    online_mask().count_ones() as usize
}

/// Bit n is set while CPU n is running.
pub fn online_mask() -> u64 {
    ONLINE.load(Ordering::Acquire)
}

/// Tells everyone that this CPU runs.
pub(super) fn set_online() {
    let cpu = percpu::this();
    ONLINE.fetch_or(1 << cpu.index(), Ordering::Release);
    cpu.state.store(percpu::ONLINE, Ordering::Release);
}

/// Sets up the system registers of this CPU beyond what the way here needed: what EL0 may do, the
/// hardware's access flag, tags, timer and counters. Needs [`features`]. The identity map in TTBR0
/// makes way for `reserved`, the empty table: the order is that of D12, since T0SZ changes.
pub(super) fn init_this(reserved: u64) {
    let features = features();
    memory_ops::init();
    TPIDR_EL0.set(0);
    TPIDRRO_EL0.set(0);
    TTBR0_EL1.set(reserved);
    barrier::isb(barrier::SY);
    TCR_EL1.set(Tcr::kernel(features, USER_T0SZ).raw());
    SCTLR_EL1.set(Sctlr::kernel(features).raw());
    // SAFETY: FP and vector registers are opened to EL0 and EL1 (FPEN), SVE and SME stay off
    // (ZEN, SMEN zero); the OS lock is released and hardware debug is off. Then a TLB
    // invalidation, as TCR has changed.
    unsafe {
        asm!(
            "msr cpacr_el1, {fpen}",
            "msr mdscr_el1, xzr",
            "msr oslar_el1, xzr",
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            fpen = in(reg) 3u64 << 20,
            options(nostack, preserves_flags),
        );
    }
    if features.pan > 0 {
        // SAFETY: PSTATE.PAN exists (checked). The kernel does not touch user addresses (D4).
        unsafe {
            asm!(
                ".arch_extension pan",
                "msr pan, #1",
                ".arch_extension nopan",
                options(nostack)
            );
        }
    }
    mte::init_this(features);
    super::bbm::init_this(features);
    time::init_cpu();
}
