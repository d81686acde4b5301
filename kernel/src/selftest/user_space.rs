//! User spaces on the real MMU, looked at with EL0's rights.

use arm64::attrs::Prot;
use mm::{Access, CopyStop, FaultOutcome, Verb};
use pgtable::Machine;

use super::loaded::{Loaded, PAGE, RW, wait_for_graves};
use super::{Outcome, check};
use crate::arch::cpu;
use crate::arch::mmu::hw;
use crate::arch::probe::{As, load_as_user, store_as_user, translate};
use crate::memory::{frames, graveyard};

pub(super) const VA: u64 = 0x12_3456_7000;

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

pub(super) fn access_flag_and_dirty_state_are_kept() -> Outcome {
    let space = Loaded::new()?;
    space.map_shared(VA, PAGE, RW)?;
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
    let live = hw().stats().live();
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
            hw().stats().live() > live + 16,
            "eight GiB apart need tables",
            0,
        )?;
    }
    wait_for_graves()?;
    check(
        hw().stats().live() == live,
        "tables were lost",
        hw().stats().live(),
    )?;
    let after = frames().stats().unused();
    check(
        after == before,
        "frames were lost",
        before.wrapping_sub(after),
    )
}
