//! How a CPU comes to translate by a space's tables: the steps as data (D12).
//!
//! The kernel's `arch` executes exactly these steps, and test machines execute the same ones. What
//! they keep to:
//!
//! - T0SZ is only ever changed while TTBR0 holds the reserved root, which is empty for every T0SZ:
//!   no walk can combine one space's root with another one's number of levels. Between a register
//!   write and the next ISB either value may be in use, so each of the two writes has its own.
//! - What a TLB holds of an identifier was cached under the T0SZ of that time (TCR_EL1.T0SZ "is
//!   permitted to be cached in a TLB"). A space that has grown keeps its identifier, so a CPU drops
//!   the identifier's translations between the new T0SZ and the new root: after the reserved root,
//!   since with the old one a walk could bring them back.
//! - The same goes for the flush that begins a generation of identifiers.

use arm64::addr::PhysAddr;
use arm64::geometry::{Geometry, Level};
use sync::planted::{self, Fault};

use crate::asid::Switched;
use crate::space::RootWord;

/// What a CPU's registers are to hold for a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation {
    /// The root table.
    pub root: PhysAddr,
    /// The size of the range that its number of levels translates, as TCR_EL1 takes it.
    pub t0sz: u8,
    /// The identifier.
    pub asid: u16,
}

impl Activation {
    /// That of a root word under an identifier.
    #[inline]
    pub const fn new(word: RootWord, asid: u16) -> Self {
        Self {
            root: word.root(),
            t0sz: t0sz(word),
            asid,
        }
    }
}

/// T0SZ for the number of levels of a root word: always the widest range of that number.
#[inline]
pub const fn t0sz(word: RootWord) -> u8 {
    match word.root_level() {
        Level::Lm1 => const { Geometry::for_va_bits(52).txsz() },
        Level::L0 => const { Geometry::for_va_bits(48).txsz() },
        Level::L1 => const { Geometry::for_va_bits(39).txsz() },
        Level::L2 | Level::L3 => const { Geometry::for_va_bits(30).txsz() },
    }
}

/// One step of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// TTBR0_EL1 := the reserved, empty root under identifier 0.
    ReservedRoot,
    /// ISB: what was written to the registers is in use from here on, and nothing else.
    Isb,
    /// TCR_EL1.T0SZ := this.
    Tcr(u8),
    /// TLBI ASIDE1: this CPU's translations of one identifier, walk caches included.
    FlushAsid(u16),
    /// TLBI VMALLE1: all of this CPU's translations.
    FlushAll,
    /// DSB NSH: the invalidation is complete on this CPU.
    DsbNsh,
    /// DSB ISH: the store that published a new identifier is complete before any walk under it.
    DsbIsh,
    /// TTBR0_EL1 := the space's root and identifier.
    Root(Activation),
}

/// Why there is more to do than to write TTBR0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The identifier has just been given to the space.
    pub assigned: bool,
    /// All of this CPU's translations are of an earlier generation of identifiers.
    pub flush_all: bool,
    /// This CPU had the space with another number of levels, under the same identifier.
    pub regrown: bool,
}

impl Needs {
    /// Those that come with an identifier.
    #[inline]
    pub const fn new(switched: Switched, regrown: bool) -> Self {
        Self {
            assigned: switched.assigned,
            flush_all: switched.flush_local,
            regrown,
        }
    }
}

/// Most steps of a sequence.
pub const MAX_STEPS: usize = 12;

/// Steps in order.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    steps: [Step; MAX_STEPS],
    len: usize,
}

impl Steps {
    fn push(&mut self, step: Step) {
        self.steps[self.len] = step;
        self.len += 1;
    }

    /// Them.
    pub fn as_slice(&self) -> &[Step] {
        &self.steps[..self.len]
    }
}

/// Whether the change is no more than writing TTBR0 and an ISB: the case that does without a list.
#[inline(always)]
pub fn is_plain(loaded_t0sz: u8, target: &Activation, needs: Needs) -> bool {
    loaded_t0sz == target.t0sz && needs == Needs::default()
}

/// The steps by which a CPU whose TCR_EL1 has `loaded_t0sz` comes from whatever root it has, the
/// reserved one included, to `target`.
pub fn steps(loaded_t0sz: u8, target: &Activation, needs: Needs) -> Steps {
    let mut list = Steps {
        steps: [Step::Isb; MAX_STEPS],
        len: 0,
    };
    let resize = loaded_t0sz != target.t0sz;
    let flush = if needs.flush_all {
        Some(Step::FlushAll)
    } else if needs.regrown && !planted::is(Fault::GrowWithoutFlush) {
        Some(Step::FlushAsid(target.asid))
    } else {
        None
    };
    if needs.assigned {
        list.push(Step::DsbIsh);
    }
    let early = resize && planted::is(Fault::TcrUnderOldRoot);
    if early {
        list.push(Step::Tcr(target.t0sz));
        list.push(Step::Isb);
    }
    if resize || flush.is_some() {
        list.push(Step::ReservedRoot);
        list.push(Step::Isb);
    }
    if resize && !early {
        list.push(Step::Tcr(target.t0sz));
        list.push(Step::Isb);
    }
    if let Some(flush) = flush {
        list.push(flush);
        list.push(Step::DsbNsh);
        list.push(Step::Isb);
    }
    list.push(Step::Root(*target));
    list.push(Step::Isb);
    list
}
