//! Identifiers by generations and growing levels on the real MMU.

use alloc::vec::Vec;

use mm::{Access, FaultOutcome, Verb};

use super::loaded::{Loaded, PAGE, RW};
use super::{Failure, Outcome, check};
use crate::arch::cpu;
use crate::arch::probe::{As, load_as_user, store_as_user, translate};
use crate::memory;

const VA: u64 = 0x23_4567_8000;
const SPACES: u64 = 64;
const ROUNDS: u64 = 4;

/// Spaces, each with a page at the same address that holds its number.
fn spaces(count: u64) -> Result<Vec<Loaded>, Failure> {
    let mut all = Vec::new();
    for number in 0..count {
        let space = Loaded::new()?;
        space.map(VA, PAGE, RW)?;
        space.fault(VA, Access::Write);
        store_as_user(VA, number);
        all.push(space);
    }
    Ok(all)
}

/// With `tessera.asid_bits=4` there are four times more spaces than identifiers, and hundreds of
/// changes: many generations.
pub(super) fn more_spaces_than_identifiers_keep_their_own_pages() -> Outcome {
    let asids = memory::context().asids();
    let (rollovers, flushes) = (asids.rollovers(), asids.local_flushes());
    let spaces = spaces(SPACES)?;
    for round in 0..ROUNDS {
        for (number, space) in (0..).zip(&spaces) {
            space.load();
            let expected = number + round * SPACES;
            let found = load_as_user(VA);
            check(found == expected, "another space's page", found)?;
            store_as_user(VA, expected + SPACES);
        }
    }
    let (rollovers, flushes) = (
        asids.rollovers() - rollovers,
        asids.local_flushes() - flushes,
    );
    // A generation has no more identifiers than that, and each change of this loop needs one.
    let least = SPACES * ROUNDS / asids.capacity() as u64;
    let short = (asids.capacity() as u64) < SPACES / 2;
    check(
        !short || rollovers + 1 >= least,
        "too few generations",
        rollovers,
    )?;
    check(
        !short || flushes + 1 >= least,
        "generations without a flush",
        flushes,
    )
}

/// What is torn out of a space that is loaded nowhere, under an identifier that others may have by
/// now, is not there when the space is loaded again.
pub(super) fn what_is_unmapped_while_another_space_runs_is_gone() -> Outcome {
    let spaces = spaces(SPACES / 2)?;
    for (number, space) in (0..).zip(&spaces) {
        if number % 2 == 0 {
            let unmap = Verb::Unmap {
                addr: VA,
                len: PAGE,
            };
            check(space.run(unmap) == Ok(0), "munmap", number)?;
        }
    }
    for (number, space) in (0..).zip(&spaces) {
        space.load();
        let there = translate(VA, As::UserRead).is_some();
        check(there == (number % 2 != 0), "after unmapping", number)?;
        if there {
            let found = load_as_user(VA);
            check(found == number, "another space's page", found)?;
        }
    }
    Ok(())
}

/// The page at `va` does what a fresh page does, through the MMU.
fn use_page(space: &Loaded, va: u64, value: u64) -> Outcome {
    let done = space.fault(va, Access::Write);
    check(done == FaultOutcome::Done, "the fault was refused", va)?;
    store_as_user(va, value);
    check(load_as_user(va) == value, "the page", va)
}

/// A CPU that has a space loaded does not see what is mapped above its range; once it has loaded
/// the grown root it does, and the range below is as it was.
pub(super) fn a_grown_space_is_loaded_with_its_levels() -> Outcome {
    let spaces = [Loaded::new()?, Loaded::new()?];
    let largest = 64 - spaces[0].0.task_size().leading_zeros() - 1;
    for (value, space) in (1..).zip(&spaces) {
        space.load();
        space.map(VA, PAGE, RW)?;
        use_page(space, VA, value)?;
    }
    let space = &spaces[1];
    for bits in [39, 48].into_iter().filter(|&bits| bits < largest) {
        let above = (1 << bits) + VA;
        space.map(above, PAGE, RW)?;
        check(
            translate(above, As::UserRead).is_none(),
            "the old root reaches it",
            above,
        )?;
        check(space.load(), "the change of levels went unseen", above)?;
        use_page(space, above, above)?;
        check(load_as_user(VA) == 2, "the page below changed", VA)?;
        check(!space.load(), "loaded again for nothing", above)?;
        // Through a space of three levels and back: T0SZ changes both ways.
        spaces[0].load();
        check(load_as_user(VA) == 1, "the other space's page", VA)?;
        check(
            translate(above, As::UserRead).is_none(),
            "seen in the other space",
            above,
        )?;
        check(!space.load(), "no level came since", above)?;
        check(load_as_user(above) == above, "the page above", above)?;
    }
    let levels = space.0.root_word().levels();
    let expected = if cpu::features().lpa2 { 5 } else { 4 };
    check(levels == expected, "levels", levels.into())
}
