//! Whether a contiguous block may be repainted without a flush between break and make.
//!
//! FEAT_BBM level 2 lets entries of one block differ in the contiguous bit for a while; a CPU may
//! however answer with a TLB conflict abort, which this kernel does not handle. So by default it is
//! used only where every CPU is of a kind known never to do that. [Arm ARM D8.17 “Support levels
//! for changing block size”]

use arm64::regs::Features;
use sync::atomic::{AtomicU32, Ordering};

use super::cpu;
use crate::bootargs::{self, Bbm};

/// One kind of CPU: implementer and part number of MIDR_EL1, and the first revision of variant 0.
/// Nothing is known about other variants.
struct Kind {
    implementer: u64,
    part: u64,
    from: u64,
}

/// CPUs that report level 2 and never take a conflict abort for it: those of which Linux knows it.
const NO_CONFLICT: &[Kind] = &[
    // Cortex-X4, from r0p3 on.
    Kind {
        implementer: 0x41,
        part: 0xd82,
        from: 3,
    },
    // Neoverse V3AE, from r0p2 on.
    Kind {
        implementer: 0x41,
        part: 0xd83,
        from: 2,
    },
    // Neoverse V3, from r0p2 on.
    Kind {
        implementer: 0x41,
        part: 0xd84,
        from: 2,
    },
];

const UNDECIDED: u32 = 0;
const FLUSH: u32 = 1;
const LEVEL_2: u32 = 2;

/// What all CPUs so far agree on. It only ever falls: a CPU that comes up late can take it away, and
/// none comes up once programs run.
static MODE: AtomicU32 = AtomicU32::new(UNDECIDED);

/// Whether blocks are repainted without a flush.
#[inline]
pub fn repaints_without_flush() -> bool {
    MODE.load(Ordering::Relaxed) == LEVEL_2
}

/// This CPU's vote, before it runs anything but boot code.
pub(super) fn init_this(features: &Features) {
    let can = match bootargs::get().bbm {
        Bbm::Flush => false,
        Bbm::Level2 => features.bbm == 2,
        Bbm::Auto => features.bbm == 2 && is_known(cpu::midr()),
    };
    if !can {
        MODE.store(FLUSH, Ordering::Relaxed);
        return;
    }
    // The first CPU decides; one that comes later agrees, or has stored its refusal.
    let _agreed_or_refused =
        MODE.compare_exchange(UNDECIDED, LEVEL_2, Ordering::Relaxed, Ordering::Relaxed);
}

fn is_known(midr: u64) -> bool {
    let (implementer, part) = (midr >> 24 & 0xff, midr >> 4 & 0xfff);
    let (variant, revision) = (midr >> 20 & 0xf, midr & 0xf);
    let is = |kind: &Kind| kind.implementer == implementer && kind.part == part;
    let kind = NO_CONFLICT.iter().find(|kind| is(kind));
    variant == 0 && kind.is_some_and(|kind| revision >= kind.from)
}
