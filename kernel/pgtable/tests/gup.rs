//! Pinning without a lock: why a page is not pinned, and other CPUs' changes between the looks
//! (GUP-07, GUP-13, GUP-26).

mod common;

use std::sync::Arc;

use arm64::addr::PhysAddr;
use arm64::attrs::{Attrs, Prot};
use arm64::geometry::{Geometry, Level};
use arm64::pte::{Entry, Format, Invalid, MarkerBits};
use arrayvec::ArrayVec;
use common::{
    GIB, MIB2, PAGE, PLAIN, RW, Space, end, entry, folio, install, install_folio, machine, only,
    release, shaped, user, young, zap,
};
use frame::UserFrame;
use model::HostMachine;
use pgtable::{Decline, Gather, Graveyard, Machine, Pause};
use std::sync::atomic::Ordering::SeqCst;

const AT: u64 = 0x12_3440_0000;

/// The numbers of the pages that are pinned of `count` at `va`, and why no more.
fn gup(space: &Space, va: u64, count: u64, write: bool) -> (Vec<u64>, Option<Decline>) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let mut pins = ArrayVec::<UserFrame, 8>::new();
    let declined = space.gup_fast(va, count, write, &mut pins, &section);
    let pinned = pins.iter().map(|pin| pin.pfn().raw()).collect();
    (pinned, declined)
}

fn written() -> Attrs {
    young().with_dirty(true)
}

/// Maps a fresh page; its number.
fn map(space: &Space, va: u64, attrs: Attrs) -> u64 {
    let frame = folio(space.machine(), 0);
    let pfn = frame.pfn().raw();
    install(space, va, frame, attrs);
    pfn
}

/// Writes `what` into the entry of the page at `va`, as no operation of the engine would.
fn plant(space: &Space, va: u64, what: Entry) {
    let pte = PLAIN.encode(what, Level::L3).unwrap();
    entry(space, va).1.store(pte.raw(), SeqCst);
}

#[test]
fn each_reason_not_to_pin() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let first = map(&space, AT, written());
    let declined = |page, write| {
        let at = AT + page * PAGE;
        let (pinned, declined) = gup(&space, at, 1, write);
        assert_eq!(pinned.is_empty(), declined.is_some());
        declined
    };
    assert_eq!(declined(0, true), None);
    assert_eq!(declined(1, false), Some(Decline::NotPresent));
    assert_eq!(
        gup(&space, AT + GIB, 1, false).1,
        Some(Decline::NotPresent),
        "no table"
    );
    map(&space, AT + PAGE, young());
    assert_eq!(declined(1, false), None);
    assert_eq!(declined(1, true), Some(Decline::NotDirty));
    map(&space, AT + 2 * PAGE, Attrs::user(RW));
    assert_eq!(declined(2, false), Some(Decline::NotYoung));
    map(
        &space,
        AT + 3 * PAGE,
        Attrs::user(Prot::READ).with_young(true),
    );
    assert_eq!(declined(3, false), None);
    assert_eq!(declined(3, true), Some(Decline::NoRight));
    map(&space, AT + 4 * PAGE, young().with_prot(Prot::EXEC));
    assert_eq!(
        declined(4, false),
        Some(Decline::NoRight),
        "programs may execute it"
    );
    map(&space, AT + 5 * PAGE, written());
    common::protect(
        &space,
        &graves,
        (AT + 5 * PAGE, AT + 6 * PAGE),
        Prot::empty(),
    );
    assert_eq!(declined(5, false), Some(Decline::NoAccess));
    // All of them, up to the first that is not to be had.
    assert_eq!(
        gup(&space, AT, 8, true),
        (vec![first], Some(Decline::NotDirty))
    );
    assert_eq!(gup(&space, AT, 2, false).1, None);
    end(space, &graves);
}

#[test]
fn pages_that_are_not_counted_and_marks_are_not_pinned() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let zeros = folio(machine, 0);
    let stay = ();
    let section = machine.read_side(&stay);
    let leaf = space.lock_leaf(AT, &section, || true).unwrap();
    leaf.install_special(AT, zeros.pfn(), young()).unwrap();
    drop(leaf);
    assert_eq!(gup(&space, AT, 1, false), (vec![], Some(Decline::Special)));
    let word = entry(&space, AT).1.load(SeqCst);
    let untagged = Entry::PresentInvalid {
        reason: Invalid::NoTagStorage,
        pa: zeros.pfn().start(),
        attrs: young(),
    };
    let mark = MarkerBits {
        uffd_wp: true,
        ..MarkerBits::default()
    };
    for what in [untagged, Entry::Marker(mark)] {
        plant(&space, AT, what);
        assert_eq!(
            gup(&space, AT, 1, false).1,
            Some(Decline::Special),
            "{what:?}"
        );
    }
    entry(&space, AT).1.store(word, SeqCst);
    assert_eq!(zeros.references(), 1);
    end(space, &graves);
}

#[test]
fn a_frame_without_references_is_refused() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let first = map(&space, AT, written());
    map(&space, AT + PAGE, written());
    let gone = folio(machine, 0);
    let word = entry(&space, AT + PAGE).1.load(SeqCst);
    let attrs = written();
    let pa = gone.pfn().start();
    plant(&space, AT + PAGE, Entry::Leaf { pa, attrs });
    drop(gone);
    let refused = Some(Decline::ReferenceRefused);
    assert_eq!(gup(&space, AT, 2, false), (vec![first], refused));
    // A device: no frame at all.
    let pa = PhysAddr::new(0x900_0000);
    plant(&space, AT + PAGE, Entry::Leaf { pa, attrs });
    assert_eq!(gup(&space, AT, 2, false), (vec![first], refused));
    entry(&space, AT + PAGE).1.store(word, SeqCst);
    end(space, &graves);
}

#[test]
fn a_range_that_leaves_the_space_is_pinned_up_to_its_end() {
    let machine = HostMachine::new(512, Format::LPA2, 1);
    let (space, graves) = (shaped(machine, Geometry::for_va_bits(39)), Graveyard::new());
    let top = 1 << 39;
    let below = map(&space, top - PAGE, written());
    let beyond = Some(Decline::BeyondRange);
    assert_eq!(gup(&space, top - PAGE, 2, false), (vec![below], beyond));
    for va in [top, u64::MAX, u64::MAX - PAGE, 1 << 63] {
        assert_eq!(gup(&space, va, 2, false), (vec![], beyond), "{va:#x}");
    }
    space.grow().unwrap();
    let above = map(&space, top, written());
    assert_eq!(
        gup(&space, top - PAGE, 2, false),
        (vec![below, above], None)
    );
    end(space, &graves);
}

/// GUP-07 and GUP-08, as for walks: what the alias maps is not what is pinned.
#[test]
fn pins_across_2_gib_in_three_levels_are_those_of_both_sides() {
    let shape = Geometry::from_index_bits(&[11, 11, 8]).unwrap();
    let machine = HostMachine::new(512, PLAIN, 1);
    let (space, graves) = (shaped(machine, shape), Graveyard::new());
    let boundary = 6 * GIB;
    let below = map(&space, boundary - PAGE, written());
    let above = map(&space, boundary, written());
    let alias = map(&space, boundary - 2 * GIB, written());
    assert_ne!(above, alias);
    for write in [false, true] {
        let found = gup(&space, boundary - PAGE, 2, write);
        assert_eq!(found, (vec![below, above], None), "GUP-07");
    }
    end(space, &graves);
}

#[test]
fn folios_and_blocks_are_pinned_page_by_page() {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (user(machine), Graveyard::new());
    let (block, small) = (folio(machine, 9), folio(machine, 4));
    let (first, next) = (block.pfn().raw(), small.pfn().raw());
    let stay = ();
    let section = machine.read_side(&stay);
    let mapped = space.map_block(AT, Level::L2, block.page(0), written(), &section, || true);
    mapped.unwrap();
    install_folio(&space, AT + MIB2, small.page(0), 16, written());
    let (references, of_small) = (block.references(), small.references());
    for write in [false, true] {
        let (pinned, declined) = gup(&space, AT + MIB2 - 3 * PAGE + 7, 6, write);
        let want = [
            first + 509,
            first + 510,
            first + 511,
            next,
            next + 1,
            next + 2,
        ];
        assert_eq!((&pinned[..], declined), (&want[..], None));
        let (pinned, _) = gup(&space, AT + MIB2 + 14 * PAGE, 6, write);
        assert_eq!(pinned, [next + 14, next + 15]);
    }
    assert_eq!(block.references(), references, "references come back");
    assert_eq!(small.references(), of_small, "references come back");
    drop((block, small));
    end(space, &graves);
    assert_eq!(machine.free_frames(), before);
}

type Act = fn(&Space, &Graveyard);

/// Pins three written pages of a folio of two MiB while `act` happens at `at`; how many, and why no
/// more. No reference is left behind.
fn during(at: Pause, write: bool, act: Act) -> (usize, Option<Decline>) {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (Arc::new(user(machine)), Arc::new(Graveyard::new()));
    let large = folio(machine, 9);
    for group in 0..32 {
        let va = AT + group * 16 * PAGE;
        install_folio(&space, va, large.page(group * 16), 16, written());
    }
    let references = large.references();
    let (changed, buried) = (Arc::clone(&space), Arc::clone(&graves));
    machine.script(at, move || act(&changed, &buried));
    let (pinned, declined) = gup(&space, AT + 20 * PAGE, 3, write);
    assert_eq!(machine.script_left(), 0, "{at:?}");
    assert!(
        large.references() <= references,
        "a reference is left behind"
    );
    drop(large);
    end(only(space), &only(graves));
    assert_eq!(machine.free_frames(), before);
    (pinned.len(), declined)
}

const LOOKS: [Pause; 2] = [Pause::PinBeforeReference, Pause::PinBeforeRecheck];

#[test]
fn what_is_unmapped_between_the_looks_is_not_pinned() {
    let raced = Some(Decline::RacedLeaf);
    for at in LOOKS {
        let second: Act = |space, graves| zap(space, graves, AT + 21 * PAGE, AT + 22 * PAGE);
        assert_eq!(during(at, false, second), (1, raced), "GUP-13: {at:?}");
        let table_too: Act = |space, graves| zap(space, graves, AT, AT + MIB2);
        assert_eq!(during(at, false, table_too), (0, raced), "GUP-13: {at:?}");
    }
}

#[test]
fn what_is_protected_between_the_looks_is_not_pinned_to_be_written() {
    let protect: Act = |space, graves| {
        common::protect(space, graves, (AT + 21 * PAGE, AT + 22 * PAGE), Prot::READ);
    };
    for at in LOOKS {
        assert_eq!(
            during(at, true, protect),
            (1, Some(Decline::RacedLeaf)),
            "{at:?}"
        );
    }
}

/// The entries of a table that a block has replaced stay what they were.
#[test]
fn what_was_seen_in_a_table_that_is_replaced_by_a_block_is_not_pinned() {
    let collapse: Act = |space, graves| {
        let stay = ();
        let section = space.machine().read_side(&stay);
        let mut gather = Gather::new();
        assert!(space.collapse(AT, &mut gather, &section));
        release(space, graves, &mut gather);
    };
    for at in LOOKS {
        let raced = Some(Decline::RacedParent);
        assert_eq!(during(at, false, collapse), (0, raced), "GUP-13: {at:?}");
    }
}

#[test]
fn a_block_that_is_split_between_the_looks_is_declined() {
    for at in LOOKS {
        let machine = machine();
        let (space, graves) = (Arc::new(user(machine)), Graveyard::new());
        let block = folio(machine, 9);
        let first = block.pfn().raw();
        let stay = ();
        let section = machine.read_side(&stay);
        let mapped = space.map_block(AT, Level::L2, block, written(), &section, || true);
        mapped.unwrap();
        let changed = Arc::clone(&space);
        machine.script(at, move || {
            let stay = ();
            let section = changed.machine().read_side(&stay);
            changed.split_block(AT, &section).unwrap();
        });
        assert_eq!(
            gup(&space, AT, 3, false),
            (vec![], Some(Decline::RacedLeaf))
        );
        assert_eq!(gup(&space, AT, 2, false), (vec![first, first + 1], None));
        end(only(space), &graves);
    }
}

#[test]
fn a_space_may_grow_while_its_pages_are_pinned() {
    for at in [
        Pause::WalkStep,
        Pause::PinBeforeReference,
        Pause::PinBeforeRecheck,
    ] {
        let machine = machine();
        let (space, graves) = (Arc::new(user(machine)), Graveyard::new());
        let page = map(&space, AT, written());
        let grown = Arc::clone(&space);
        machine.script(at, move || {
            grown.grow().unwrap();
        });
        assert_eq!(
            gup(&space, AT, 1, true),
            (vec![page], None),
            "GUP-06: {at:?}"
        );
        assert_eq!(gup(&space, AT, 1, true), (vec![page], None));
        end(only(space), &graves);
    }
}

/// The range walks over upper tables no more often than it has to (GUP-20).
#[test]
fn upper_tables_are_looked_at_once_for_a_run() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let pages: Vec<_> = (0..8)
        .map(|i| map(&space, AT + i * PAGE, written()))
        .collect();
    (0..2).for_each(|_| machine.script(Pause::WalkStep, || {}));
    machine.script(Pause::PinBeforeReference, || {});
    machine.script(Pause::PinBeforeRecheck, || {});
    // Were there another step, it would come before this.
    machine.script(Pause::WalkStep, || {});
    assert_eq!(gup(&space, AT, 8, false), (pages, None));
    assert_eq!(machine.script_left(), 1);
    let _played = gup(&space, AT, 1, false);
    end(space, &graves);
}
