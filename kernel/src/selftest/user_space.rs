//! User spaces on the real MMU, looked at with EL0's rights.

use arm64::attrs::Prot;
use mm::{
    Access, Backing, CopyStop, FaultInput, FaultOutcome, MapFlags, MapRequest, MmError, Verb,
};
use pgtable::{Machine, Walked};

use super::{Failure, Outcome, check};
use crate::arch::activate::{self, RootActivation};
use crate::arch::cpu;
use crate::arch::mmu::HW;
use crate::arch::probe::{As, load_as_user, store_as_user, translate};
use crate::memory::{self, Space, frames, grace, graveyard};

pub(super) const VA: u64 = 0x12_3456_7000;
pub(super) const PAGE: u64 = 4096;
pub(super) const RW: Prot = Prot::READ.union(Prot::WRITE);

/// A space loaded on this CPU until it is dropped.
pub(super) struct Loaded(pub(super) Space);

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
        let flags = MapFlags::FIXED;
        let request = MapRequest {
            addr,
            len,
            prot,
            flags,
            backing: Backing::Anon,
        };
        check(self.run(Verb::Map(request)) == Ok(addr), "cannot map", addr)
    }

    pub(super) fn fault(&self, va: u64, access: Access) -> FaultOutcome {
        self.0.fault(FaultInput {
            va,
            access,
            kernel: false,
        })
    }

    fn young_and_dirty(&self, va: u64) -> Option<(bool, bool)> {
        let stay = ();
        match self.0.table().walk(va, &HW.read_side(&stay)) {
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

pub(super) fn a_fault_maps_what_the_mmu_then_finds() -> Outcome {
    let space = Loaded::new()?;
    space.map(VA, 2 * PAGE, RW)?;
    check(
        translate(VA, As::UserRead).is_none(),
        "mapped before it was touched",
        VA,
    )?;
    check(
        space.fault(VA, Access::Write) == FaultOutcome::Done,
        "the fault was refused",
        VA,
    )?;
    check(
        translate(VA, As::UserWrite).is_some(),
        "the MMU does not find the page",
        VA,
    )?;
    check(load_as_user(VA) == 0, "a fresh page is not zero", VA)?;
    store_as_user(VA + 16, 0x7e55_e7a0);
    let mut bytes = [0; 8];
    let copied = space.0.copy_in(VA + 16, &mut bytes);
    check(copied == Ok(8), "the kernel cannot read the page", VA)?;
    check(
        u64::from_le_bytes(bytes) == 0x7e55_e7a0,
        "the kernel reads something else",
        VA,
    )?;
    check(
        translate(VA + PAGE, As::UserRead).is_none(),
        "the neighbour is mapped",
        VA,
    )
}

pub(super) fn taking_a_right_away_reaches_the_mmu() -> Outcome {
    let space = Loaded::new()?;
    space.map(VA, PAGE, RW)?;
    space.fault(VA, Access::Write);
    store_as_user(VA, 1);
    let protect = |prot| {
        space.run(Verb::Protect {
            addr: VA,
            len: PAGE,
            prot,
        })
    };
    check(protect(Prot::READ) == Ok(0), "mprotect", VA)?;
    check(translate(VA, As::UserWrite).is_none(), "still writable", VA)?;
    check(load_as_user(VA) == 1, "not readable any more", VA)?;
    check(protect(Prot::empty()) == Ok(0), "mprotect", VA)?;
    check(translate(VA, As::UserRead).is_none(), "still readable", VA)?;
    check(protect(RW) == Ok(0), "mprotect", VA)?;
    if translate(VA, As::UserWrite).is_none() {
        check(
            space.fault(VA, Access::Write) == FaultOutcome::Done,
            "refused",
            VA,
        )?;
    }
    check(load_as_user(VA) == 1, "the content was lost", VA)
}

pub(super) fn unmapping_reaches_the_mmu_and_frees_after_grace() -> Outcome {
    wait_for_graves()?;
    let space = Loaded::new()?;
    space.map(VA, 64 * PAGE, RW)?;
    let before = frames().stats().unused();
    for page in 0..64 {
        space.fault(VA + page * PAGE, Access::Write);
        store_as_user(VA + page * PAGE, page);
    }
    check(
        space.run(Verb::Unmap {
            addr: VA,
            len: 64 * PAGE,
        }) == Ok(0),
        "munmap",
        VA,
    )?;
    for page in 0..64 {
        let va = VA + page * PAGE;
        check(
            translate(va, As::UserRead).is_none(),
            "a translation survived its flush",
            va,
        )?;
    }
    check(
        !graveyard().is_empty(),
        "law 8: tables were freed without a grace period",
        0,
    )?;
    wait_for_graves()?;
    let after = frames().stats().unused();
    check(
        after == before,
        "frames were lost",
        before.wrapping_sub(after),
    )
}

/// Lets grace periods pass: this CPU reports for itself, the others are idle.
pub(super) fn wait_for_graves() -> Outcome {
    for _ in 0..1_000_000 {
        graveyard().reap(&HW, 64);
        if graveyard().is_empty() {
            return Ok(());
        }
        grace().quiescent(sync::cpu_index());
        sync::relax();
    }
    check(false, "a grace period does not end", 0)
}

pub(super) fn access_flag_and_dirty_state_are_kept() -> Outcome {
    let space = Loaded::new()?;
    space.map(VA, PAGE, RW)?;
    space.fault(VA, Access::Read);
    check(
        space.young_and_dirty(VA) == Some((true, false)),
        "after a read fault",
        VA,
    )?;
    if cpu::features().hafdbs >= 2 {
        store_as_user(VA, 5);
    } else {
        check(
            translate(VA, As::UserWrite).is_none(),
            "a clean page was writable",
            VA,
        )?;
        check(
            space.fault(VA, Access::Write) == FaultOutcome::Done,
            "the write fault",
            VA,
        )?;
        store_as_user(VA, 5);
    }
    check(
        space.young_and_dirty(VA) == Some((true, true)),
        "after a write",
        VA,
    )?;
    let protect = |prot| {
        space.run(Verb::Protect {
            addr: VA,
            len: PAGE,
            prot,
        })
    };
    check(protect(Prot::READ) == Ok(0), "mprotect", VA)?;
    check(
        space.young_and_dirty(VA) == Some((true, true)),
        "dirty was lost",
        VA,
    )
}

pub(super) fn kernel_copies_respect_protection() -> Outcome {
    let space = Loaded::new()?;
    space.map(VA, PAGE, Prot::READ)?;
    check(
        space.0.copy_out(VA, &[1]) == Err(CopyStop::Fault),
        "wrote to a read-only page",
        VA,
    )?;
    check(
        space.0.copy_out(VA + PAGE, &[1]) == Err(CopyStop::Fault),
        "wrote to a hole",
        VA,
    )?;
    let kernel = 0xffff_8000_0000_0000;
    check(
        space.0.copy_out(kernel, &[1]) == Err(CopyStop::Fault),
        "wrote to the kernel",
        kernel,
    )?;
    let mut byte = [7];
    check(
        space.0.copy_in(VA, &mut byte) == Ok(1) && byte == [0],
        "cannot read",
        VA,
    )?;
    check(
        space.0.copy_in(kernel, &mut byte) == Err(CopyStop::Fault),
        "read the kernel",
        kernel,
    )
}

pub(super) fn two_spaces_do_not_see_each_other() -> Outcome {
    let first = Loaded::new()?;
    first.map(VA, PAGE, RW)?;
    first.fault(VA, Access::Write);
    store_as_user(VA, 1);
    let second = Loaded::new()?;
    check(
        second.0.asid_cell().current() != first.0.asid_cell().current(),
        "one identifier for two spaces",
        0,
    )?;
    check(
        translate(VA, As::UserRead).is_none(),
        "the other space shows through",
        VA,
    )?;
    second.map(VA, PAGE, RW)?;
    second.fault(VA, Access::Write);
    check(
        load_as_user(VA) == 0,
        "the other space's page shows through",
        VA,
    )?;
    store_as_user(VA, 2);
    first.load();
    check(load_as_user(VA) == 1, "the first space changed", VA)
}

pub(super) fn an_address_space_ends_without_loss() -> Outcome {
    wait_for_graves()?;
    let before = frames().stats().unused();
    let live = HW.stats().live();
    {
        let space = Loaded::new()?;
        for far in 0..8 {
            let at = VA + (far << 30);
            space.map(at, 16 * PAGE, RW)?;
            for page in 0..16 {
                space.fault(at + page * PAGE, Access::Write);
            }
        }
        check(
            HW.stats().live() > live + 16,
            "eight GiB apart need tables",
            0,
        )?;
    }
    wait_for_graves()?;
    check(
        HW.stats().live() == live,
        "tables were lost",
        HW.stats().live(),
    )?;
    let after = frames().stats().unused();
    check(
        after == before,
        "frames were lost",
        before.wrapping_sub(after),
    )
}
