//! Slots that readers hold, and the two getters with their two contracts (PTE-03, PTE-06).

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::{Geometry, Level};
use arm64::pte::{Entry, Format};
use model::HostMachine;
use pgtable::{
    Gather, Graveyard, Leaf, Machine, PageTable, User, Visit, Zap, ptep_get, ptep_get_lockless,
};

const FORMAT: Format = Format { lpa2: true };
const VA: u64 = 0x1234_5678_9000;

fn space(va_bits: u8) -> PageTable<User, HostMachine> {
    let machine = HostMachine::new(256, FORMAT, 1);
    PageTable::new(machine, 7, Geometry::for_va_bits(va_bits)).expect("a root")
}

fn fill(leaf: &Leaf<'_, User, HostMachine>, machine: &'static HostMachine, va: u64) -> PhysAddr {
    let frame = machine.frames().alloc_fresh(0, true).expect("a frame");
    let pa = frame.pfn().start();
    let attrs = Attrs::user(Prot::READ | Prot::WRITE).with_young(true);
    assert!(leaf.install(va, frame.into_user(), attrs).is_ok());
    pa
}

/// What was mapped is given back, so that the space may be dropped.
fn empty(space: &PageTable<User, HostMachine>, end: u64) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let range = VaRange::new(VirtAddr::new(0), VirtAddr::new(end)).expect("a range");
    let mut at = 0;
    while at < end {
        let mut gather = Gather::new();
        let rest = VaRange::new(VirtAddr::new(at), range.end()).expect("a range");
        at = space.zap(rest, Zap::REGION_GONE, &mut gather, &section);
        let flushed = gather.flush(space);
        gather.release(space.machine(), &Graveyard::new(), &flushed);
    }
}

#[test]
fn each_level_has_slots_and_one_getter() {
    for va_bits in [39, 48, 52] {
        let va = VA & ((1 << va_bits) - 1);
        let (space, stay) = (space(va_bits), ());
        let machine = space.machine();
        let section = machine.read_side(&stay);
        let root = space.geometry().root_level();
        assert!(space.slot_of(va, Level::L3, &section).is_none());
        assert!(space.slot_of(1 << va_bits, root, &section).is_none());
        let leaf = space.lock_leaf(va, &section, || true).expect("a leaf");
        let pa = fill(&leaf, machine, va);
        drop(leaf);
        let mut table = space.root_word().root();
        for level in Level::ALL {
            let slot = space.slot_of(va, level, &section);
            assert_eq!(slot.is_some(), level >= root, "{va_bits} bits, {level:?}");
            let Some(slot) = slot else { continue };
            assert_eq!(slot.level(), level);
            let meta = machine.frames().meta(table.pfn()).expect("a record");
            assert_eq!(meta.table_level(), Some(level));
            match ptep_get_lockless(&slot, &section).decode(FORMAT, level) {
                Entry::Table(next) if level < Level::L3 => table = next,
                Entry::Leaf { pa: found, .. } if level == Level::L3 => assert_eq!(found, pa),
                other => panic!("{level:?}: {other:?}"),
            }
        }
        empty(&space, 1 << va_bits);
    }
}

#[test]
fn a_slot_is_a_place_to_look_at_again() {
    let (space, stay) = (space(39), ());
    let section = space.machine().read_side(&stay);
    let leaf = space.lock_leaf(0x4000, &section, || true).expect("a leaf");
    let slot = space.slot_of(0x4000, Level::L3, &section).expect("a table");
    assert!(ptep_get_lockless(&slot, &section).is_none());
    fill(&leaf, space.machine(), 0x4000);
    assert!(ptep_get_lockless(&slot, &section).young());
    assert_eq!(ptep_get(&leaf.slot(0x4000), leaf.guard()), leaf.get(0x4000));
    drop(leaf);
    empty(&space, 1 << 39);
    assert!(ptep_get_lockless(&slot, &section).is_none());
}

#[test]
fn the_slot_of_a_block_is_read_under_its_own_guard() {
    let (space, stay) = (space(39), ());
    let section = space.machine().read_side(&stay);
    let attrs = Attrs::user(Prot::READ).with_special(true);
    let at = PhysAddr::new(1 << 30);
    space
        .map_special_block(1 << 30, Level::L2, at, attrs, &section, || true)
        .expect("a block");
    let range = VaRange::new(VirtAddr::new(1 << 30), VirtAddr::new(513 << 21)).expect("a range");
    let mut cursor = space.cursor(range, &section);
    let Some(Visit::Block(block)) = cursor.visit() else {
        panic!("no block");
    };
    let value = ptep_get(&block.slot(), block.guard());
    assert_eq!((value, value.is_leaf(Level::L2)), (block.get(), true));
    drop(block);
    empty(&space, 1 << 39);
}

/// The locked getter wants the guard of the very table.
#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "PTE-03")]
fn the_guard_of_another_table_is_rejected() {
    let (space, stay) = (space(39), ());
    let section = space.machine().read_side(&stay);
    // Tables come out of the allocator at rising addresses, which is also the order of their locks.
    let vas = [0, 1 << 21];
    for va in vas {
        assert!(space.lock_leaf(va, &section, || true).is_ok());
    }
    let [low, high] = vas.map(|va| space.lock_existing(va, &section).expect("a leaf"));
    let _ = ptep_get(&low.slot(0), high.guard());
}
