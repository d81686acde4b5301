//! Fault-around: what is mapped beside a page that was touched, and what is left alone.

mod common;

use arm64::attrs::Attrs;
use arm64::pte::Pte;
use common::{
    BLOCK, MIB2, PAGE, RW, Space, contiguous, each_leaf, end, folio, install, machine, pfn_at, raw,
    user, young,
};
use frame::{FramePins, UserFrame};
use model::HostMachine;
use model::host::Event;
use pgtable::{Around, Graveyard, Machine, Marking};

const AT: u64 = 0x12_3440_0000;

/// Maps pages of `folio` in the pages from `from` to `to` of the table, page by number; `gone` are not
/// resident. The pages that were asked for come back too.
fn around(
    space: &Space,
    (from, to): (u64, u64),
    touched: u64,
    folio: &UserFrame,
    gone: &[u64],
) -> (Around, Vec<u64>) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let leaf = space.lock_leaf(AT, &section, || true).expect("a table");
    let mut asked = Vec::new();
    let range = (AT + from * PAGE, AT + to * PAGE);
    let mut find = find(|va| {
        let page = (va - AT) / PAGE;
        asked.push(page);
        (!gone.contains(&page)).then(|| folio.page(page % (1 << folio.order())))
    });
    let done = leaf.install_around(range, young(), AT + touched * PAGE, &mut find);
    drop(find);
    (done, asked)
}

/// Asks `page` for the frame of each address that one is wanted for.
fn find(mut page: impl FnMut(u64) -> Option<UserFrame>) -> impl FnMut(u64, u32, &mut FramePins) {
    move |va, wanted, pins| {
        for place in (0..FramePins::PLACES).filter(|place| wanted >> place & 1 != 0) {
            if let Some(frame) = page(va + place as u64 * PAGE) {
                pins.put(place, frame);
            }
        }
    }
}

fn references(folio: &UserFrame, machine: &HostMachine) -> u32 {
    let meta = machine.frames().meta(folio.pfn());
    meta.expect("a frame").references()
}

#[test]
fn a_window_of_one_folio_is_born_folded() {
    for records in [false, true] {
        let machine = machine();
        machine.set_records_access(records);
        let before = machine.free_frames();
        let (space, graves) = (user(machine), Graveyard::new());
        let frame = folio(machine, 5);
        // The table is made in batches of its own.
        around(&space, (0, 0), 0, &frame, &[]);
        machine.start_log();
        let (done, asked) = around(&space, (0, 32), 20, &frame, &[]);
        let log = machine.take_log();
        let want = Around {
            mapped: 32,
            folded: 2,
        };
        assert_eq!(done, want);
        assert_eq!(asked, (0..32).collect::<Vec<_>>());
        assert_eq!(contiguous(&space, AT, 32), [true; 32]);
        for page in 0..32 {
            let pte = raw(&space, AT + page * PAGE);
            assert_eq!(pte.young(), !records || page == 20, "page {page}");
            assert_eq!(
                pfn_at(&space, AT + page * PAGE),
                Some(frame.pfn().raw() + page)
            );
        }
        let count = |wanted| log.iter().filter(|event| **event == wanted).count();
        assert_eq!(
            (count(Event::Opened), count(Event::Closed)),
            (1, 1),
            "XC-07"
        );
        let flushed = log
            .iter()
            .any(|event| matches!(event, Event::Invalidated(_)));
        assert!(!flushed, "nothing was there before");
        assert_eq!(references(&frame, machine), 33);
        drop(frame);
        end(space, &graves);
        assert_eq!(machine.free_frames(), before);
    }
}

#[test]
fn only_what_is_absent_is_added() {
    let machine = machine();
    machine.set_records_access(true);
    let (space, graves) = (user(machine), Graveyard::new());
    let frame = folio(machine, 5);
    let own = folio(machine, 0);
    let mine = own.pfn().raw();
    install(&space, AT + 3 * PAGE, own, Attrs::user(RW));
    each_leaf(
        &space,
        &graves,
        (AT + 5 * PAGE, AT + 6 * PAGE),
        |leaf, gather| {
            leaf.mark_uffd_wp(Marking::Every, gather);
        },
    );
    let marker = raw(&space, AT + 5 * PAGE);
    let (done, asked) = around(&space, (2, 31), 9, &frame, &[7, 30]);
    let (mapped, folded) = (29 - 4, 0);
    assert_eq!(done, Around { mapped, folded });
    let want: Vec<_> = (2..31).filter(|page| ![3, 5].contains(page)).collect();
    assert_eq!(asked, want);
    assert_eq!(pfn_at(&space, AT + 3 * PAGE), Some(mine));
    assert_eq!(raw(&space, AT + 5 * PAGE), marker);
    for page in [0, 1, 7, 30, 31] {
        assert_eq!(raw(&space, AT + page * PAGE), Pte::NONE, "page {page}");
    }
    let stay = ();
    let section = machine.read_side(&stay);
    let leaf = space.lock_existing(AT, &section).expect("a table");
    assert_eq!(leaf.mapped(), 27);
    drop(leaf);
    drop(frame);
    end(space, &graves);
}

#[test]
fn a_block_that_becomes_whole_is_folded() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let frame = folio(machine, 4);
    install(&space, AT + 6 * PAGE, frame.page(6), young());
    machine.take_invalidations();
    // The window ends within the block.
    let (done, _) = around(&space, (0, 12), 1, &frame, &[]);
    assert_eq!(
        done,
        Around {
            mapped: 11,
            folded: 0
        }
    );
    assert!(machine.take_invalidations().is_empty());
    let (done, _) = around(&space, (8, 16), 15, &frame, &[]);
    assert_eq!(
        done,
        Around {
            mapped: 4,
            folded: 1
        }
    );
    assert_eq!(contiguous(&space, AT, 16), [true; 16]);
    assert_eq!(machine.take_invalidations().len(), 1, "law 5");
    drop(frame);
    end(space, &graves);
}

#[test]
fn what_is_not_one_aligned_part_of_a_folio_is_not_folded() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let (large, small) = (folio(machine, 5), [folio(machine, 3), folio(machine, 3)]);
    let stay = ();
    let section = machine.read_side(&stay);
    let leaf = space.lock_leaf(AT, &section, || true).expect("a table");
    let pages = |start: u64| (AT + start * PAGE, AT + start * PAGE + BLOCK);
    let number = |va: u64| (va - AT) / PAGE % 16;
    // One page further on than the address is.
    let next = |va| Some(large.page(number(va) + 1));
    let shifted = leaf.install_around(pages(0), young(), AT, find(next));
    // Two folios, though they may follow each other.
    let first = usize::from(small[0].pfn().raw() > small[1].pfn().raw());
    let next = |va| {
        let of = usize::from(number(va) >= 8) ^ first;
        Some(small[of].page(number(va) % 8))
    };
    let two = leaf.install_around(pages(16), young(), AT, find(next));
    for done in [shifted, two] {
        let (mapped, folded) = (16, 0);
        assert_eq!(done, Around { mapped, folded });
    }
    drop(leaf);
    drop((large, small));
    end(space, &graves);
}

#[test]
fn the_window_ends_with_its_table() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let frame = folio(machine, 5);
    install(&space, AT + MIB2, folio(machine, 0), young());
    let (done, _) = around(&space, (504, 520), 505, &frame, &[]);
    assert_eq!(
        done,
        Around {
            mapped: 8,
            folded: 0
        }
    );
    let (nothing, asked) = around(&space, (512, 520), 505, &frame, &[]);
    assert_eq!((nothing, asked.len()), (Around::default(), 0));
    drop(frame);
    end(space, &graves);
}
