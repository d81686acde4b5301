//! Walks of ranges against the MMU's own answer, and how often frames are mapped.

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Geometry;
use mm::Access;
use pgtable::{Gather, Machine, PageTable, User, Walked, Zap};

use super::loaded::{Loaded, PAGE, RW, wait_for_graves};
use super::{Failure, Outcome, check};
use crate::arch::activate::{self, RootActivation};
use crate::arch::mmu::{Hw, hw};
use crate::arch::probe::{As, load_as_user, translate, try_load_as_user, try_store_as_user};
use crate::memory::{frames, graveyard};

const GIB: u64 = 1 << 30;

/// Compares a walk of the range, page for page, with what the MMU translates.
fn agrees(space: &Loaded, start: u64, end: u64) -> Result<u64, Failure> {
    let stay = ();
    let (mut at, mut wrong, mut seen) = (start, None, 0);
    let mut see = |va: u64, walked: Walked| {
        let known = walked.address(va, hw().format());
        if va != at || known != translate(va, As::UserRead) {
            wrong = wrong.or(Some(va));
        }
        seen += u64::from(known.is_some());
        at = va + PAGE;
    };
    let section = hw().read_side(&stay);
    space.0.table().walk_range(start, end, &section, &mut see);
    check(at == end, "a walk ends elsewhere", at)?;
    match wrong {
        Some(va) => check(false, "a walk differs from the MMU", va).map(|()| 0),
        None => Ok(seen),
    }
}

/// GUP-07, GUP-08: a range over a boundary of the root's entries. Whoever goes on with the old
/// entry reads the page at the alias, which is mapped here on purpose.
pub(super) fn a_walk_over_a_boundary_of_the_root_sees_the_next_table() -> Outcome {
    let space = Loaded::new()?;
    for boundary in [4 * GIB, 6 * GIB, 64 * GIB] {
        let aliases = [boundary - GIB, boundary - 2 * GIB];
        let real = [boundary - PAGE, boundary];
        for va in aliases.into_iter().chain(real) {
            space.map(va, PAGE, RW)?;
            space.store(va, va)?;
        }
        for va in real {
            check(load_as_user(va) == va, "the content", va)?;
        }
        let seen = agrees(&space, boundary - PAGE, boundary + PAGE)?;
        check(seen == 2, "pages are missing", boundary)?;
    }
    Ok(())
}

/// Spaces of two, three, four and, with LPA2, five levels: the page nearest to the end of each.
///
/// The write window has roots for three levels and more, since programs have no fewer: a space of
/// two is loaded only while no table is written.
pub(super) fn a_space_of_any_number_of_levels_is_walked_by_the_mmu() -> Outcome {
    let usual = Loaded::new()?;
    let most = if hw().format().lpa2 { 5 } else { 4 };
    for levels in 2..=most {
        let shape = Geometry::for_levels(levels).unwrap_or(Geometry::for_va_bits(39));
        let mut table = PageTable::<User, _>::new(hw(), NUMBER, shape).map_err(|_| Failure {
            what: "no space",
            value: levels as u64,
        })?;
        let va = shape.span(shape.root_level()) * shape.entries(shape.root_level()) as u64 - PAGE;
        let place = install(&table, va)?;
        activate::activate(RootActivation::new(table.root_word(), table.asid_cell()));
        let stored = try_store_as_user(va, va);
        let (loaded, found) = (try_load_as_user(va), translate(va, As::UserRead));
        let beyond = try_load_as_user(va + PAGE);
        usual.load();
        check(stored && loaded == Some(va), "no access", va)?;
        check(found == Some(place), "another page", va)?;
        check(beyond.is_none(), "an access beyond the end", va + PAGE)?;
        end(&mut table, va)?;
    }
    Ok(())
}

/// A number that no process has.
const NUMBER: u32 = 0x1e7e;

fn install(table: &PageTable<User, Hw>, va: u64) -> Result<PhysAddr, Failure> {
    let failure = |what| Failure { what, value: va };
    let stay = ();
    let section = hw().read_side(&stay);
    let frame = frames().alloc_fresh(0, true);
    let frame = frame.map_err(|_| failure("no frame"))?.into_user();
    let place = frame.pfn().start();
    let leaf = table.lock_leaf(va, &section, || true);
    let leaf = leaf.map_err(|_| failure("no table"))?;
    let attrs = Attrs::user(RW).with_young(true).with_dirty(true);
    leaf.install(va, frame, attrs)
        .map_err(|_| failure("occupied"))?;
    Ok(place)
}

fn end(table: &mut PageTable<User, Hw>, va: u64) -> Outcome {
    let (stay, mut gather) = ((), Gather::new());
    let section = hw().read_side(&stay);
    let page = VaRange::from_len(VirtAddr::new(va), PAGE);
    if let Some(page) = page {
        table.zap(page, Zap::REGION_GONE, &mut gather, &section);
    }
    table.retire(&mut gather);
    let flushed = gather.flush(table);
    gather.release(hw(), graveyard(), &flushed);
    wait_for_graves()
}

pub(super) fn a_walk_of_mixed_tables_agrees_with_the_mmu() -> Outcome {
    let space = Loaded::new()?;
    let base = 0x12_3460_0000;
    let end = base + (4 << 20);
    space.map(base, 4 << 20, RW)?;
    for block in (0..64).step_by(3) {
        space.store(base + block * 16 * PAGE, block)?;
    }
    space.unmap(base + 100 * PAGE, 50 * PAGE)?;
    space.protect(base + 300 * PAGE, 9 * PAGE, Prot::empty())?;
    space.protect(base + 400 * PAGE, 9 * PAGE, Prot::READ)?;
    let seen = agrees(&space, base, end)?;
    check(seen > 200, "few pages are mapped", seen)?;
    each_frame_is_mapped_once(&space, base, end)
}

/// Nothing here shares anonymous memory: every frame is mapped once, and a folio has as many
/// references as entries.
fn each_frame_is_mapped_once(space: &Loaded, start: u64, end: u64) -> Outcome {
    let stay = ();
    let section = hw().read_side(&stay);
    let (mut entries, mut folios) = ([(0u64, 0u32); 64], 0);
    let mut failure = Ok(());
    space
        .0
        .table()
        .walk_range(start, end, &section, |va, walked| {
            let Some(pa) = walked.address(va, hw().format()) else {
                return;
            };
            let Some(meta) = frames().meta(pa.pfn()) else {
                return failure = check(false, "a frame outside of RAM", pa.raw());
            };
            if !meta.is_user() {
                failure = check(false, "law 12: not a user frame", pa.raw());
            }
            let (head, bit) = (
                pa.pfn().raw() - meta.head_offset(),
                1 << (meta.head_offset() & 31),
            );
            let known = entries[..folios]
                .iter()
                .position(|(folio, _)| *folio == head);
            let at = known.unwrap_or(folios);
            let Some((folio, mapped)) = entries.get_mut(at) else {
                return failure = check(false, "more folios than expected", va);
            };
            if *mapped & bit != 0 {
                failure = check(false, "an anonymous page is mapped twice", va);
            }
            (*folio, *mapped) = (head, *mapped | bit);
            folios = folios.max(at + 1);
        });
    failure?;
    for (folio, mapped) in &entries[..folios] {
        let meta = frames().meta(arm64::addr::Pfn::new(*folio));
        let references = meta.map_or(0, |meta| meta.references());
        let hidden = references.checked_sub(mapped.count_ones());
        // Pages without access are mapped to software only, and do not translate.
        check(hidden.is_some_and(|n| n <= 9), "references", *folio)?;
    }
    check(folios > 10, "few folios", folios as u64)
}

/// A page that the kernel reaches for the program is the page that the program reaches.
pub(super) fn copies_over_a_boundary_reach_both_pages() -> Outcome {
    let space = Loaded::new()?;
    let boundary = 8 * GIB;
    for va in [boundary - GIB, boundary - PAGE, boundary] {
        space.map(va, PAGE, RW)?;
        space.fault(va, Access::Write);
    }
    let bytes: [u8; 64] = core::array::from_fn(|i| i as u8 + 1);
    let mut back = [0; 64];
    let (mut out, mut inward) = (0, 0);
    while out < 64 {
        match space.0.copy_out(boundary - 32 + out as u64, &bytes[out..]) {
            Ok(done) if done > 0 => out += done,
            _ => return check(false, "a copy out", boundary),
        }
    }
    while inward < 64 {
        let place = boundary - 32 + inward as u64;
        match space.0.copy_in(place, &mut back[inward..]) {
            Ok(done) if done > 0 => inward += done,
            _ => return check(false, "a copy in", boundary),
        }
    }
    check(back == bytes, "copied to another place", boundary)?;
    let high = u64::from_le_bytes(core::array::from_fn(|i| i as u8 + 33));
    check(load_as_user(boundary) == high, "the page behind", boundary)?;
    let alias = load_as_user(boundary - GIB);
    check(alias == 0, "the alias was written", alias)
}
