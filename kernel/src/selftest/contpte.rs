//! Contiguous blocks on the real MMU: what hardware records, what a fold and an unfold keep.

use arm64::attrs::Prot;
use mm::{Access, FaultOutcome};
use pgtable::{Machine, Walked};

use super::loaded::{Loaded, PAGE, RW};
use super::{Outcome, check};
use crate::arch::mmu::hw;
use crate::arch::probe::{
    As, load_as_user, store_as_user, translate, try_load_as_user, try_store_as_user,
};
use crate::arch::{bbm, cpu};
use crate::bootargs::{self, Bbm};

/// A block's address, and its size.
const VA: u64 = 0x12_3460_0000;
const BLOCK: u64 = 16 * PAGE;

fn pages() -> impl Iterator<Item = u64> {
    (0..16).map(|page| VA + page * PAGE)
}

/// A space with one folio mapped by one fault of this kind on its first page. A read of anonymous
/// memory would map the page of zeros.
fn folio(access: Access) -> Result<Loaded, super::Failure> {
    let space = Loaded::new()?;
    match access {
        Access::Read => space.map_shared(VA, BLOCK, RW)?,
        _ => space.map(VA, BLOCK, RW)?,
    }
    let outcome = space.fault(VA, access);
    check(outcome == FaultOutcome::Done, "the fault was refused", VA)?;
    check(is_folded(&space), "no contiguous block", VA)?;
    Ok(space)
}

/// Whether all sixteen entries say contiguous; none may if the first does not.
fn is_folded(space: &Loaded) -> bool {
    pages().all(|va| space.raw(va).is_contiguous())
}

fn is_unfolded(space: &Loaded) -> bool {
    pages().all(|va| !space.raw(va).is_contiguous())
}

fn spans(space: &Loaded, wanted: u64) -> bool {
    let stay = ();
    let section = hw().read_side(&stay);
    let of = |va| match space.0.table().walk(va, &section) {
        Walked::Seen { span, .. } => span == wanted,
        Walked::Miss { .. } => false,
    };
    pages().all(of)
}

pub(super) fn a_folio_is_sixteen_pages_that_follow_each_other() -> Outcome {
    let space = folio(Access::Write)?;
    let first = translate(VA, As::UserRead).map_or(1, |pa| pa.raw());
    check(first & (BLOCK - 1) == 0, "the folio is not aligned", first)?;
    for va in pages() {
        let pa = translate(va + 8, As::UserRead).map(|pa| pa.raw());
        check(pa == Some(first + va - VA + 8), "a page is elsewhere", va)?;
        check(load_as_user(va) == 0, "a fresh page is not zero", va)?;
    }
    check(spans(&space, BLOCK), "a walk does not tell the span", VA)?;
    for va in pages() {
        space.store(va + 16, va)?;
    }
    for va in pages() {
        check(load_as_user(va + 16) == va, "pages are mixed up", va)?;
        let mut bytes = [0; 8];
        let copied = space.0.copy_in(va + 16, &mut bytes);
        check(copied == Ok(8), "the kernel cannot read it", va)?;
        check(u64::from_le_bytes(bytes) == va, "another content", va)?;
    }
    check(space.event("faults_folio") == 1, "faults_folio", 0)
}

pub(super) fn what_hardware_records_in_one_entry_is_the_blocks() -> Outcome {
    if cpu::features().hafdbs < 2 {
        return recorded_by_software();
    }
    let space = folio(Access::Read)?;
    let (read, written) = (VA + 5 * PAGE, VA + 9 * PAGE);
    check(
        !space.raw(read).young(),
        "a page beside it is born old",
        read,
    )?;
    let _zero = load_as_user(read);
    check(
        space.raw(read).young(),
        "the hardware records no access",
        read,
    )?;
    store_as_user(written, 1);
    let alone = pages().all(|va| space.raw(va).dirty() == (va == written));
    check(alone, "dirty in more entries, or in none", written)?;
    for va in pages() {
        let gathered = space.young_and_dirty(va) == Some((true, true));
        check(gathered, "a getter does not gather", va)?;
    }
    // An unfold hands what it gathered to every page.
    space.protect(VA + 15 * PAGE, PAGE, Prot::READ)?;
    check(is_unfolded(&space), "still folded", VA)?;
    for va in pages() {
        check(space.raw(va).dirty(), "dirty was lost by the unfold", va)?;
    }
    Ok(())
}

fn recorded_by_software() -> Outcome {
    let space = folio(Access::Read)?;
    for va in pages() {
        let clean = space.young_and_dirty(va) == Some((true, false));
        check(clean, "after a read fault", va)?;
        check(try_load_as_user(va).is_some(), "a read faults again", va)?;
    }
    check(!try_store_as_user(VA, 1), "a clean page was writable", VA)?;
    space.store(VA + 9 * PAGE, 1)?;
    let dirty = pages().all(|va| space.raw(va).young() && space.raw(va).dirty());
    check(dirty, "law 7: an entry of the block stayed clean", VA)
}

/// XC-05: whoever keeps accessed and dirty, no page faults twice for the same access.
pub(super) fn each_page_of_a_block_faults_once_at_most() -> Outcome {
    let space = folio(Access::Read)?;
    for va in pages() {
        let faults = space.store(va, va)?;
        check(faults <= 1, "more than one fault", va)?;
    }
    for va in pages() {
        check(space.store(va + 8, va)? == 0, "a fault again", va)?;
        check(load_as_user(va) == va, "the content", va)?;
    }
    check(is_folded(&space), "an access took the block apart", VA)
}

pub(super) fn a_part_that_changes_unfolds_and_the_whole_folds_again() -> Outcome {
    let space = folio(Access::Write)?;
    for va in pages() {
        space.store(va, va)?;
    }
    let odd = VA + 6 * PAGE;
    space.protect(odd, PAGE, Prot::READ)?;
    check(is_unfolded(&space), "law 6: mixed rights in a block", VA)?;
    check(space.event("unfolds") == 1, "unfolds", 0)?;
    check(spans(&space, PAGE), "a walk tells an old span", VA)?;
    for va in pages() {
        let may = try_store_as_user(va + 8, 1);
        check(may == (va != odd), "the rights of a page", va)?;
        check(load_as_user(va) == va, "the content", va)?;
    }
    let folds = space.event("folds");
    space.protect(VA, BLOCK, Prot::READ)?;
    check(is_folded(&space), "equal again, but not folded", VA)?;
    check(space.event("folds") == folds + 1, "folds", folds)?;
    for va in pages() {
        check(!try_store_as_user(va, 0), "still writable", va)?;
        check(load_as_user(va) == va, "the content", va)?;
    }
    space.protect(VA, BLOCK, RW)?;
    for va in pages() {
        check(space.store(va, !va)? <= 1, "faults", va)?;
        check(load_as_user(va) == !va, "the content", va)?;
    }
    Ok(())
}

pub(super) fn a_hole_in_a_block_is_a_hole_of_one_page() -> Outcome {
    let space = folio(Access::Write)?;
    for va in pages() {
        space.store(va, va)?;
    }
    let hole = VA + 3 * PAGE;
    space.unmap(hole, PAGE)?;
    check(is_unfolded(&space), "law 6: fifteen contiguous entries", VA)?;
    for va in pages() {
        let seen = try_load_as_user(va);
        check(seen == (va != hole).then_some(va), "a page", va)?;
    }
    // What is mapped there now is another folio's page: never a part of the block again.
    space.map(hole, PAGE, RW)?;
    check(space.store(hole, 7)? == 1, "a fresh page faults once", hole)?;
    check(is_unfolded(&space), "law 6: two folios in one block", VA)?;
    check(load_as_user(hole) == 7, "the content", hole)
}

pub(super) fn blocks_are_repainted_as_the_command_line_says() -> Outcome {
    let (mode, level_2) = (bbm::repaints_without_flush(), cpu::features().bbm == 2);
    let right = match bootargs::get().bbm {
        Bbm::Flush => !mode,
        Bbm::Level2 => mode == level_2,
        Bbm::Auto => level_2 || !mode,
    };
    check(
        right,
        "FEAT_BBM is used against the command line",
        mode.into(),
    )
}
