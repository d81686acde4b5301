//! What must hold of every entry, at every level and with every protection, in real table memory:
//! the properties that Linux checks of its own entries at boot.

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use pgtable::{Accessed, Gather, Leaf, Machine, Visit, Zap};

use super::loaded::{Loaded, PAGE};
use super::{Failure, Outcome, check};
use crate::arch::mmu::{Hw, hw};
use crate::arch::probe::{As, translate, try_load_as_user, try_store_as_user};
use crate::memory::{frames, graveyard};

const VA: u64 = 0x14_0000_0000;

/// The protections of a mapping. Whoever may write or execute may read, as on Linux; nothing is
/// writable and executable at once.
fn prots() -> impl Iterator<Item = Prot> {
    [Prot::empty(), Prot::READ, Prot::RW, Prot::RX].into_iter()
}

fn range(start: u64, len: u64) -> Result<VaRange, Failure> {
    VaRange::from_len(VirtAddr::new(start), len).ok_or(Failure {
        what: "no range",
        value: start,
    })
}

/// Does `act` to the locked table of `VA` and flushes what it changed.
fn locked<R>(
    space: &Loaded,
    act: impl FnOnce(&Leaf<'_, pgtable::User, Hw>, &mut Gather) -> R,
) -> Result<R, Failure> {
    let (table, stay) = (space.0.table(), ());
    let section = hw().read_side(&stay);
    let part = range(VA, PAGE)?;
    let mut gather = Gather::new();
    let result = match table.cursor(part, &section).visit() {
        Some(Visit::Table(leaf)) => Ok(act(&leaf, &mut gather)),
        _ => Err(Failure {
            what: "no table of level 3",
            value: VA,
        }),
    };
    let flushed = gather.flush(table);
    gather.release(hw(), graveyard(), &flushed);
    result
}

/// What the MMU grants now, against what the protection says: a clean page may still fault.
fn mmu_agrees(prot: Prot, young: bool, dirty: bool) -> Outcome {
    let by_hardware = hw().records_access();
    let read = prot.contains(Prot::READ) && (young || by_hardware);
    check(try_load_as_user(VA).is_some() == read, "a read", VA)?;
    let write = prot.contains(Prot::WRITE) && (young && dirty || by_hardware);
    check(try_store_as_user(VA, 1) == write, "a write", VA)
}

pub(super) fn a_page_of_any_protection_keeps_its_states_apart() -> Outcome {
    for prot in prots() {
        let space = Loaded::new()?;
        page_of(&space, prot)?;
        mmu_agrees(prot, false, false)?;
    }
    Ok(())
}

/// The states of an entry without an access in between.
fn page_of(space: &Loaded, prot: Prot) -> Outcome {
    install(space, prot)?;
    let write = prot.contains(Prot::WRITE);
    locked(space, |leaf, gather| {
        let is = |young, dirty, what| {
            let value = leaf.get(VA);
            let same = (value.young(), value.dirty()) == (young, dirty);
            check(same && value.maps_frame(Level::L3), what, VA)
        };
        is(false, false, "an entry is born old and clean")?;
        check(leaf.get(VA).prot() - Prot::USER == prot, "rights", VA)?;
        leaf.write_protect(gather);
        is(false, false, "write-protected is not dirty")?;
        check(!leaf.get(VA).writable(), "write-protected", VA)?;
        leaf.protect(prot, gather);
        check(leaf.get(VA).writable() == write, "writable again", VA)?;
        if prot.is_no_access() {
            // Invalid for the hardware, present for software.
            return check(!leaf.get(VA).is_leaf(Level::L3), "no access", VA);
        }
        let recorded = leaf.mark_accessed(VA, write) != Accessed::NotAllowed;
        check(recorded, "an access is not recorded", VA)?;
        is(true, write, "accessed")?;
        let again = leaf.mark_accessed(VA, write) == Accessed::Already;
        check(again, "recorded twice", VA)?;
        leaf.write_protect(gather);
        is(true, write, "dirty, then protected: dirty")?;
        check(leaf.clear_young(gather), "it was young", VA)?;
        is(false, write, "old again, dirty as before")?;
        check(!leaf.clear_young(gather), "it was old", VA)?;
        leaf.protect(Prot::empty(), gather);
        is(false, write, "without access, dirty as before")?;
        leaf.protect(prot, gather);
        is(false, write, "with access, dirty as before")
    })??;
    reinstall(space, prot)
}

fn install(space: &Loaded, prot: Prot) -> Outcome {
    let (table, stay) = (space.0.table(), ());
    let section = hw().read_side(&stay);
    let Ok(fresh) = frames().alloc_fresh(0, true) else {
        return check(false, "no frame", 0);
    };
    let Ok(leaf) = table.lock_leaf(VA, &section, || true) else {
        return check(false, "no table", 0);
    };
    check(leaf.is_empty(VA, 1), "an empty entry is not none", VA)?;
    let done = leaf.install(VA, fresh.into_user(), Attrs::user(prot));
    check(done.is_ok(), "cannot install", VA)?;
    let Ok(other) = frames().alloc_fresh(0, true) else {
        return check(false, "no frame", 0);
    };
    let twice = leaf.install(VA, other.into_user(), Attrs::user(prot));
    check(twice.is_err(), "law 3: installed over a live entry", VA)
}

/// Takes the entry out, looks at the memory, and puts a fresh one in.
fn reinstall(space: &Loaded, prot: Prot) -> Outcome {
    let part = range(VA, PAGE)?;
    locked(space, |leaf, gather| {
        let _to = leaf.zap(Zap::REGION_GONE, gather);
        check(leaf.get(VA).is_none(), "cleared is none", VA)
    })??;
    check(space.raw(VA).is_none(), "memory is not none", VA)?;
    check(try_load_as_user(VA).is_none(), "law 12: a stale read", VA)?;
    let (stay, mut gather) = ((), Gather::new());
    let section = hw().read_side(&stay);
    let _end = space
        .0
        .table()
        .zap(part, Zap::REGION_GONE, &mut gather, &section);
    let flushed = gather.flush(space.0.table());
    gather.release(hw(), graveyard(), &flushed);
    install(space, prot)
}

pub(super) fn a_block_of_any_protection_is_a_leaf_of_its_level() -> Outcome {
    for level in [Level::L1, Level::L2] {
        for prot in prots() {
            block_of(level, prot)?;
        }
    }
    Ok(())
}

fn block_of(level: Level, prot: Prot) -> Outcome {
    let space = Loaded::new()?;
    let (table, stay) = (space.0.table(), ());
    let section = hw().read_side(&stay);
    let (pa, attrs) = (PhysAddr::new(1 << 30), Attrs::user(prot).with_special(true));
    let done = table.map_special_block(VA, level, pa, attrs.with_young(true), &section, || true);
    check(done.is_ok(), "set on an empty slot", level.size())?;
    let mut tables = 0;
    table.each_table(&section, |_, _| tables += 1);
    let above = level.position() - Level::L1.position() + 1;
    check(
        tables == above,
        "a block was taken for a table",
        tables as u64,
    )?;
    let expected = prot.contains(Prot::READ).then_some(pa);
    check(translate(VA, As::UserRead) == expected, "a read", VA)?;
    let mut gather = Gather::new();
    let states = match table.cursor(range(VA, level.size())?, &section).visit() {
        Some(Visit::Block(block)) => {
            let value = block.get();
            let leaf = value.is_leaf(level) != prot.is_no_access();
            block.write_protect(&mut gather);
            let protected = !block.get().writable() && !block.get().dirty();
            block.protect(prot, &mut gather);
            // What is special does not become writable.
            let same = block.get().prot() - Prot::USER == prot - Prot::WRITE;
            block.zap(Zap::REGION_GONE, &mut gather);
            (
                block.level() == level && block.is_whole(),
                leaf,
                protected,
                same,
                block.get().is_none(),
            )
        }
        _ => return check(false, "a visit finds no block", VA),
    };
    let flushed = gather.flush(table);
    gather.release(hw(), graveyard(), &flushed);
    check(
        states == (true, true, true, true, true),
        "a block's states",
        VA,
    )?;
    check(translate(VA, As::UserRead).is_none(), "after clearing", VA)
}
