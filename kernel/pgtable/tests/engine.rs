//! The engine on a host machine: the life of tables, changes of user and kernel spaces, walks.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

use arm64::addr::{PhysAddr, VaRange, VirtAddr};
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::{Geometry, Level};
use arm64::pte::Format;
use frame::{Class, Frames, SpaceKind, TableState, arena};
use model::HostMachine;
use pgtable::{
    Gather, Graveyard, Invalidation, Kernel, LockError, Machine, PageTable, TableError, User,
    Walked, Zap,
};
use proptest::prelude::*;

const PAGE: u64 = 4096;
const RW: Prot = Prot::READ.union(Prot::WRITE);

fn machine() -> &'static HostMachine {
    HostMachine::new(4096, Format { lpa2: false }, 1)
}

fn user(machine: &'static HostMachine, id: u32) -> PageTable<User, HostMachine> {
    PageTable::new(machine, id, Geometry::for_va_bits(39)).expect("a root")
}

fn range(start: u64, end: u64) -> VaRange {
    VaRange::new(VirtAddr::new(start), VirtAddr::new(end)).expect("a range")
}

fn fill(space: &PageTable<User, HostMachine>, va: u64) -> Result<(), TableError> {
    let machine = space.machine();
    let stay = ();
    let section = machine.read_side(&stay);
    let frame = machine
        .frames()
        .alloc_fresh(0, true)
        .map_err(|_| TableError::NoMemory)?;
    let leaf = match space.lock_leaf(va, &section, || true) {
        Ok(leaf) => leaf,
        Err(LockError::Table(error)) => return Err(error),
        Err(LockError::Retired) => unreachable!("nobody retires anything"),
    };
    leaf.install(va, frame.into_user(), Attrs::user(RW).with_young(true))
        .map_err(|_| TableError::Occupied)
}

/// Zaps, flushes, releases; returns the invalidations that took.
fn zap(space: &PageTable<User, HostMachine>, graves: &Graveyard, start: u64, end: u64) {
    let machine = space.machine();
    let stay = ();
    let section = machine.read_side(&stay);
    let mut at = start;
    while at < end {
        let mut gather = Gather::new();
        at = space.zap(range(at, end), Zap::REGION_GONE, &mut gather, &section);
        settle_gather(space, graves, &mut gather);
    }
}

fn settle_gather(space: &PageTable<User, HostMachine>, graves: &Graveyard, gather: &mut Gather) {
    let flushed = gather.flush(space);
    gather.release(space.machine(), graves, &flushed);
}

/// Protects, flushes; returns whether there was anything to flush.
fn protect(space: &PageTable<User, HostMachine>, start: u64, end: u64, prot: Prot) -> bool {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let (mut at, mut changed) = (start, false);
    while at < end {
        let mut gather = Gather::new();
        at = space.protect(range(at, end), prot, &mut gather, &section);
        changed |= gather.needs_flush();
        settle_gather(space, &Graveyard::new(), &mut gather);
    }
    changed
}

/// Starts a grace period for what is buried, lets it pass, destructs.
fn settle(machine: &'static HostMachine, graves: &Graveyard) {
    while !graves.is_empty() {
        graves.reap(machine, 99);
        machine.pass_grace_period(1);
    }
}

fn walk(space: &PageTable<User, HostMachine>, va: u64) -> Walked {
    let stay = ();
    space.walk(va, &space.machine().read_side(&stay))
}

fn end(mut space: PageTable<User, HostMachine>, graves: &Graveyard) {
    let machine = space.machine();
    zap(&space, graves, 0, 1 << 39);
    let mut gather = Gather::new();
    space.retire(&mut gather);
    let flushed = gather.flush(&space);
    gather.release(machine, graves, &flushed);
}

#[test]
fn a_page_in_an_empty_space_constructs_one_table_per_level_and_the_end_destructs_them() {
    let machine = machine();
    let before = machine.free_frames();
    let graves = Graveyard::new();
    let space = user(machine, 17);
    assert_eq!(machine.hook_calls(), (1, 0));
    fill(&space, 0x12_3456_7000).unwrap();
    assert_eq!(machine.hook_calls(), (3, 0));
    for level in [Level::L1, Level::L2, Level::L3] {
        assert_eq!(
            (space.stats().at(level).made, space.stats().at(level).freed),
            (1, 0)
        );
    }
    end(space, &graves);
    assert_eq!(
        machine.hook_calls(),
        (3, 0),
        "law 8: no destructor before the grace period"
    );
    assert_eq!(graves.reap(machine, 99), 0);
    machine.pass_grace_period(1);
    assert_eq!(graves.reap(machine, 99), 3);
    assert_eq!(machine.hook_calls(), (3, 3));
    assert_eq!(machine.stats().live(), 0);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn every_table_is_described_with_its_level_and_owner() {
    let machine = machine();
    let space = user(machine, 23);
    fill(&space, 0x40_0000).unwrap();
    let stay = ();
    let mut found = 0;
    let mut table = space.root_word().root();
    let format = machine.format();
    space.trace(0x40_0000, &machine.read_side(&stay), |level, _, pte| {
        let meta = machine.frames().meta(table.pfn()).unwrap();
        assert_eq!(
            (meta.class(), meta.table_state()),
            (Class::Table, TableState::Constructed)
        );
        assert_eq!((meta.table_level(), meta.owner()), (Some(level), 23));
        assert_eq!(meta.space_kind(), Some(SpaceKind::User));
        table = format.table_pa(pte);
        found += 1;
    });
    assert_eq!(found, 3);
    end(space, &Graveyard::new());
}

/// Descriptors know their level, so that a debug build notices a wrong link at the first step over
/// it (GUP-22).
#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "GUP-22")]
fn a_table_linked_at_another_level_is_noticed() {
    let machine = machine();
    // What is broken on purpose is not taken down in order.
    let space = std::mem::ManuallyDrop::new(user(machine, 23));
    fill(&space, 0x40_0000).expect("a page");
    let (stay, mut second) = ((), None);
    space.trace(0x40_0000, &machine.read_side(&stay), |level, _, pte| {
        if level == Level::L1 {
            second = Some(machine.format().table_pa(pte));
        }
    });
    let second = second.expect("a table of level 2").pfn();
    // SAFETY: nobody else is here; the entry gets its table back.
    let mut table = unsafe { machine.frames().table_from_entry(second) };
    table.set_level(Level::L3);
    let _linked = table.into_entry();
    let _walked = space.walk(0x40_0000, &machine.read_side(&stay));
}

#[test]
fn a_refusing_constructor_unwinds_at_every_level_and_a_retry_works() {
    for refuse_at in 0..3 {
        let machine = machine();
        let before = machine.free_frames();
        machine.refuse_after(refuse_at);
        let made = PageTable::<User, _>::new(machine, 5, Geometry::for_va_bits(39));
        let space = match made {
            Err(error) => {
                assert_eq!((refuse_at, error), (0, TableError::Refused));
                assert_eq!(machine.free_frames(), before);
                machine.refuse_after(u64::MAX);
                user(machine, 5)
            }
            Ok(space) => {
                assert_eq!(fill(&space, PAGE), Err(TableError::Refused));
                machine.refuse_after(u64::MAX);
                space
            }
        };
        fill(&space, PAGE).unwrap();
        let graves = Graveyard::new();
        end(space, &graves);
        settle(machine, &graves);
        assert_eq!(machine.free_frames(), before, "refused at {refuse_at}");
    }
}

#[test]
fn running_out_of_frames_at_every_point_leaks_nothing() {
    for pages in 1..6 {
        let machine = HostMachine::new(pages, Format { lpa2: true }, 1);
        let graves = Graveyard::new();
        if let Ok(space) = PageTable::<User, _>::new(machine, 9, Geometry::for_va_bits(39)) {
            let done = fill(&space, 0x7f_0000_0000);
            assert_eq!(done.is_ok(), pages >= 4, "{pages} pages");
            end(space, &graves);
        }
        settle(machine, &graves);
        assert_eq!(machine.free_frames(), pages);
    }
}

#[test]
fn zap_unlinks_empty_tables_and_keeps_those_in_use() {
    let machine = machine();
    let space = user(machine, 11);
    let graves = Graveyard::new();
    for va in [0, 0x1000, 0x20_0000, 0x4000_0000] {
        fill(&space, va).unwrap();
    }
    assert_eq!(space.stats().live(), 6);
    zap(&space, &graves, 0, 0x1000);
    assert_eq!(space.stats().live(), 6, "the leaf table still has a page");
    zap(&space, &graves, 0, 0x20_0000);
    assert_eq!(space.stats().live(), 5);
    zap(&space, &graves, 0x4000_0000, 0x4000_1000);
    assert_eq!(
        space.stats().live(),
        3,
        "leaf and middle table of the second GiB are gone"
    );
    assert!(matches!(walk(&space, 0x20_0000), Walked::Seen { .. }));
    end(space, &graves);
    assert_eq!(
        machine.stats().live(),
        machine.hook_calls().0,
        "none is destructed before grace"
    );
    settle(machine, &graves);
    assert_eq!(machine.stats().live(), 0);
}

#[test]
fn an_occupied_slot_gives_the_frame_back() {
    let machine = machine();
    let space = user(machine, 3);
    fill(&space, PAGE).unwrap();
    let free = machine.free_frames();
    assert_eq!(fill(&space, PAGE), Err(TableError::Occupied));
    assert_eq!(machine.free_frames(), free);
    end(space, &Graveyard::new());
}

#[test]
fn addresses_above_the_space_are_a_miss_and_a_bad_range() {
    let space = user(machine(), 3);
    assert!(matches!(walk(&space, 1 << 39), Walked::Miss { .. }));
    assert!(matches!(walk(&space, u64::MAX), Walked::Miss { .. }));
    assert_eq!(fill(&space, 1 << 39), Err(TableError::BadRange));
    end(space, &Graveyard::new());
}

#[test]
fn user_memory_is_written_only_through_writable_entries_which_turn_dirty() {
    let machine = machine();
    let space = user(machine, 3);
    fill(&space, PAGE).unwrap();
    let stay = ();
    let section = machine.read_side(&stay);
    let leaf = space.lock_existing(PAGE, &section).unwrap();
    assert!(!leaf.get(PAGE).dirty());
    leaf.write_user((PAGE + 8).into(), b"tessera").unwrap();
    assert!(leaf.get(PAGE).dirty());
    drop(leaf);
    assert!(protect(&space, PAGE, 2 * PAGE, Prot::READ));
    let leaf = space.lock_existing(PAGE, &section).unwrap();
    assert!(leaf.write_user((PAGE + 8).into(), b"denied!").is_err());
    assert!(
        leaf.get(PAGE).dirty(),
        "taking write permission away loses no dirty state"
    );
    drop(leaf);
    let mut bytes = [0; 7];
    space
        .read_user((PAGE + 8).into(), &mut bytes, &section)
        .unwrap();
    assert_eq!(&bytes, b"tessera");
    protect(&space, PAGE, 2 * PAGE, Prot::empty());
    assert!(
        space
            .read_user((PAGE + 8).into(), &mut bytes, &section)
            .is_err()
    );
    assert!(matches!(walk(&space, PAGE), Walked::Miss { value, .. } if !value.is_none()));
    end(space, &Graveyard::new());
}

#[test]
fn racing_cpus_make_one_table_where_one_is_missing() {
    let machine = HostMachine::new(4096, Format { lpa2: false }, 8);
    let space = user(machine, 3);
    std::thread::scope(|scope| {
        for cpu in 0..8u64 {
            let space = &space;
            scope.spawn(move || {
                for page in 0..32 {
                    fill(space, (page * 8 + cpu) * PAGE).unwrap();
                }
            });
        }
    });
    assert_eq!(space.stats().live(), 3);
    for page in 0..256 {
        assert!(
            matches!(walk(&space, page * PAGE), Walked::Seen { .. }),
            "page {page}"
        );
    }
    end(space, &Graveyard::new());
}

fn init_mm(machine: &'static HostMachine) -> PageTable<Kernel, HostMachine> {
    PageTable::new(machine, 1, Geometry::for_va_bits(48)).expect("a root")
}

const KVA: u64 = 0xffff_9000_0020_0000;

#[test]
fn kernel_ranges_use_blocks_where_they_fit_and_pages_at_the_edges() {
    let machine = machine();
    let space = init_mm(machine);
    let attrs = Attrs::kernel(RW, MemType::Normal);
    let pa = PhysAddr::new(0x8000_0000 - PAGE);
    space
        .edit()
        .map(range(KVA - PAGE, KVA + 0x20_0000 + PAGE), pa, attrs)
        .unwrap();
    let stay = ();
    let section = machine.read_side(&stay);
    let level = |va| match space.walk(va, &section) {
        seen @ Walked::Seen { level, .. } => {
            let base = va & !(level.size() - 1);
            Some((level, seen.address(base, machine.format()).unwrap()))
        }
        Walked::Miss { .. } => None,
    };
    assert_eq!(level(KVA - PAGE), Some((Level::L3, pa)));
    assert_eq!(
        level(KVA + 0x1234),
        Some((Level::L2, PhysAddr::new(0x8000_0000)))
    );
    assert_eq!(
        level(KVA + 0x20_0000),
        Some((Level::L3, PhysAddr::new(0x8020_0000)))
    );
    assert_eq!(level(KVA + 0x20_1000), None);
    let mut text = String::new();
    space.dump(&mut text, &section).unwrap();
    assert!(text.contains("ffff900000200000-ffff900000400000"), "{text}");
    assert!(
        text.ends_with("ranges both writable and executable: 0\n"),
        "{text}"
    );
}

#[test]
fn where_kernel_pages_have_been_a_block_comes_as_pages() {
    let machine = machine();
    let space = init_mm(machine);
    let attrs = Attrs::kernel(RW, MemType::Normal);
    let pa = PhysAddr::new(0x8000_0000);
    let page = range(KVA + PAGE, KVA + 2 * PAGE);
    space.edit().map(page, pa, attrs).unwrap();
    let _nothing_to_free = space.edit().unmap(page);
    let block = range(KVA, KVA + 0x20_0000);
    assert_eq!(space.edit().map(block, pa, attrs), Ok(()));
    let stay = ();
    let section = machine.read_side(&stay);
    let last = KVA + 0x20_0000 - PAGE;
    let seen = space.walk(last, &section);
    assert!(matches!(
        seen,
        Walked::Seen {
            level: Level::L3,
            ..
        }
    ));
    let expected = PhysAddr::new(pa.raw() + 511 * PAGE);
    assert_eq!(seen.address(last, machine.format()), Some(expected));
}

/// No lock of a table serialises them, but the token does (CTOR-09): the table and the count of
/// its entries lose no change of either.
#[test]
fn two_cpus_map_every_other_page_of_one_kernel_table() {
    let (pages, passes) = if cfg!(miri) { (16, 1) } else { (512, 100) };
    let machine = machine();
    let space = init_mm(machine);
    let attrs = Attrs::kernel(RW, MemType::Normal);
    let pa = |page: u64| PhysAddr::new(0x8000_0000 + page * PAGE);
    let at = |page: u64| range(KVA + page * PAGE, KVA + (page + 1) * PAGE);
    let together = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for first in 0..2 {
            let (space, together) = (&space, &together);
            scope.spawn(move || {
                together.wait();
                for pass in 1..=passes {
                    for page in (first..pages).step_by(2) {
                        space.edit().map(at(page), pa(page), attrs).expect("room");
                        if page % 8 < 2 || pass < passes {
                            let _nothing_to_free = space.edit().unmap(at(page));
                        }
                    }
                }
            });
        }
    });
    let stay = ();
    let section = machine.read_side(&stay);
    let (mut mapped, mut table) = (0, None);
    for page in 0..pages {
        let seen = space.walk(KVA + page * PAGE, &section);
        let expected = (page % 8 >= 2).then_some(pa(page));
        assert_eq!(seen.address(KVA + page * PAGE, machine.format()), expected);
        mapped += u32::from(expected.is_some());
    }
    space.trace(KVA, &section, |level, _, pte| {
        if level == Level::L2 {
            table = Some(machine.format().table_pa(pte));
        }
    });
    let meta = table.and_then(|table| machine.frames().meta(table.pfn()));
    assert_eq!(
        meta.map(|meta| meta.table_live().load(SeqCst)),
        Some(mapped)
    );
}

#[test]
fn a_kernel_mapping_over_another_is_refused_and_undone() {
    let machine = machine();
    let space = init_mm(machine);
    let attrs = Attrs::kernel(RW, MemType::Normal);
    let pa = PhysAddr::new(0x8000_0000);
    space
        .edit()
        .map(range(KVA + 4 * PAGE, KVA + 5 * PAGE), pa, attrs)
        .unwrap();
    let over = space.edit().map(range(KVA, KVA + 8 * PAGE), pa, attrs);
    assert_eq!(over, Err(TableError::Occupied));
    let stay = ();
    let section = machine.read_side(&stay);
    assert!(matches!(space.walk(KVA, &section), Walked::Miss { .. }));
    assert!(matches!(
        space.walk(KVA + 4 * PAGE, &section),
        Walked::Seen { .. }
    ));
    machine.take_invalidations();
    let _flushed = space.edit().unmap(range(KVA, KVA + 8 * PAGE));
    let want = Invalidation::Kernel {
        start: KVA,
        end: KVA + 8 * PAGE,
    };
    assert_eq!(machine.take_invalidations(), [want]);
    assert!(matches!(
        space.walk(KVA + 4 * PAGE, &section),
        Walked::Miss { .. }
    ));
}

#[test]
fn kernel_tables_have_no_split_lock_that_is_ever_taken() {
    let machine = machine();
    let space = init_mm(machine);
    let attrs = Attrs::kernel(RW, MemType::Normal);
    space
        .edit()
        .map(range(KVA, KVA + PAGE), PhysAddr::new(0x8000_0000), attrs)
        .unwrap();
    let before = machine.frames().stats().of(Class::Table);
    assert_eq!(
        before, 4,
        "four levels, one page each, nothing allocated for a lock"
    );
}

/// Builds a boot tree by hand in reserved memory, as boot does.
fn boot_tree(frames: &'static Frames, format: Format) -> PhysAddr {
    let table = |n: u64| PhysAddr::new(arena::BASE.raw() + n * PAGE);
    let write = |n: u64, index: usize, raw: u64| {
        let at = frames.window().virt(table(n)).cast::<u64>();
        // SAFETY: reserved arena memory that nobody else looks at yet.
        unsafe { at.add(index).write(raw) };
    };
    for n in 0..3 {
        write(n, 5, format.table(table(n + 1)).raw());
    }
    let attrs = Attrs::kernel(RW, MemType::Normal);
    write(
        3,
        9,
        format
            .leaf(PhysAddr::new(0x8000_0000), attrs, Level::L3)
            .raw(),
    );
    table(0)
}

#[test]
fn adoption_constructs_every_boot_table_once() {
    let machine = machine();
    let format = machine.format();
    // The machine's arena hands frames out from somewhere; take four that nobody else has.
    let boot = HostMachine::with_reserved(64, format, 8);
    let root = boot_tree(boot.frames(), format);
    // SAFETY: a well-formed tree in frames that nobody owns.
    let space =
        unsafe { PageTable::<Kernel, _>::adopt(boot, 1, Geometry::for_va_bits(48), root).unwrap() };
    assert_eq!(boot.hook_calls(), (4, 0));
    for level in [Level::L0, Level::L1, Level::L2, Level::L3] {
        assert_eq!(space.stats().at(level).adopted, 1);
    }
    let meta = boot.frames().meta(root.pfn()).unwrap();
    assert_eq!((meta.class(), meta.owner()), (Class::Table, 1));
    assert_eq!(meta.table_state(), TableState::Constructed);
    // SAFETY: the tree is fine but adopted already, which is what must be found out.
    let again = unsafe { PageTable::<Kernel, _>::adopt(boot, 1, Geometry::for_va_bits(48), root) };
    assert_eq!(again.err(), Some(TableError::BadRange));
}

#[derive(Clone, Debug)]
enum Op {
    Fill(u64),
    Zap(u64, u64),
    Protect(u64, u64, Prot),
    Move(u64, u64),
}

fn page() -> impl Strategy<Value = u64> {
    // Pages around table borders of two GiBs, so that tables come and go.
    prop_oneof![0..4u64, 510..514u64, (1u64 << 18) - 2..(1u64 << 18) + 2]
}

fn op() -> impl Strategy<Value = Op> {
    let prot = prop_oneof![Just(Prot::READ), Just(RW), Just(Prot::empty())];
    prop_oneof![
        4 => page().prop_map(Op::Fill),
        2 => (page(), 1..600u64).prop_map(|(at, len)| Op::Zap(at, at + len)),
        2 => (page(), 1..4u64, prot).prop_map(|(at, len, prot)| Op::Protect(at, at + len, prot)),
        1 => (page(), page()).prop_map(|(from, to)| Op::Move(from, to)),
    ]
}

fn apply(
    space: &PageTable<User, HostMachine>,
    graves: &Graveyard,
    model: &mut BTreeMap<u64, Prot>,
    op: &Op,
) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    match *op {
        Op::Fill(page) => {
            let done = fill(space, page * PAGE);
            assert_eq!(done.is_err(), model.contains_key(&page));
            model.entry(page).or_insert(RW);
        }
        Op::Zap(from, to) => {
            zap(space, graves, from * PAGE, to * PAGE);
            model.retain(|page, _| !(from..to).contains(page));
        }
        Op::Protect(from, to, prot) => {
            protect(space, from * PAGE, to * PAGE, prot);
            for page in from..to {
                model.entry(page).and_modify(|p| *p = prot);
            }
        }
        Op::Move(from, to) => {
            if !model.contains_key(&from) || model.contains_key(&to) {
                return;
            }
            drop(space.lock_leaf(to * PAGE, &section, || true).ok().unwrap());
            let mut gather = Gather::new();
            let moved = space
                .lock_existing(from * PAGE, &section)
                .unwrap()
                .take_moved(from * PAGE, &mut gather);
            settle_gather(space, graves, &mut gather);
            let leaf = space.lock_leaf(to * PAGE, &section, || true).ok().unwrap();
            leaf.put_moved(to * PAGE, moved.unwrap()).unwrap();
            let prot = model.remove(&from).unwrap();
            model.insert(to, prot);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 64 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_changes_agrees_with_a_map(ops in prop::collection::vec(op(), 1..60)) {
        let machine = HostMachine::new(1024, Format { lpa2: true }, 1);
        let free = machine.free_frames();
        let graves = Graveyard::new();
        let space = user(machine, 40);
        let mut model = BTreeMap::new();
        for op in &ops {
            apply(&space, &graves, &mut model, op);
            machine.pass_grace_period(1);
            graves.reap(machine, 99);
        }
        for page in (0..8).chain(505..520).chain((1 << 18) - 8..(1 << 18) + 8) {
            let want = model.get(&page).copied();
            match walk(&space, page * PAGE) {
                Walked::Seen { value, .. } => prop_assert_eq!(Some(value.prot() - Prot::USER), want),
                Walked::Miss { value, .. } if !value.is_none() => prop_assert_eq!(Some(Prot::empty()), want),
                Walked::Miss { .. } => prop_assert_eq!(None, want),
            }
        }
        prop_assert_eq!(machine.frames().stats().of(Class::User), model.len() as u64);
        end(space, &graves);
        settle(machine, &graves);
        prop_assert_eq!(machine.free_frames(), free);
    }
}
