//! Blocks of 2 MiB and 1 GiB on the real MMU: mapped, cut in two, put together again.

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use pgtable::{Gather, Machine, PageTable, User, Walked, Zap};

use super::loaded::{Loaded, PAGE, RW, wait_for_graves};
use super::{Failure, Outcome, check};
use crate::arch::mmu::{Hw, hw};
use crate::arch::probe::{As, load_as_user, translate, try_load_as_user, try_store_as_user};
use crate::memory::{frames, graveyard};

const VA: u64 = 0x12_3460_0000;
const SIZE: u64 = Level::L2.size();
const PAGES: u64 = SIZE / PAGE;
/// Order of a folio of 2 MiB.
const ORDER: u8 = 9;

fn range(start: u64, len: u64) -> Result<VaRange, Failure> {
    VaRange::from_len(VirtAddr::new(start), len).ok_or(Failure {
        what: "no range",
        value: start,
    })
}

fn pages() -> impl Iterator<Item = u64> {
    (0..PAGES).map(|page| VA + page * PAGE)
}

fn young(prot: Prot) -> Attrs {
    let write = prot.contains(Prot::WRITE);
    Attrs::user(prot).with_young(true).with_dirty(write)
}

/// A space with a folio of 2 MiB mapped by a block, every page with its address in it.
fn mapped() -> Result<Loaded, Failure> {
    let space = Loaded::new()?;
    let Ok(fresh) = frames().alloc_fresh(ORDER, true) else {
        return check(false, "no folio of 2 MiB", 0).map(|()| space);
    };
    let frame = fresh.into_user();
    let (pa, stay) = (frame.pfn().start(), ());
    let section = hw().read_side(&stay);
    let table = space.0.table();
    let done = table.map_block(VA, Level::L2, frame, young(RW), &section, || true);
    check(done.is_ok(), "the block cannot be mapped", VA)?;
    for va in pages() {
        check(try_store_as_user(va, va), "not writable", va)?;
        let found = translate(va + 8, As::UserRead).map(PhysAddr::raw);
        check(found == Some(pa.raw() + va - VA + 8), "elsewhere", va)?;
    }
    Ok(space)
}

/// Level and reach of the translation of `va`.
fn seen(space: &Loaded, va: u64) -> Option<(Level, u64)> {
    let stay = ();
    match space.0.table().walk(va, &hw().read_side(&stay)) {
        Walked::Seen { level, span, .. } => Some((level, span)),
        Walked::Miss { .. } => None,
    }
}

fn release(table: &PageTable<User, Hw>, gather: &mut Gather) {
    let flushed = gather.flush(table);
    gather.release(hw(), graveyard(), &flushed);
}

fn protect(space: &Loaded, start: u64, len: u64, prot: Prot) -> Outcome {
    let (table, stay) = (space.0.table(), ());
    let (section, mut gather) = (hw().read_side(&stay), Gather::new());
    let (mut at, end) = (start, start + len);
    while at < end {
        at = table.protect(range(at, end - at)?, prot, &mut gather, &section);
    }
    release(table, &mut gather);
    Ok(())
}

pub(super) fn a_block_is_cut_by_a_partial_change_and_collapses_again() -> Outcome {
    wait_for_graves()?;
    let before = frames().stats().free;
    {
        let space = mapped()?;
        let whole = seen(&space, VA + 5 * PAGE) == Some((Level::L2, SIZE));
        check(whole, "a walk does not tell the block", VA)?;
        cut_and_collapse(&space)?;
    }
    wait_for_graves()?;
    let after = frames().stats().free;
    check(
        after == before,
        "frames were lost",
        before.wrapping_sub(after),
    )
}

fn cut_and_collapse(space: &Loaded) -> Outcome {
    let odd = VA + 77 * PAGE;
    protect(space, odd, PAGE, Prot::READ)?;
    check(space.event("splits") == 1, "splits", 0)?;
    check(
        space.event("unfolds") == 1,
        "a split leaves folded blocks",
        0,
    )?;
    for va in pages() {
        let reach = match va & !(16 * PAGE - 1) == odd & !(16 * PAGE - 1) {
            true => PAGE,
            false => 16 * PAGE,
        };
        check(seen(space, va) == Some((Level::L3, reach)), "reach", va)?;
        let may = try_store_as_user(va + 8, va);
        check(may == (va != odd), "the right to write", va)?;
        check(load_as_user(va) == va, "the content", va)?;
    }
    let (table, stay) = (space.0.table(), ());
    let (section, mut gather) = (hw().read_side(&stay), Gather::new());
    let early = table.collapse(odd, &mut gather, &section);
    check(!early, "law 6: mixed rights became a block", odd)?;
    release(table, &mut gather);
    protect(space, odd, PAGE, RW)?;
    let mut gather = Gather::new();
    let collapsed = table.collapse(odd, &mut gather, &section);
    release(table, &mut gather);
    check(collapsed, "equal entries do not collapse", odd)?;
    check(space.event("collapses") == 1, "collapses", 0)?;
    for va in pages() {
        check(seen(space, va) == Some((Level::L2, SIZE)), "no block", va)?;
        check(try_store_as_user(va + 8, va), "not writable", va)?;
        check(load_as_user(va) == va, "the content", va)?;
    }
    Ok(())
}

/// The table of a split block is flushed with the block, and the block with the table.
pub(super) fn no_access_through_a_block_that_is_gone() -> Outcome {
    let space = mapped()?;
    protect(&space, VA, SIZE, Prot::READ)?;
    check(space.event("splits") == 0, "a whole block was split", 0)?;
    for va in pages() {
        check(!try_store_as_user(va, 0), "law 12: a stale write", va)?;
        check(load_as_user(va) == va, "the content", va)?;
    }
    let (table, stay) = (space.0.table(), ());
    let (section, mut gather) = (hw().read_side(&stay), Gather::new());
    let hole = range(VA + 100 * PAGE, 8 * PAGE)?;
    let mut at = hole.start().raw();
    while at < hole.end().raw() {
        let rest = range(at, hole.end().raw() - at)?;
        at = table.zap(rest, Zap::REGION_GONE, &mut gather, &section);
    }
    release(table, &mut gather);
    for va in pages() {
        let gone = hole.start().raw() <= va && va < hole.end().raw();
        let value = try_load_as_user(va);
        check(value == (!gone).then_some(va), "law 12: a page", va)?;
    }
    Ok(())
}

/// A block of 1 GiB over the beginning of RAM, read only and never written: down to pages and away.
pub(super) fn a_gibibyte_is_cut_down_to_a_page() -> Outcome {
    wait_for_graves()?;
    let (live, before) = (hw().stats().live(), frames().stats().free);
    {
        let space = Loaded::new()?;
        let (table, stay) = (space.0.table(), ());
        let section = hw().read_side(&stay);
        let (va, pa) = (0x14_0000_0000, PhysAddr::new(1 << 30));
        let attrs = young(Prot::READ).with_special(true);
        let done = table.map_special_block(va, Level::L1, pa, attrs, &section, || true);
        check(done.is_ok(), "the block cannot be mapped", va)?;
        let twice = table.map_special_block(va, Level::L1, pa, attrs, &section, || true);
        check(twice.is_err(), "mapped over a block", va)?;
        let deep = va + 0x123_4000;
        let found = translate(deep, As::UserRead).map(PhysAddr::raw);
        check(found == Some(pa.raw() + 0x123_4000), "elsewhere", deep)?;
        let reach = seen(&space, deep) == Some((Level::L1, Level::L1.size()));
        check(reach, "a walk does not tell the block", deep)?;
        protect(&space, deep, PAGE, Prot::empty())?;
        check(space.event("splits") == 2, "splits", deep)?;
        check(translate(deep, As::UserRead).is_none(), "readable", deep)?;
        for near in [deep - PAGE, deep + PAGE, va, va + (1 << 30) - PAGE] {
            let found = translate(near, As::UserRead).map(PhysAddr::raw);
            check(found == Some(near - va + pa.raw()), "elsewhere", near)?;
        }
    }
    wait_for_graves()?;
    check(hw().stats().live() == live, "tables were lost", live)?;
    let after = frames().stats().free;
    check(
        after == before,
        "frames were lost",
        before.wrapping_sub(after),
    )
}
