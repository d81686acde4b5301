//! A user space for self-tests, loaded on this CPU, and what the tests do with it.

use alloc::sync::Arc;

use arm64::attrs::Prot;
use arm64::pte::Pte;
use mm::{
    Access, Advice, Backing, FaultInput, FaultOutcome, MapFlags, MapRequest, MmError, Mode, Verb,
    VmaFlags,
};
use pgtable::{Machine, Walked};

use super::{Failure, Outcome, check};
use crate::arch::activate::{self, RootActivation};
use crate::arch::mmu::hw;
use crate::arch::probe::try_store_as_user;
use crate::memory::{self, Space, grace, graveyard};

pub(super) const PAGE: u64 = 4096;
pub(super) const RW: Prot = Prot::READ.union(Prot::WRITE);

/// A space loaded on this CPU until it is dropped.
pub(super) struct Loaded(pub(super) Arc<Space>);

impl Loaded {
    pub(super) fn new() -> Result<Self, Failure> {
        let space = Space::new(memory::context());
        let space = space.map_err(|_| Failure {
            what: "no space",
            value: 0,
        })?;
        let loaded = Self(space);
        loaded.load();
        Ok(loaded)
    }

    /// True: it has grown since this CPU had it.
    pub(super) fn load(&self) -> bool {
        activate::activate(RootActivation::new(self.0.root_word(), self.0.asid_cell()))
    }

    pub(super) fn run(&self, verb: Verb) -> Result<u64, MmError> {
        let mut change = self.0.begin(verb)?;
        loop {
            if let Some(result) = change.step(&self.0, 64) {
                return result;
            }
        }
    }

    pub(super) fn map(&self, addr: u64, len: u64, prot: Prot) -> Outcome {
        self.map_backed((addr, len), prot, MapFlags::FIXED, Backing::ANON)
    }

    /// Maps shared memory, in folios where they fit: its pages may be written once they are there,
    /// and are clean until they are.
    pub(super) fn map_shared(&self, addr: u64, len: u64, prot: Prot) -> Outcome {
        let Ok(object) = memory::context().objects().create(len) else {
            return check(false, "no memory object", len);
        };
        let flags = MapFlags::FIXED | MapFlags::SHARED;
        self.map_backed((addr, len), prot, flags, Backing::object(object, 0))?;
        let advice = Advice::new(VmaFlags::HUGEPAGE, VmaFlags::empty());
        let advised = self.run(Verb::Advise { addr, len, advice });
        check(advised == Ok(0), "madvise", addr)
    }

    fn map_backed(
        &self,
        (addr, len): (u64, u64),
        prot: Prot,
        flags: MapFlags,
        backing: Backing,
    ) -> Outcome {
        let request = MapRequest {
            addr,
            len,
            prot,
            flags,
            backing,
            refusal: None,
        };
        check(self.run(Verb::Map(request)) == Ok(addr), "cannot map", addr)
    }

    pub(super) fn fault(&self, va: u64, access: Access) -> FaultOutcome {
        self.0.fault(FaultInput {
            va,
            access,
            mode: Mode::User,
        })
    }

    /// Faults until the program's access would succeed; how many faults that took.
    pub(super) fn store(&self, va: u64, value: u64) -> Result<u32, Failure> {
        for faults in 0..4 {
            if try_store_as_user(va, value) {
                return Ok(faults);
            }
            let outcome = self.fault(va, Access::Write);
            check(outcome == FaultOutcome::Done, "a write was refused", va)?;
        }
        check(false, "faults without end", va).map(|()| 0)
    }

    pub(super) fn protect(&self, addr: u64, len: u64, prot: Prot) -> Outcome {
        let done = self.run(Verb::Protect { addr, len, prot });
        check(done == Ok(0), "mprotect", addr)
    }

    pub(super) fn unmap(&self, addr: u64, len: u64) -> Outcome {
        check(self.run(Verb::Unmap { addr, len }) == Ok(0), "munmap", addr)
    }

    /// The entry where the walk to `va` ends, as it is in memory.
    pub(super) fn raw(&self, va: u64) -> Pte {
        let ends = self.0.trace(va).into_iter().flatten().last();
        ends.map_or(Pte::NONE, |(_, _, pte)| pte)
    }

    /// An event counter of the space.
    pub(super) fn event(&self, wanted: &str) -> u64 {
        let mut found = 0;
        let mut see = |name, value| found += if name == wanted { value } else { 0 };
        self.0.counters().each(&mut see);
        self.0.table_stats().events().each(&mut see);
        found
    }

    pub(super) fn young_and_dirty(&self, va: u64) -> Option<(bool, bool)> {
        let stay = ();
        match self.0.table().walk(va, &hw().read_side(&stay)) {
            Walked::Seen { value, .. } => Some((value.young(), value.dirty())),
            Walked::Miss { .. } => None,
        }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        activate::deactivate();
    }
}

/// Lets grace periods pass: this CPU reports for itself, the others are idle.
pub(super) fn wait_for_graves() -> Outcome {
    for _ in 0..1_000_000 {
        graveyard().reap(hw(), 64);
        if graveyard().is_empty() {
            return Ok(());
        }
        grace().quiescent(sync::cpu_index());
        sync::relax();
    }
    check(false, "a grace period does not end", 0)
}
