//! Spaces that grow by a level while walkers are inside (D12, GUP-06).

mod common;

use std::sync::Arc;

use arm64::geometry::{Geometry, Level};
use arm64::pte::Format;
use common::{PAGE, end, folio, install, only, pfn_at, shaped, young, zap};
use frame::TableState;
use model::HostMachine;
use pgtable::{Graveyard, Machine, PageTable, Pause, TableError, User};

const AT: u64 = 0x12_3440_0000;

#[test]
fn a_space_grows_twice_and_translates_as_before() {
    let machine = HostMachine::new(512, Format::LPA2, 1);
    let before = machine.free_frames();
    let (space, graves) = (shaped(machine, Geometry::for_va_bits(39)), Graveyard::new());
    let low = folio(machine, 0);
    install(&space, AT, low.page(0), young());
    for (bits, level) in [(48, Level::L0), (52, Level::Lm1)] {
        let above = 1 << space.geometry().va_bits();
        let word = space.grow().expect("a level");
        assert_eq!((word, word.root_level()), (space.root_word(), level));
        assert_eq!(space.geometry().va_bits(), bits);
        assert_eq!(space.stats().at(level).made, 1);
        assert_eq!(pfn_at(&space, AT), Some(low.pfn().raw()), "the lower range");
        let high = folio(machine, 0);
        install(&space, above, high.page(0), young());
        assert_eq!(pfn_at(&space, above), Some(high.pfn().raw()));
    }
    assert_eq!(space.grow(), Err(TableError::BadRange));
    drop(low);
    end(space, &graves);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn five_levels_need_descriptors_for_them() {
    let machine = common::machine();
    let (space, graves) = (common::user(machine), Graveyard::new());
    space.grow().expect("a fourth level");
    assert_eq!(space.grow(), Err(TableError::BadRange));
    end(space, &graves);
}

#[test]
fn a_former_root_stays_as_long_as_the_space() {
    let machine = HostMachine::new(512, Format::LPA2, 1);
    let (space, graves) = (shaped(machine, Geometry::for_va_bits(39)), Graveyard::new());
    install(&space, AT, folio(machine, 0), young());
    let first = space.root_word().root();
    space.grow().expect("a level");
    let second = space.root_word().root();
    space.grow().expect("a level");
    zap(
        &space,
        &graves,
        0,
        space.geometry().span(space.geometry().root_level()) << 4,
    );
    assert_eq!(space.stats().live(), 3, "the roots, and nothing else");
    for root in [first, second] {
        let meta = machine
            .frames()
            .meta(root.pfn())
            .expect("a frame of the bank");
        assert_eq!(
            meta.table_state(),
            TableState::Constructed,
            "CPUs may have it loaded"
        );
    }
    end(space, &graves);
}

#[test]
fn without_a_table_nothing_changes() {
    let machine = common::machine();
    let before = machine.free_frames();
    let (space, graves) = (common::user(machine), Graveyard::new());
    let word = space.root_word();
    machine.refuse_after(0);
    assert_eq!(space.grow(), Err(TableError::Refused));
    machine.refuse_after(u64::MAX);
    machine.frames().fail_after(0);
    assert_eq!(space.grow(), Err(TableError::NoMemory));
    machine.frames().fail_after(u64::MAX);
    assert_eq!((space.root_word(), space.stats().live()), (word, 1));
    space.grow().expect("a level");
    end(space, &graves);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn of_two_growers_one_wins_and_both_find_a_level_more() {
    let machine = HostMachine::new(512, Format::LPA2, 1);
    let before = machine.free_frames();
    let space = Arc::new(shaped(machine, Geometry::for_va_bits(39)));
    let graves = Graveyard::new();
    let frame = folio(machine, 0);
    install(&space, AT, frame.page(0), young());
    let other = Arc::clone(&space);
    machine.script(Pause::BeforeGrow, move || {
        assert_eq!(other.grow().expect("a level").levels(), 4);
    });
    assert_eq!(space.grow().expect("a level").levels(), 4);
    assert_eq!(machine.script_left(), 0);
    assert_eq!(space.stats().live(), 4, "one new root");
    assert_eq!(pfn_at(&space, AT), Some(frame.pfn().raw()));
    drop(frame);
    end(only(space), &graves);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn the_old_root_hangs_under_the_new_one_before_that_is_published() {
    let machine = common::machine();
    let space = Arc::new(common::user(machine));
    let frame = folio(machine, 0);
    let pfn = frame.pfn().raw();
    install(&space, AT, frame, young());
    for _ in 0..2 {
        let walker = Arc::clone(&space);
        machine.script(Pause::BeforeGrow, move || {
            assert_eq!(
                pfn_at(&walker, AT),
                Some(pfn),
                "GUP-06: a walker in between"
            );
        });
    }
    space.grow().expect("a level");
    end(only(space), &Graveyard::new());
}

#[test]
fn toy_shapes_grow_too() {
    let machine = HostMachine::new(64, Format::LPA2, 1);
    let shape = Geometry::from_index_bits(&[1, 1]).expect("a shape");
    let shape = shape.with_cont_entries(2);
    let space: PageTable<User, _> = PageTable::new(machine, 7, shape).expect("a root");
    let graves = Graveyard::new();
    let mut mapped = Vec::new();
    loop {
        let bits = space.geometry().va_bits();
        let va = (1 << bits) - PAGE;
        let frame = folio(machine, 0);
        mapped.push((va, frame.pfn().raw()));
        install(&space, va, frame, young());
        for &(va, pfn) in &mapped {
            assert_eq!(pfn_at(&space, va), Some(pfn), "{bits} bits");
        }
        if space.grow().is_err() {
            break;
        }
    }
    assert_eq!(mapped.len(), 4, "two to five levels");
    end(space, &graves);
}
