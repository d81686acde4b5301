//! Blocks of 2 MiB and 1 GiB: mapped, split, collapsed, moved, with their references (law 5).

mod common;

use std::sync::atomic::Ordering::SeqCst;

use arm64::addr::PhysAddr;
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use arm64::pte::Invalid;
use common::{
    GIB, MIB2, PAGE, PLAIN, RW, Space, assert_broken_before_made, contiguous, end, entry, folio,
    install, install_folio, machine, pfn_at, protect, range, raw, release, touch, user, walk,
    young, zap,
};
use frame::UserFrame;
use model::HostMachine;
use pgtable::{
    Conversion, Gather, Graveyard, LockError, Machine, Marking, TableError, Visit, Walked, Zap,
};

const AT: u64 = 0x12_3440_0000;

fn map_block(space: &Space, va: u64, frame: UserFrame) -> Result<(), LockError> {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let mapped = space.map_block(va, Level::L2, frame, young(), &section, || true);
    mapped.map_err(|(error, _)| error)
}

fn split(space: &Space, va: u64) -> Result<(), TableError> {
    let stay = ();
    space.split_block(va, &space.machine().read_side(&stay))
}

fn collapse(space: &Space, graves: &Graveyard) -> bool {
    let stay = ();
    let mut gather = Gather::new();
    let done = space.collapse(AT, &mut gather, &space.machine().read_side(&stay));
    release(space, graves, &mut gather);
    done
}

fn level_at(space: &Space, va: u64) -> Option<Level> {
    match walk(space, va) {
        Walked::Seen { level, .. } => Some(level),
        Walked::Miss { .. } => None,
    }
}

/// A block at [`AT`], and a reference of the test's to its folio.
fn mapped() -> (&'static HostMachine, Space, Graveyard, UserFrame) {
    let machine = machine();
    let space = user(machine);
    let frame = folio(machine, 9);
    map_block(&space, AT, frame.page(0)).expect("room");
    (machine, space, Graveyard::new(), frame)
}

fn references(frame: &UserFrame, machine: &HostMachine) -> u32 {
    machine
        .frames()
        .meta(frame.block())
        .expect("a frame of the bank")
        .references()
}

#[test]
fn a_block_is_split_and_collapsed_and_keeps_what_was_recorded() {
    let (machine, space, graves, frame) = mapped();
    assert_eq!(references(&frame, machine), 513, "one for each page");
    assert!(touch(&space, AT, true));
    machine.start_log();
    split(&space, AT + 5 * PAGE).expect("memory");
    assert_broken_before_made(&machine.take_log(), PLAIN);
    assert_eq!(
        machine.take_conversions(),
        [(Conversion::Split, 7, AT, MIB2)]
    );
    for i in [0, 5, 511] {
        assert_eq!(level_at(&space, AT + i * PAGE), Some(Level::L3));
        assert_eq!(pfn_at(&space, AT + i * PAGE), Some(frame.pfn().raw() + i));
        let pte = raw(&space, AT + i * PAGE);
        assert!(pte.young() && pte.dirty() && pte.is_contiguous());
    }
    machine.start_log();
    assert!(collapse(&space, &graves));
    assert_broken_before_made(&machine.take_log(), PLAIN);
    assert_eq!(level_at(&space, AT), Some(Level::L2));
    assert!(raw(&space, AT).dirty() && raw(&space, AT).young());
    assert_eq!(references(&frame, machine), 513);
    drop(frame);
    end(space, &graves);
}

/// Nobody may reach a page before it has tag storage (law 13), however its block is cut.
#[test]
fn a_block_without_tag_storage_is_split_into_pages_without() {
    let (machine, space, graves, frame) = mapped();
    assert!(touch(&space, AT, true));
    let waiting = raw(&space, AT).with_tag_storage(false);
    entry(&space, AT).1.store(waiting.raw(), SeqCst);
    split(&space, AT).expect("memory");
    for i in [0, 5, 511] {
        let pte = raw(&space, AT + i * PAGE);
        assert!(pte.young() && pte.dirty());
        assert_eq!(
            pte.invalid_reason(),
            Some(Invalid::NoTagStorage),
            "page {i}"
        );
        let place = PhysAddr::new(frame.pfn().start().raw() + i * PAGE);
        assert_eq!(machine.format().pa(pte, Level::L3), place);
    }
    assert!(
        !collapse(&space, &graves),
        "what cannot be reached is no block"
    );
    assert_eq!(references(&frame, machine), 513);
    drop(frame);
    end(space, &graves);
}

#[test]
fn a_collapse_gathers_what_one_page_had_recorded() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    install_folio(&space, AT, folio(machine, 9), 512, Attrs::user(RW));
    assert!(touch(&space, AT + 300 * PAGE, true));
    assert!(collapse(&space, &graves));
    assert!(raw(&space, AT).dirty() && raw(&space, AT).young());
    end(space, &graves);
}

#[test]
fn tables_of_unequal_entries_are_not_collapsed() {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (user(machine), Graveyard::new());
    let frame = folio(machine, 9);
    assert!(!collapse(&space, &graves), "no table");
    install_folio(&space, AT, frame.page(0), 511, young());
    assert!(!collapse(&space, &graves), "a hole");
    install(&space, AT + 511 * PAGE, folio(machine, 0), young());
    assert!(!collapse(&space, &graves), "another frame");
    zap(&space, &graves, AT + 511 * PAGE, AT + MIB2);
    install(&space, AT + 511 * PAGE, frame.page(511), young());
    for prot in [Prot::READ, Prot::empty()] {
        protect(&space, &graves, (AT + 7 * PAGE, AT + 8 * PAGE), prot);
        assert!(!collapse(&space, &graves), "other rights: {prot}");
        protect(&space, &graves, (AT + 7 * PAGE, AT + 8 * PAGE), RW);
    }
    common::each_leaf(&space, &graves, (AT, AT + PAGE), |leaf, gather| {
        leaf.mark_uffd_wp(Marking::Present, gather);
    });
    assert!(!collapse(&space, &graves), "a mark");
    common::each_leaf(&space, &graves, (AT, AT + MIB2), |leaf, gather| {
        leaf.mark_uffd_wp(Marking::Present, gather);
    });
    assert!(!collapse(&space, &graves), "a mark on every page");
    zap(&space, &graves, AT, AT + MIB2);
    // Frames of two folios, and of one that begins elsewhere.
    install_folio(&space, AT, folio(machine, 8), 256, young());
    install_folio(&space, AT + 256 * PAGE, folio(machine, 8), 256, young());
    assert!(!collapse(&space, &graves), "two folios");
    drop(frame);
    end(space, &graves);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn a_part_of_a_block_is_zapped_or_protected_after_a_split() {
    let (machine, space, graves, frame) = mapped();
    protect(&space, &graves, (AT + PAGE, AT + 2 * PAGE), Prot::READ);
    for i in 0..512 {
        let Walked::Seen { value, level, .. } = walk(&space, AT + i * PAGE) else {
            panic!("page {i} is gone")
        };
        assert_eq!((level, value.writable()), (Level::L3, i != 1), "page {i}");
    }
    assert!(!contiguous(&space, AT, 16).contains(&true));
    zap(&space, &graves, AT, AT + 100 * PAGE);
    assert_eq!(references(&frame, machine), 413);
    zap(&space, &graves, AT, AT + MIB2);
    assert_eq!(references(&frame, machine), 1);
    drop(frame);
    end(space, &graves);
}

#[test]
fn a_whole_block_is_zapped_and_protected_as_one_entry() {
    let (machine, space, graves, frame) = mapped();
    protect(&space, &graves, (AT, AT + MIB2), Prot::READ);
    assert_eq!(level_at(&space, AT), Some(Level::L2));
    assert!(!raw(&space, AT).writable());
    zap(&space, &graves, AT, AT + MIB2);
    assert_eq!(
        (level_at(&space, AT), references(&frame, machine)),
        (None, 1)
    );
    drop(frame);
    end(space, &graves);
}

#[test]
fn a_block_is_moved_with_its_references() {
    let (machine, space, graves, frame) = mapped();
    let stay = ();
    let section = machine.read_side(&stay);
    let mut gather = Gather::new();
    let visit = space.cursor(range(AT, AT + MIB2), &section).visit();
    let Some(Visit::Block(block)) = visit else {
        panic!("a block")
    };
    let moved = block.take_moved(&mut gather);
    drop(block);
    release(&space, &graves, &mut gather);
    let (error, moved) = space
        .put_moved_block(AT + PAGE, moved, &section)
        .expect_err("misaligned");
    assert_eq!(error, LockError::Table(TableError::BadRange));
    space
        .put_moved_block(AT + GIB, moved, &section)
        .expect("room");
    assert_eq!(level_at(&space, AT), None);
    assert_eq!(pfn_at(&space, AT + GIB + PAGE), Some(frame.pfn().raw() + 1));
    assert_eq!(references(&frame, machine), 513);
    drop(frame);
    end(space, &graves);
}

#[test]
fn a_special_block_of_1_gib_is_split_down_to_pages_and_counts_nothing() {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (user(machine), Graveyard::new());
    // Frames that are somebody's: their counts must not be touched.
    let others = folio(machine, 9);
    let (stay, pa) = ((), PhysAddr::new(GIB));
    let section = machine.read_side(&stay);
    let attrs = young().with_special(true);
    space
        .map_special_block(GIB, Level::L1, pa, attrs, &section, || true)
        .expect("room");
    assert_eq!(level_at(&space, GIB), Some(Level::L1));
    let at = GIB + (others.pfn().raw() << 12) - pa.raw();
    zap(&space, &graves, at, at + 3 * PAGE);
    assert_eq!(level_at(&space, at), None);
    assert_eq!(level_at(&space, at + 3 * PAGE), Some(Level::L3));
    assert_eq!(level_at(&space, GIB + 600 * MIB2 / 2), Some(Level::L2));
    assert_eq!(pfn_at(&space, at + 3 * PAGE), Some(others.pfn().raw() + 3));
    assert_eq!(references(&others, machine), 1);
    drop(others);
    end(space, &graves);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (machine, space, graves, frame) = mapped();
    let occupied = map_block(&space, AT, frame.page(0));
    assert_eq!(occupied, Err(LockError::Table(TableError::Occupied)));
    for (va, frame) in [
        (AT + GIB + PAGE, frame.page(0)),
        (AT + GIB, folio(machine, 8)),
    ] {
        let refused = map_block(&space, va, frame);
        assert_eq!(refused, Err(LockError::Table(TableError::BadRange)));
    }
    assert_eq!(references(&frame, machine), 513);
    drop(frame);
    end(space, &graves);
}

#[test]
fn without_memory_for_a_split_the_block_stays() {
    let (machine, space, graves, frame) = mapped();
    let (_, cell) = entry(&space, AT);
    let word = cell.load(SeqCst);
    let stay = ();
    let section = machine.read_side(&stay);
    for by_hook in [false, true] {
        match by_hook {
            true => machine.refuse_after(0),
            false => machine.frames().fail_after(0),
        }
        assert!(split(&space, AT).is_err());
        assert!(
            space
                .split_ends(range(AT + PAGE, AT + MIB2), &section)
                .is_err()
        );
        let mut gather = Gather::new();
        assert_eq!(
            space.zap(
                range(AT + PAGE, AT + MIB2),
                Zap::REGION_GONE,
                &mut gather,
                &section
            ),
            AT + PAGE
        );
        assert!(gather.is_empty());
        machine.refuse_after(u64::MAX);
        machine.frames().fail_after(u64::MAX);
        assert_eq!(cell.load(SeqCst), word);
    }
    space
        .split_ends(range(AT + PAGE, AT + MIB2), &section)
        .expect("memory");
    assert_eq!(level_at(&space, AT), Some(Level::L3));
    drop(frame);
    end(space, &graves);
}
