//! After a flush no CPU uses what was there before: looked at with real accesses, which take
//! whatever the TLB still holds.

use arm64::attrs::Prot;
use mm::{Access, RemapFlags, Verb};

use super::loaded::{Loaded, PAGE, RW, wait_for_graves};
use super::{Outcome, check};
use crate::arch::probe::{load_as_user, store_as_user, try_load_as_user, try_store_as_user};

/// A place aligned as blocks of 2 MiB are.
const VA: u64 = 0x12_3460_0000;
const PAGES: u64 = 64;

/// Pages written, so that the TLB holds them writable.
fn filled(pages: u64) -> Result<Loaded, super::Failure> {
    let space = Loaded::new()?;
    space.map(VA, pages * PAGE, RW)?;
    for va in all(pages) {
        space.store(va, va)?;
        store_as_user(va, va);
    }
    Ok(space)
}

fn all(pages: u64) -> impl Iterator<Item = u64> {
    (0..pages).map(|page| VA + page * PAGE)
}

pub(super) fn no_write_after_the_right_is_gone() -> Outcome {
    // One page, one folio, several: each is flushed in its own way.
    for pages in [1, 16, PAGES] {
        let space = filled(pages)?;
        space.protect(VA, pages * PAGE, Prot::READ)?;
        for va in all(pages) {
            check(!try_store_as_user(va, 0), "law 12: a stale write", va)?;
            check(load_as_user(va) == va, "the content", va)?;
        }
        space.protect(VA, pages * PAGE, Prot::empty())?;
        for va in all(pages) {
            let seen = try_load_as_user(va);
            check(seen.is_none(), "law 12: a stale read", va)?;
        }
    }
    Ok(())
}

pub(super) fn no_access_after_an_unmap() -> Outcome {
    for pages in [1, 16, PAGES] {
        let space = filled(pages)?;
        space.unmap(VA, pages * PAGE)?;
        for va in all(pages) {
            let seen = try_load_as_user(va);
            check(seen.is_none(), "law 12: a stale read", va)?;
            check(!try_store_as_user(va, 0), "law 12: a stale write", va)?;
        }
    }
    Ok(())
}

/// The single page that changes in a folio, at every place of the block.
pub(super) fn an_unfold_leaves_no_old_translation() -> Outcome {
    for page in 0..16 {
        let space = filled(16)?;
        let odd = VA + page * PAGE;
        space.protect(odd, PAGE, Prot::READ)?;
        for va in all(16) {
            let stored = try_store_as_user(va, va);
            check(stored == (va != odd), "an old right", va)?;
        }
        space.unmap(odd, PAGE)?;
        for va in all(16) {
            let seen = try_load_as_user(va);
            check(seen == (va != odd).then_some(va), "an old page", va)?;
        }
    }
    Ok(())
}

/// The last mapping of a table goes and takes the table along; the next one makes a new table. An
/// old walk-cache entry would lead through the old table.
pub(super) fn a_new_table_is_found_where_an_old_one_was() -> Outcome {
    let space = Loaded::new()?;
    for round in 0..16 {
        space.map(VA, 16 * PAGE, RW)?;
        for va in all(16) {
            space.store(va, va + round)?;
        }
        for va in all(16) {
            check(load_as_user(va) == va + round, "an old table", va)?;
        }
        space.unmap(VA, 16 * PAGE)?;
        for va in all(16) {
            let seen = try_load_as_user(va);
            check(seen.is_none(), "a table that is gone", va)?;
        }
        wait_for_graves()?;
    }
    let reclaimed = space.event("reclaimed");
    check(reclaimed >= 16, "no table was unlinked", reclaimed)
}

/// Moved pages are found at their new place only.
pub(super) fn moved_pages_leave_their_old_place() -> Outcome {
    let space = filled(16)?;
    let to = VA + (4 << 20) + PAGE;
    let moved = space.run(Verb::Remap {
        old: VA,
        old_len: 16 * PAGE,
        new_len: 16 * PAGE,
        flags: RemapFlags::MAYMOVE | RemapFlags::FIXED,
        new: to,
    });
    check(moved == Ok(to), "mremap", to)?;
    for va in all(16) {
        check(try_load_as_user(va).is_none(), "still there", va)?;
        let here = va - VA + to;
        if try_load_as_user(here).is_none() {
            space.fault(here, Access::Read);
        }
        check(try_load_as_user(here) == Some(va), "not here", here)?;
    }
    Ok(())
}
