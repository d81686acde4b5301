//! Corners of the engine on a host machine: ranges that leave the space, roots that were narrow,
//! memory that is not counted, changes that nobody has flushed yet.

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::{Geometry, Level};
use arm64::pte::Format;
use model::HostMachine;
use pgtable::{Gather, Graveyard, Machine, PageTable, ReadSide, User, Visit, Walked, Zap};

const PAGE: u64 = 4096;
const BLOCK: u64 = Level::L2.size();

type Space = PageTable<User, HostMachine>;

fn machine(pages: u64) -> &'static HostMachine {
    HostMachine::new(pages, Format::NORMAL, 1)
}

fn space(machine: &'static HostMachine, va_bits: u8) -> Space {
    PageTable::new(machine, 5, Geometry::for_va_bits(va_bits)).expect("a root")
}

fn range(start: u64, end: u64) -> VaRange {
    VaRange::new(VirtAddr::new(start), VirtAddr::new(end)).expect("a range")
}

fn attrs() -> Attrs {
    Attrs::user(Prot::RW).with_young(true)
}

fn fill(space: &Space, va: u64, section: &ReadSide<'_>) {
    let frame = space
        .machine()
        .frames()
        .alloc_fresh(0, true)
        .expect("a frame");
    let leaf = space.lock_leaf(va, section, || true).expect("a leaf table");
    leaf.install(va, frame.into_user(), attrs())
        .expect("an empty slot");
}

fn finish(space: &Space, gather: &mut Gather) {
    let flushed = gather.flush(space);
    gather.release(space.machine(), &Graveyard::new(), &flushed);
}

fn zap(space: &Space, start: u64, end: u64, section: &ReadSide<'_>) {
    let mut at = start;
    while at < end {
        let mut gather = Gather::new();
        at = space.zap(range(at, end), Zap::REGION_GONE, &mut gather, section);
        finish(space, &mut gather);
    }
}

#[test]
fn a_range_walk_ends_where_the_space_does() {
    let machine = machine(64);
    let space = space(machine, 39);
    let stay = ();
    let section = machine.read_side(&stay);
    let (end, span) = (1u64 << 39, Level::L1.size());
    // The index of the last address is below that of the first.
    for beyond in [PAGE, span, 2 * span + PAGE] {
        let mut seen = Vec::new();
        space.walk_range(end - 2 * span, end + beyond, &section, |va, walked| {
            assert!(matches!(walked, Walked::Miss { .. }));
            seen.push(va);
        });
        assert_eq!(seen, [end - 2 * span, end - span]);
    }
}

/// A root that translated a part of what its page can: after growing it is used whole, and stays, as
/// some CPU may have it loaded.
#[test]
fn a_narrow_former_root_stays_when_its_new_part_is_emptied() {
    let machine = machine(64);
    let space = space(machine, 36);
    let stay = ();
    let section = machine.read_side(&stay);
    assert_eq!(space.grow().expect("a level").levels(), 4);
    fill(&space, 1 << 37, &section);
    zap(&space, 1 << 37, (1 << 37) + PAGE, &section);
    assert_eq!(
        space.stats().at(Level::L1).freed,
        0,
        "the former root was freed"
    );
    assert_eq!(space.stats().at(Level::L2).freed, 1);
    // And so does the one between, when a second level was added.
    fill(&space, 1 << 45, &section);
    zap(&space, 0, 1 << 48, &section);
    assert_eq!(space.stats().live(), 2);
}

#[test]
fn pages_of_a_split_block_that_is_not_counted_are_not_given_back() {
    let machine = machine(64);
    let space = space(machine, 39);
    let stay = ();
    let section = machine.read_side(&stay);
    let special = Attrs {
        special: true,
        ..attrs()
    };
    let device = PhysAddr::new(0x800_0000);
    let mapped = space.map_special_block(BLOCK, Level::L2, device, special, &section, || true);
    mapped.expect("an empty slot");
    // The first page is taken out of its block, and the rest after it.
    zap(&space, BLOCK, BLOCK + PAGE, &section);
    assert!(matches!(
        space.walk(BLOCK + PAGE, &section),
        Walked::Seen { .. }
    ));
    zap(&space, BLOCK, 2 * BLOCK, &section);
    assert_eq!(space.stats().live(), 1);
}

/// One operation has taken the access rights of pages and not flushed yet; another unmaps them. The
/// entries are invalid by then, but some CPU may still translate by them, so the frames must not
/// go before a flush (law 12).
#[test]
fn what_another_has_made_invalid_is_flushed_before_it_is_freed() {
    let machine = machine(2048);
    let space = space(machine, 39);
    let stay = ();
    let section = machine.read_side(&stay);
    fill(&space, PAGE, &section);
    let folio = machine
        .frames()
        .alloc_fresh(9, false)
        .expect("a folio")
        .into_user();
    let mapped = space.map_block(BLOCK, Level::L2, folio, attrs(), &section, || true);
    mapped.expect("an empty slot");
    for (start, end) in [(PAGE, 2 * PAGE), (BLOCK, 2 * BLOCK)] {
        let (mut first, mut second) = (Gather::new(), Gather::new());
        space.protect(range(start, end), Prot::empty(), &mut first, &section);
        assert!(first.needs_flush());
        space.zap(range(start, end), Zap::REGION_GONE, &mut second, &section);
        assert!(second.page_count() > 0);
        assert!(
            second.needs_flush(),
            "frames are freed under a stale translation"
        );
        finish(&space, &mut second);
        finish(&space, &mut first);
    }
    // The same for a page that moves: its frame lives on, and may be freed by its new address.
    fill(&space, PAGE, &section);
    let (mut first, mut second) = (Gather::new(), Gather::new());
    space.protect(range(PAGE, 2 * PAGE), Prot::empty(), &mut first, &section);
    let mut cursor = space.cursor(range(PAGE, 2 * PAGE), &section);
    let Some(Visit::Table(leaf)) = cursor.visit() else {
        panic!("no leaf table");
    };
    let moved = leaf.take_moved(PAGE, &mut second).expect("an entry");
    assert!(
        second.needs_flush(),
        "a frame moves under a stale translation"
    );
    leaf.put_moved(PAGE, moved).expect("an empty slot");
    drop(leaf);
    finish(&space, &mut second);
    finish(&space, &mut first);
    zap(&space, 0, 2 * BLOCK, &section);
}

#[test]
fn collapsing_ends_when_the_gather_has_no_room_for_another_table() {
    const BLOCKS: u64 = 10;
    let machine = machine(8192);
    let space = space(machine, 39);
    let stay = ();
    let section = machine.read_side(&stay);
    for va in (0..BLOCKS).map(|i| i * BLOCK) {
        let folio = machine
            .frames()
            .alloc_fresh(9, false)
            .expect("a folio")
            .into_user();
        let leaf = space
            .lock_leaf(va, &section, || true)
            .expect("a leaf table");
        let mapped = leaf.install_folio(va, folio, 512, attrs(), None);
        mapped.expect("empty slots");
    }
    let mut gather = Gather::new();
    let done = (0..BLOCKS).filter(|i| space.collapse(i * BLOCK, &mut gather, &section));
    let done = done.count() as u64;
    assert!(done > 0 && done < BLOCKS);
    finish(&space, &mut gather);
    assert!(space.collapse(done * BLOCK, &mut gather, &section));
    finish(&space, &mut gather);
    zap(&space, 0, BLOCKS * BLOCK, &section);
    assert_eq!(space.stats().live(), 1);
}

/// The page of zeros gives way to a page of the program's own; a page that is counted does not, since
/// its reference would be lost.
#[test]
fn only_an_entry_that_is_not_counted_is_replaced_without_a_gather() {
    let machine = machine(64);
    let space = space(machine, 39);
    let before = machine.frames().stats().free;
    let fresh = || machine.frames().alloc_fresh(0, true).expect("a frame");
    let zero = fresh().into_user();
    let (stay, va) = ((), 7 * PAGE);
    let section = machine.read_side(&stay);
    {
        let leaf = space.lock_leaf(va, &section, || true).expect("a table");
        leaf.install_special(va, zero.pfn(), attrs()).expect("room");
    }
    let look = space.look(va, &section);
    assert_eq!(
        (look.empty_from(va, 8), look.empty_from(va + PAGE, 8)),
        (0, 8)
    );
    assert_eq!(
        look.empty_from(510 * PAGE, 8),
        2,
        "no further than the table"
    );
    let leaf = space.lock_seen(va, &look, || true).expect("a table");
    let (first, second) = (fresh().into_user(), fresh().into_user());
    let mapped = first.pfn();
    assert!(leaf.replace_special(va, look.value, first, attrs()).is_ok());
    let own = leaf.get(va);
    assert!(!own.special() && own.writable());
    // What was seen is not there any more; and what is there is counted.
    let second = leaf.replace_special(va, look.value, second, attrs());
    let second = second.expect_err("the entry is another");
    let second = leaf.replace_special(va, own, second, attrs());
    drop(second.expect_err("the entry is counted"));
    assert_eq!(leaf.get(va), own);
    drop(leaf);
    assert_eq!(
        machine.frames().stats().free,
        before - 4,
        "zeros, {mapped:?}, two tables"
    );
    zap(&space, va, va + PAGE, &section);
    drop(zero);
    // The tables wait for a grace period.
    assert_eq!(machine.frames().stats().free, before - 2);
}
