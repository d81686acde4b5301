//! Lockless walks: every number of levels, every boundary, and other CPUs' changes between the
//! steps (GUP rows).

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use arm64::addr::PhysAddr;
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::{Geometry, Level};
use arm64::pte::Format;
use arrayvec::ArrayVec;
use common::{
    BLOCK, GIB, MIB2, PAGE, PLAIN, RW, Space, end, folio, install, install_folio, machine, only,
    pfn_at, range, release, shaped, user, walk, young, zap,
};
use frame::UserFrame;
use model::HostMachine;
use pgtable::{Gather, Graveyard, Kernel, Kind, Machine, PageTable, Pause, ReadSide, Walked};
use proptest::prelude::*;

const AT: u64 = 0x12_3440_0000;

/// What a range walk shows.
fn visits<K: Kind>(space: &PageTable<K, HostMachine>, start: u64, end: u64) -> Vec<(u64, Walked)> {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let mut seen = Vec::new();
    space.walk_range(start, end, &section, |va, walked| seen.push((va, walked)));
    seen
}

/// The frames that a range walk finds, by page.
fn frames(space: &Space, start: u64, end: u64) -> BTreeMap<u64, u64> {
    let format = space.machine().format();
    let all = visits(space, start, end).into_iter();
    all.filter_map(|(va, walked)| Some((va, walked.address(va, format)?.pfn().raw())))
        .collect()
}

/// The level of the entry where a walk ended.
fn level_of(walked: &Walked) -> Level {
    match walked {
        Walked::Seen { level, .. } | Walked::Miss { level, .. } => *level,
    }
}

/// The range, walked page by page from the root: what a range walk has to agree with.
fn oracle(space: &Space, start: u64, end: u64) -> Vec<(u64, Walked)> {
    let (mut va, mut seen) = (start, Vec::new());
    while va != end {
        let walked = walk(space, va);
        seen.push((va, walked));
        va = space.geometry().addr_end(va, end, level_of(&walked));
    }
    seen
}

/// Maps a fresh page; its frame number.
fn map(space: &Space, va: u64) -> u64 {
    let frame = folio(space.machine(), 0);
    let pfn = frame.pfn().raw();
    install(space, va, frame, young());
    pfn
}

#[test]
fn every_number_of_levels_and_every_boundary() {
    for levels in 2..=5 {
        let machine = HostMachine::new(512, Format { lpa2: levels == 5 }, 1);
        let shape = Geometry::for_levels(levels).expect("a shape");
        let (space, graves) = (shaped(machine, shape), Graveyard::new());
        let top = 1 << shape.va_bits();
        let mut want = BTreeMap::new();
        for level in shape.walk() {
            for page in [shape.span(level) - PAGE, shape.span(level)] {
                want.entry(page).or_insert_with(|| map(&space, page));
            }
        }
        for page in [0, top - PAGE] {
            want.entry(page).or_insert_with(|| map(&space, page));
        }
        for (&page, &pfn) in &want {
            assert_eq!(
                pfn_at(&space, page),
                Some(pfn),
                "{levels} levels, {page:#x}"
            );
        }
        for level in shape.walk() {
            let boundary = shape.span(level);
            let (from, to) = (boundary - PAGE, boundary + PAGE);
            let part: BTreeMap<_, _> = want.range(from..to).map(|(&p, &f)| (p, f)).collect();
            assert_eq!(frames(&space, from, to), part, "{levels} levels, {level:?}");
            assert_eq!(visits(&space, from, to), oracle(&space, from, to));
        }
        assert_eq!(frames(&space, 0, top), want, "{levels} levels");
        // An interpreter takes minutes over that many walks.
        if !cfg!(miri) || levels == 2 {
            assert_eq!(visits(&space, 0, top), oracle(&space, 0, top));
        }
        // Beyond the space there is nothing.
        assert_eq!(visits(&space, top, top + PAGE), []);
        assert_eq!(visits(&space, top - PAGE, top + PAGE).len(), 1);
        assert!(matches!(walk(&space, top), Walked::Miss { .. }));
        end(space, &graves);
    }
}

#[test]
fn a_range_that_ends_at_the_top_of_the_address_space() {
    let machine = machine();
    let space: PageTable<Kernel, _> =
        PageTable::new(machine, 1, Geometry::for_va_bits(48)).expect("a root");
    let (pages, block) = (0u64.wrapping_sub(2 * PAGE), 0u64.wrapping_sub(MIB2));
    let attrs = Attrs::kernel(RW, MemType::Normal);
    let pa = PhysAddr::new(0x8000_0000);
    space.edit().map(range(pages, 0), pa, attrs).expect("room");
    let seen = visits(&space, pages.wrapping_sub(PAGE), 0);
    let at: Vec<_> = seen.iter().map(|(va, _)| *va).collect();
    assert_eq!(at, [pages - PAGE, pages, pages + PAGE], "GUP-24");
    let valid = seen
        .iter()
        .filter(|(_, walked)| matches!(walked, Walked::Seen { .. }));
    assert_eq!(valid.count(), 2, "GUP-24: two pages were mapped");
    let _flushed = space.edit().protect(range(pages, 0), Prot::READ);
    for (_, walked) in visits(&space, pages, 0) {
        assert!(matches!(walked, Walked::Seen { value, .. } if !value.writable()));
    }
    let _flushed = space.edit().unmap(range(pages, 0));
    assert!(matches!(
        visits(&space, pages, 0)[..],
        [(_, Walked::Miss { .. }), _]
    ));
    // In a table of its own a block can end there too.
    let other: PageTable<Kernel, _> =
        PageTable::new(machine, 1, Geometry::for_va_bits(48)).expect("a root");
    other.edit().map(range(block, 0), pa, attrs).expect("room");
    let seen = visits(&other, block, 0);
    assert!(
        matches!(
            seen[..],
            [(
                _,
                Walked::Seen {
                    level: Level::L2,
                    ..
                }
            )]
        ),
        "{seen:?}"
    );
    let _flushed = other.edit().unmap(range(block, 0));
    assert!(matches!(
        visits(&other, block, 0)[..],
        [(_, Walked::Miss { .. })]
    ));
}

#[test]
fn absent_ranges_blocks_and_contiguous_spans_are_one_visit_each() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let stay = ();
    let section = machine.read_side(&stay);
    let large = folio(machine, 9);
    let pa = large.pfn().start();
    let done = space.map_block(GIB + MIB2, Level::L2, large, young(), &section, || true);
    done.expect("room");
    install_folio(&space, GIB + 2 * MIB2, folio(machine, 5), 32, young());
    let seen = visits(&space, 0, GIB + 2 * MIB2 + 2 * BLOCK);
    let at: Vec<_> = seen
        .iter()
        .map(|(va, walked)| (*va, level_of(walked)))
        .collect();
    let mut want = vec![(0, Level::L1), (GIB, Level::L2), (GIB + MIB2, Level::L2)];
    want.extend((0..32).map(|i| (GIB + 2 * MIB2 + i * PAGE, Level::L3)));
    assert_eq!(at, want);
    for (va, walked) in &seen[2..] {
        let Walked::Seen { span, level, .. } = walked else {
            panic!("{va:#x}: {walked:?}")
        };
        assert_eq!(*span, if *level == Level::L2 { MIB2 } else { BLOCK });
    }
    // A range may begin and end inside of a block.
    let inside = visits(&space, GIB + MIB2 + 5 * PAGE, GIB + MIB2 + 7 * PAGE);
    assert_eq!(inside.len(), 1);
    let first = inside[0].1.address(inside[0].0, machine.format());
    assert_eq!(first, Some(PhysAddr::new(pa.raw() + 5 * PAGE)));
    end(space, &graves);
}

/// The layout of the failing case: 256 pages to a table, then 2048 entries a level, three levels.
fn three_levels_of_2_gib() -> Geometry {
    Geometry::from_index_bits(&[11, 11, 8]).expect("a shape")
}

/// GUP-07 and GUP-08: where the second half of the range would alias something is mapped on
/// purpose, so that a walker which goes on with the entry it has returns a wrong page, not none.
#[test]
fn a_range_across_2_gib_in_three_levels_finds_the_pages_of_both_sides() {
    let machine = HostMachine::new(512, PLAIN, 1);
    let (space, graves) = (shaped(machine, three_levels_of_2_gib()), Graveyard::new());
    assert_eq!(space.geometry().span(Level::L1), 2 * GIB);
    let boundary = 6 * GIB;
    let below = map(&space, boundary - PAGE);
    let above = map(&space, boundary);
    let alias = map(&space, boundary - 2 * GIB);
    assert_ne!(above, alias);
    let found = frames(&space, boundary - PAGE, boundary + PAGE);
    assert_eq!(
        found,
        BTreeMap::from([(boundary - PAGE, below), (boundary, above)])
    );
    end(space, &graves);
}

#[test]
fn a_space_of_wide_tables_grows_and_crosses_its_old_end() {
    let machine = HostMachine::new(512, Format::LPA2, 1);
    let shape = Geometry::from_index_bits(&[9, 11, 8]).expect("a shape");
    let (space, graves) = (shaped(machine, shape), Graveyard::new());
    let old_end = 1u64 << space.geometry().va_bits();
    let below = map(&space, old_end - PAGE);
    space.grow().expect("a fourth level");
    let above = map(&space, old_end);
    let alias = map(&space, 0);
    assert_ne!(above, alias);
    let found = frames(&space, old_end - PAGE, old_end + PAGE);
    assert_eq!(
        found,
        BTreeMap::from([(old_end - PAGE, below), (old_end, above)])
    );
    end(space, &graves);
}

/// The cell of the entry of `level` on the way to `va`.
fn cell(space: &Space, va: u64, wanted: Level) -> &'static AtomicU64 {
    let stay = ();
    let machine = space.machine();
    let mut table = space.root_word().root();
    let mut found = None;
    space.trace(va, &machine.read_side(&stay), |level, index, pte| {
        if level == wanted {
            let cells = machine.frames().cells(table.pfn());
            // SAFETY: an index of a table in an arena's memory, which is never given back.
            found = Some(unsafe { cells.add(index).as_ref() });
        }
        table = machine.format().table_pa(pte);
    });
    found.expect("an entry of that level")
}

#[test]
fn a_walk_goes_on_with_the_value_it_has_loaded() {
    for (steps, level) in [(0, Level::L1), (1, Level::L2)] {
        let machine = machine();
        let (space, graves) = (user(machine), Graveyard::new());
        let pfn = map(&space, AT);
        let upper = cell(&space, AT, level);
        let word = upper.load(SeqCst);
        for by_range in [false, true] {
            (0..steps).for_each(|_| machine.script(Pause::WalkStep, || {}));
            machine.script(Pause::WalkStep, move || upper.store(0, SeqCst));
            let found = match by_range {
                true => frames(&space, AT, AT + PAGE).get(&AT).copied(),
                false => pfn_at(&space, AT),
            };
            assert_eq!(machine.script_left(), 0);
            upper.store(word, SeqCst);
            assert_eq!(
                found,
                Some(pfn),
                "GUP-01: {level:?}, range walk: {by_range}"
            );
        }
        end(space, &graves);
    }
}

#[test]
fn a_table_that_is_replaced_under_a_walker_stays_a_table_until_it_has_left() {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (Arc::new(user(machine)), Arc::new(Graveyard::new()));
    map(&space, AT);
    let (changed, buried) = (Arc::clone(&space), Arc::clone(&graves));
    machine.script(Pause::WalkStep, || {});
    machine.script(Pause::WalkStep, move || {
        zap(&changed, &buried, AT, AT + PAGE);
        map(&changed, AT);
        assert_eq!(buried.reap(machine, 99), 0);
        assert_eq!(machine.hook_calls().1, 0, "GUP-11: the walker is inside");
    });
    let seen = walk(&space, AT);
    assert_eq!(machine.script_left(), 0);
    let old_and_empty = matches!(seen, Walked::Miss { value, level: Level::L3 } if value.is_none());
    assert!(old_and_empty, "GUP-10: {seen:?}");
    assert!(matches!(walk(&space, AT), Walked::Seen { .. }));
    end(only(space), &only(graves));
    assert_eq!(machine.free_frames(), before);
}

/// Runs a pin during which `act` happens at `at`; whether it got the page, by either way to pin.
fn pin_during(at: Pause, act: fn(&Space, &Graveyard)) -> bool {
    let alone = pin_by(at, act, |space, section| space.pin(AT, section).ok());
    let first = pin_by(at, act, |space, section| {
        let mut pins = ArrayVec::<UserFrame, 2>::new();
        space.gup_fast(AT + 9, 1, false, &mut pins, section);
        assert!(pins.len() <= 1, "one was asked for");
        pins.pop()
    });
    assert_eq!(alone, first, "{at:?}");
    alone
}

/// A way to pin the page at [`AT`].
type PinOne = fn(&Space, &ReadSide<'_>) -> Option<UserFrame>;

/// Pins by `pin`. The test has a reference of its own, so that a pin without the second look
/// succeeds.
fn pin_by(at: Pause, act: fn(&Space, &Graveyard), pin: PinOne) -> bool {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (Arc::new(user(machine)), Arc::new(Graveyard::new()));
    let frame = folio(machine, 0);
    install(&space, AT, frame.page(0), young());
    install(&space, AT + PAGE, folio(machine, 0), young());
    let (changed, buried) = (Arc::clone(&space), Arc::clone(&graves));
    machine.script(at, move || act(&changed, &buried));
    let stay = ();
    let section = machine.read_side(&stay);
    let pinned = pin(&space, &section);
    assert_eq!(machine.script_left(), 0);
    let got = pinned.is_some();
    drop(pinned);
    // An entry without access still has its reference.
    let pte = common::raw(&space, AT);
    let same = PLAIN.pa(pte, Level::L3) == frame.pfn().start();
    let mapped = u32::from(pte.maps_frame(Level::L3) && same);
    let meta = machine
        .frames()
        .meta(frame.pfn())
        .expect("a frame of the bank");
    assert_eq!(
        meta.references(),
        1 + mapped,
        "GUP-13: no reference is left behind"
    );
    drop(frame);
    end(only(space), &only(graves));
    assert_eq!(machine.free_frames(), before);
    got
}

const PIN_PAUSES: [Pause; 2] = [Pause::PinBeforeReference, Pause::PinBeforeRecheck];

#[test]
fn a_page_that_is_unmapped_during_a_pin_is_not_pinned() {
    for at in PIN_PAUSES {
        assert!(
            !pin_during(at, |space, graves| zap(space, graves, AT, AT + PAGE)),
            "{at:?}"
        );
        let table_too: fn(&Space, &Graveyard) = |space, graves| zap(space, graves, AT, AT + BLOCK);
        assert!(!pin_during(at, table_too), "{at:?}");
    }
}

#[test]
fn a_page_that_is_replaced_or_protected_during_a_pin_is_not_pinned() {
    for at in PIN_PAUSES {
        let replace: fn(&Space, &Graveyard) = |space, graves| {
            zap(space, graves, AT, AT + PAGE);
            map(space, AT);
        };
        assert!(!pin_during(at, replace), "{at:?}");
        let hide: fn(&Space, &Graveyard) = |space, graves| {
            common::protect(space, graves, (AT, AT + PAGE), Prot::empty());
        };
        assert!(!pin_during(at, hide), "{at:?}");
    }
}

#[test]
fn accessed_and_dirty_may_change_during_a_pin() {
    for at in PIN_PAUSES {
        assert!(
            pin_during(at, |space, _| assert!(common::touch(space, AT, true))),
            "{at:?}"
        );
        assert!(pin_during(at, |space, graves| zap(
            space,
            graves,
            AT + PAGE,
            AT + 2 * PAGE
        )));
    }
}

/// The numbers of the pages that are pinned from `page` on, of `count`, at most four.
fn pinned(space: &Space, page: u64, count: u64) -> Vec<u64> {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let mut pins = ArrayVec::<UserFrame, 4>::new();
    space.gup_fast(AT + page * PAGE, count, false, &mut pins, &section);
    pins.iter().map(|pin| pin.pfn().raw()).collect()
}

#[test]
fn pages_are_pinned_up_to_the_first_that_is_not_there() {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (user(machine), Graveyard::new());
    let pages = [0, 1, 2, 4].map(|page| {
        let frame = folio(machine, 0);
        let number = frame.pfn().raw();
        install(&space, AT + page * PAGE, frame, young());
        number
    });
    assert_eq!(pinned(&space, 0, 9), pages[..3]);
    assert_eq!(pinned(&space, 1, 9), pages[1..3]);
    assert_eq!(pinned(&space, 1, 1), pages[1..2]);
    assert_eq!(pinned(&space, 3, 9), []);
    assert_eq!(pinned(&space, 4, 9), pages[3..]);
    assert_eq!(
        pinned(&space, u64::MAX / PAGE / 4, 9),
        [],
        "above the space"
    );
    zap(&space, &graves, AT, AT + MIB2);
    end(space, &graves);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn pages_of_a_block_are_pinned_as_they_follow_each_other() {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (user(machine), Graveyard::new());
    let block = folio(machine, 9);
    let first = block.pfn().raw();
    let stay = ();
    let section = machine.read_side(&stay);
    let mapped = space.map_block(AT, Level::L2, block, young(), &section, || true);
    mapped.expect("room for a block");
    let tail = |page: u64| (page..first + 512).collect::<Vec<_>>();
    assert_eq!(
        pinned(&space, 5, 9),
        (first + 5..first + 9).collect::<Vec<_>>()
    );
    assert_eq!(
        pinned(&space, 510, 9),
        tail(first + 510),
        "nothing behind it"
    );
    let last = folio(machine, 0);
    let number = last.pfn().raw();
    install(&space, AT + MIB2, last, young());
    assert_eq!(
        pinned(&space, 510, 9),
        [tail(first + 510), vec![number]].concat()
    );
    zap(&space, &graves, AT, AT + 2 * MIB2);
    end(space, &graves);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn a_frame_that_has_gone_is_not_pinned() {
    let machine = machine();
    let (space, graves) = (Arc::new(user(machine)), Arc::new(Graveyard::new()));
    map(&space, AT);
    let (changed, buried) = (Arc::clone(&space), Arc::clone(&graves));
    machine.script(Pause::PinBeforeReference, move || {
        zap(&changed, &buried, AT, AT + PAGE);
    });
    let stay = ();
    let section = machine.read_side(&stay);
    assert!(space.pin(AT, &section).is_err());
    end(only(space), &only(graves));
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "a check of builds with debug assertions"
)]
#[should_panic(expected = "GUP-22")]
fn a_table_linked_at_the_wrong_level_is_found_out() {
    let machine = machine();
    let space = user(machine);
    map(&space, AT);
    // The entry of level 2 names the table of level 2 that it is in.
    let word = cell(&space, AT, Level::L1).load(SeqCst);
    cell(&space, AT, Level::L2).store(word, SeqCst);
    walk(&space, AT);
}

#[test]
fn every_table_is_visited_parents_first() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    map(&space, 0);
    map(&space, MIB2);
    map(&space, GIB);
    let stay = ();
    let mut levels = Vec::new();
    space.each_table(&machine.read_side(&stay), |level, pa| {
        let meta = machine
            .frames()
            .meta(pa.pfn())
            .expect("a frame of the bank");
        assert_eq!(meta.table_level(), Some(level));
        levels.push(level);
    });
    use Level::{L1, L2, L3};
    assert_eq!(levels, [L1, L2, L3, L3, L2, L3]);
    let mut gather = Gather::new();
    release(&space, &graves, &mut gather);
    end(space, &graves);
}

fn shape() -> impl Strategy<Value = Geometry> {
    prop::collection::vec(1..5u8, 2..6).prop_map(|bits| {
        Geometry::from_index_bits(&bits)
            .expect("a shape")
            .with_cont_entries(2)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 128 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// GUP-04 and GUP-05 over shapes of all depths and widths.
    #[test]
    fn a_range_walk_visits_the_slots_that_single_walks_end_in(
        shape in shape(),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ends in any::<[prop::sample::Index; 2]>(),
    ) {
        let machine = HostMachine::new(256, PLAIN, 1);
        let (space, graves) = (shaped(machine, shape), Graveyard::new());
        let pages = 1usize << (shape.va_bits() - 12);
        let mut mapped = BTreeMap::new();
        for index in at {
            let va = index.index(pages) as u64 * PAGE;
            mapped.entry(va).or_insert_with(|| map(&space, va));
        }
        let mut ends = ends.map(|index| index.index(pages + 1) as u64 * PAGE);
        ends.sort_unstable();
        let [from, mut to] = ends;
        if cfg!(miri) {
            to = to.min(from + 64 * PAGE);
        }
        prop_assert_eq!(visits(&space, from, to), oracle(&space, from, to));
        let want: BTreeMap<_, _> = mapped.range(from..to).map(|(&p, &f)| (p, f)).collect();
        prop_assert_eq!(frames(&space, from, to), want);
        end(space, &graves);
    }
}
