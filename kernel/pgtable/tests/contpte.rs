//! Contiguous blocks: when they are made, when they are taken apart, and that nothing which the
//! hardware recorded is lost on the way (laws 5 to 7).

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use arm64::addr::PhysAddr;
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::{Geometry, Level};
use arm64::pte::Pte;
use common::{
    BLOCK, MIB2, PAGE, RW, Space, contiguous, each_leaf, end, entry, folio, install, install_folio,
    machine, pfn_at, protect, range, raw, touch, user, walk, young, zap,
};
use model::HostMachine;
use model::host::Event;
use pgtable::{
    Accessed, Conversion, Graveyard, Invalidation, Kernel, Machine, Marking, PageTable, Pause,
    Walked,
};

/// Where the blocks of the tests are.
const AT: u64 = 0x12_3440_0000;

fn count(space: &Space, name: &str) -> u64 {
    let mut found = None;
    space.stats().events().each(|known, value| {
        if known == name {
            found = Some(value);
        }
    });
    found.expect("a counter of that name")
}

/// A space with one folded block at [`AT`].
fn folded() -> (&'static HostMachine, Space, Graveyard) {
    let machine = machine();
    let space = user(machine);
    install_folio(&space, AT, folio(machine, 4), 16, young());
    assert_eq!(contiguous(&space, AT, 16), [true; 16]);
    machine.take_invalidations();
    (machine, space, Graveyard::new())
}

fn span(space: &Space, va: u64) -> u64 {
    match walk(space, va) {
        Walked::Seen { span, .. } => span,
        Walked::Miss { .. } => 0,
    }
}

#[test]
fn a_batch_marks_aligned_blocks_only() {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (user(machine), Graveyard::new());
    // 4 single pages, two blocks, 12 single pages.
    install_folio(
        &space,
        AT + 12 * PAGE,
        folio(machine, 6).page(12),
        48,
        young(),
    );
    let want = |i: u64| (16..48).contains(&i);
    for i in 12..60 {
        assert_eq!(
            raw(&space, AT + i * PAGE).is_contiguous(),
            want(i),
            "page {i}"
        );
        let reach = if want(i) { BLOCK } else { PAGE };
        assert_eq!(span(&space, AT + i * PAGE), reach);
    }
    assert_eq!(count(&space, "folds"), 2);
    // The same pages one page further on: no frame is where a block needs it.
    install_folio(&space, AT + MIB2 + PAGE, folio(machine, 6), 48, young());
    assert_eq!(contiguous(&space, AT + MIB2 + PAGE, 48), [false; 48]);
    assert!(
        machine.take_invalidations().is_empty(),
        "nothing was there before"
    );
    end(space, &graves);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn a_batch_ends_at_the_end_of_its_table() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    install_folio(&space, AT + MIB2 - BLOCK, folio(machine, 4), 16, young());
    assert_eq!(contiguous(&space, AT + MIB2 - BLOCK, 16), [true; 16]);
    assert!(raw(&space, AT + MIB2).is_none());
    end(space, &graves);
}

/// Whoever watches learns of each block once, with its place.
#[test]
fn every_block_made_and_taken_apart_is_told() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let told = || machine.take_conversions();
    let of = |what, at| (what, 7, at, BLOCK);
    // Two blocks among single pages, in a batch.
    let pages = folio(machine, 6).page(12);
    install_folio(&space, AT + 12 * PAGE, pages, 48, young());
    let blocks = [AT + BLOCK, AT + 2 * BLOCK];
    assert_eq!(told(), blocks.map(|at| of(Conversion::Fold, at)));
    protect(
        &space,
        &graves,
        (AT + 31 * PAGE, AT + 32 * PAGE),
        Prot::READ,
    );
    assert_eq!(told(), [of(Conversion::Unfold, AT + BLOCK)]);
    protect(&space, &graves, (AT + 31 * PAGE, AT + 32 * PAGE), RW);
    assert_eq!(told(), [of(Conversion::Fold, AT + BLOCK)]);
    // A part of a table that does not begin with it.
    zap(&space, &graves, AT + 40 * PAGE, AT + 41 * PAGE);
    assert_eq!(told(), [of(Conversion::Unfold, AT + 2 * BLOCK)]);
    assert_eq!((count(&space, "folds"), count(&space, "unfolds")), (3, 2));
    end(space, &graves);
}

#[test]
fn the_last_page_folds_the_block() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let frame = folio(machine, 4);
    for i in 0..16 {
        assert_eq!(contiguous(&space, AT, 1), [false], "before page {i}");
        // Accessed and dirty may differ: the block gathers them.
        let attrs = Attrs::user(RW).with_young(i == 3).with_dirty(i == 5);
        install(&space, AT + i * PAGE, frame.page(i), attrs);
    }
    assert_eq!(contiguous(&space, AT, 16), [true; 16]);
    for i in 0..16 {
        let pte = raw(&space, AT + i * PAGE);
        assert!(pte.young() && pte.dirty(), "XC-02: page {i}");
        assert_eq!(pfn_at(&space, AT + i * PAGE), Some(frame.pfn().raw() + i));
    }
    let made = Invalidation::Range {
        asid: space.asid(),
        start: AT,
        end: AT + BLOCK,
        level: Level::L3,
        tables: false,
    };
    assert_eq!(machine.take_invalidations(), [made]);
    drop(frame);
    end(space, &graves);
}

/// Maps sixteen pages of `frames` singly, the last one last, with the attributes that `attrs` gives.
fn map_singly(
    space: &Space,
    at: u64,
    frames: impl Fn(u64) -> frame::UserFrame,
    attrs: impl Fn(u64) -> Attrs,
) {
    (0..16).for_each(|i| install(space, at + i * PAGE, frames(i), attrs(i)));
}

#[test]
fn sixteen_entries_that_do_not_fit_stay_single() {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (user(machine), Graveyard::new());
    let large = folio(machine, 5);
    let same = |_| young();
    let mut at = (0..).map(|i| AT + i * MIB2);
    let mut next = || at.next().expect("more");

    // Frames one page off.
    map_singly(&space, next(), |i| large.page(i + 1), same);
    // Frames in another order.
    map_singly(&space, next(), |i| large.page(15 - i), same);
    // Different rights, memory types, marks.
    let read = |i| {
        if i == 7 {
            Attrs::user(Prot::READ).with_young(true)
        } else {
            young()
        }
    };
    map_singly(&space, next(), |i| large.page(i), read);
    let tagged = |i| {
        young().with_mem(if i == 2 {
            MemType::Tagged
        } else {
            MemType::Normal
        })
    };
    map_singly(&space, next(), |i| large.page(i), tagged);
    let marked = |i| Attrs::user(Prot::READ).with_uffd_wp(i == 15);
    map_singly(&space, next(), |i| large.page(i), marked);
    // No entry of the hardware.
    map_singly(
        &space,
        next(),
        |i| large.page(i),
        |_| Attrs::user(Prot::empty()),
    );
    let hidden = |i| {
        if i == 9 {
            Attrs::user(Prot::empty())
        } else {
            young()
        }
    };
    map_singly(&space, next(), |i| large.page(i), hidden);
    // An address one page off: entries 1 to 16 of a table.
    map_singly(&space, next() + PAGE, |i| large.page(i), same);
    assert_eq!(count(&space, "folds"), 0);
    for i in 0..8 {
        assert_eq!(
            contiguous(&space, AT + i * MIB2, 16),
            [false; 16],
            "table {i}"
        );
    }
    assert!(machine.take_invalidations().is_empty());
    drop(large);
    end(space, &graves);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn blocks_begin_at_aligned_addresses_and_frames() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let large = folio(machine, 5);
    map_singly(&space, AT + PAGE, |i| large.page(i), |_| young());
    map_singly(&space, AT + MIB2, |i| large.page(i + 1), |_| young());
    assert_eq!(contiguous(&space, AT, 17), [false; 17]);
    assert_eq!(contiguous(&space, AT + MIB2, 16), [false; 16]);
    drop(large);
    end(space, &graves);
}

#[test]
fn frames_of_two_folios_are_no_block() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    // Two folios of 8 pages that follow one another, the first one aligned to 16.
    let folios: Vec<_> = (0..64).map(|_| folio(machine, 3)).collect();
    let first = (0..64)
        .find(|&i| {
            let pfn = folios[i].pfn();
            pfn.is_aligned(16) && folios.iter().any(|other| other.pfn() == pfn.add(8))
        })
        .expect("neighbours");
    let second = folios
        .iter()
        .find(|f| f.pfn() == folios[first].pfn().add(8));
    let second = second.expect("just seen");
    let page = |i: u64| {
        if i < 8 {
            folios[first].page(i)
        } else {
            second.page(i - 8)
        }
    };
    map_singly(&space, AT, page, |_| young());
    assert_eq!(contiguous(&space, AT, 16), [false; 16]);
    drop(folios);
    end(space, &graves);
}

#[test]
fn a_special_entry_is_no_part_of_a_block() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let frame = folio(machine, 4);
    for i in 0..15 {
        install(&space, AT + i * PAGE, frame.page(i), young());
        let (_, cell) = entry(&space, AT + i * PAGE);
        cell.store(raw(&space, AT + i * PAGE).with_special(true).raw(), SeqCst);
    }
    install(&space, AT + 15 * PAGE, frame.page(15), young());
    let (_, last) = entry(&space, AT + 15 * PAGE);
    last.store(raw(&space, AT + 15 * PAGE).with_special(true).raw(), SeqCst);
    // Writing the last one again asks again.
    each_leaf(
        &space,
        &graves,
        (AT + 15 * PAGE, AT + BLOCK),
        |leaf, gather| {
            leaf.protect(Prot::READ, gather);
            leaf.protect(RW, gather);
        },
    );
    assert_eq!(contiguous(&space, AT, 16), [false; 16]);
    for i in 0..16 {
        let (_, cell) = entry(&space, AT + i * PAGE);
        cell.store(raw(&space, AT + i * PAGE).with_special(false).raw(), SeqCst);
    }
    drop(frame);
    end(space, &graves);
}

#[test]
fn a_block_with_a_hole_is_folded_when_its_last_page_is_written_again() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let frame = folio(machine, 4);
    for i in (0..16).filter(|&i| i != 6) {
        install(&space, AT + i * PAGE, frame.page(i), young());
    }
    install(&space, AT + 6 * PAGE, frame.page(6), young());
    assert_eq!(
        contiguous(&space, AT, 16),
        [false; 16],
        "only the last slot asks"
    );
    protect(&space, &graves, (AT, AT + BLOCK), Prot::READ);
    assert_eq!(
        contiguous(&space, AT, 16),
        [true; 16],
        "pages that became alike"
    );
    drop(frame);
    end(space, &graves);
}

type Act = fn(&Space, &Graveyard);

/// What changes a part of the block only: pages 5 and 6, or one of them.
const PARTIAL: [(&str, Act); 6] = [
    ("zap", |space, graves| {
        zap(space, graves, AT + 5 * PAGE, AT + 7 * PAGE)
    }),
    ("protect", |space, graves| {
        protect(space, graves, (AT + 5 * PAGE, AT + 7 * PAGE), Prot::READ)
    }),
    ("write-protect", |space, graves| {
        each_leaf(
            space,
            graves,
            (AT + 5 * PAGE, AT + 7 * PAGE),
            |leaf, gather| leaf.write_protect(gather),
        )
    }),
    ("no access", |space, graves| {
        protect(space, graves, (AT + 5 * PAGE, AT + 7 * PAGE), Prot::empty())
    }),
    ("mark", |space, graves| {
        each_leaf(
            space,
            graves,
            (AT + 5 * PAGE, AT + 7 * PAGE),
            |leaf, gather| leaf.mark_uffd_wp(Marking::Present, gather),
        )
    }),
    ("move", |space, graves| {
        let mut moved = None;
        each_leaf(
            space,
            graves,
            (AT + 5 * PAGE, AT + 6 * PAGE),
            |leaf, gather| {
                moved = leaf.take_moved(AT + 5 * PAGE, gather);
            },
        );
        let stay = ();
        let section = space.machine().read_side(&stay);
        let leaf = space
            .lock_leaf(AT + MIB2, &section, || true)
            .expect("a table");
        leaf.put_moved(AT + MIB2, moved.expect("an entry"))
            .expect("an empty slot");
    }),
];

/// The events of the first block at [`AT`] in a log: all its entries broken, `flushes` times
/// invalidated as a whole, all made.
fn assert_repainted(name: &str, log: &[Event], flushes: usize) {
    let broken = |event: &Event| matches!(event, Event::Stored { new, level: Level::L3, .. } if new.is_none());
    let made = |event: &Event| matches!(event, Event::Stored { old, new, level: Level::L3, .. } if old.is_none() && new.is_leaf(Level::L3));
    let first = log.iter().position(broken).expect("a break");
    let (breaks, rest) = log[first..].split_at(16);
    let (flushed, rest) = rest.split_at(flushes);
    assert!(breaks.iter().all(broken), "{name}: {breaks:?}");
    for event in flushed {
        let Event::Invalidated(Invalidation::Range {
            start,
            end,
            level,
            tables,
            ..
        }) = event
        else {
            panic!("{name}: {event:?}")
        };
        assert_eq!((*start, *end), (AT, AT + BLOCK), "{name}");
        assert_eq!((*level, *tables), (Level::L3, false), "{name}");
    }
    assert!(rest[..16].iter().all(made), "{name}: {:?}", &rest[..16]);
}

#[test]
fn a_part_is_changed_after_one_unfold_with_one_invalidation_of_the_block() {
    for (name, act) in PARTIAL {
        let (machine, space, graves) = folded();
        let before = space.machine().free_frames();
        machine.start_log();
        act(&space, &graves);
        let log = machine.take_log();
        common::assert_broken_before_made(&log, machine.format());
        assert_repainted(name, &log, 1);
        let whole = |event: &&Event| {
            matches!(event, Event::Invalidated(Invalidation::Range { start, end, .. })
                if end - start == BLOCK && *start == AT)
        };
        assert_eq!(log.iter().filter(whole).count(), 1, "{name}");
        assert_eq!(contiguous(&space, AT, 16), [false; 16], "{name}");
        assert_eq!(count(&space, "unfolds"), 1, "{name}");
        for i in (0..16).filter(|i| !(5..7).contains(i)) {
            let Walked::Seen { value, span, .. } = walk(&space, AT + i * PAGE) else {
                panic!("{name}: page {i} is gone")
            };
            assert_eq!(
                (value.prot(), span),
                (RW | Prot::USER, PAGE),
                "{name}: page {i}"
            );
        }
        assert!(machine.free_frames() <= before, "{name}");
        end(space, &graves);
    }
}

#[test]
fn with_bbm_level_2_a_block_is_repainted_without_an_invalidation() {
    for (name, act) in PARTIAL {
        let (machine, space, graves) = folded();
        machine.set_repaints_without_flush(true);
        machine.start_log();
        act(&space, &graves);
        let log = machine.take_log();
        assert_repainted(name, &log, 0);
        end(space, &graves);
    }
}

#[test]
fn the_entries_are_invalid_between_break_and_make() {
    for (name, act) in PARTIAL {
        let (machine, space, graves) = folded();
        let space = Arc::new(space);
        let looked = Arc::clone(&space);
        machine.script(Pause::Repaint, move || {
            for i in 0..16 {
                assert!(!raw(&looked, AT + i * PAGE).is_valid(), "{name}: page {i}");
                assert!(!touch(&looked, AT + i * PAGE, true));
            }
        });
        act(&space, &graves);
        end(common::only(space), &graves);
    }
}

#[test]
fn an_unfold_gives_every_page_what_any_page_had_recorded() {
    for (name, act) in PARTIAL {
        let machine = machine();
        let (space, graves) = (user(machine), Graveyard::new());
        install_folio(&space, AT, folio(machine, 4), 16, Attrs::user(RW));
        assert!(touch(&space, AT + 3 * PAGE, true));
        act(&space, &graves);
        for i in (0..16).filter(|i| !(5..7).contains(i)) {
            let pte = raw(&space, AT + i * PAGE);
            assert!(
                pte.young() && pte.dirty(),
                "XC-02 {name}: page {i} is {pte:?}"
            );
        }
        end(space, &graves);
    }
}

/// What changes the whole block alike.
const WHOLE: [(&str, Act); 4] = [
    ("protect", |space, graves| {
        protect(space, graves, (AT, AT + BLOCK), Prot::READ)
    }),
    ("write-protect", |space, graves| {
        each_leaf(space, graves, (AT, AT + BLOCK), |leaf, gather| {
            leaf.write_protect(gather)
        })
    }),
    ("mark", |space, graves| {
        each_leaf(space, graves, (AT, AT + BLOCK), |leaf, gather| {
            leaf.mark_uffd_wp(Marking::Present, gather)
        })
    }),
    ("clear young", |space, graves| {
        each_leaf(space, graves, (AT, AT + BLOCK), |leaf, gather| {
            assert!(leaf.clear_young(gather));
            assert!(!leaf.clear_young(gather));
        })
    }),
];

#[test]
fn a_change_of_the_whole_block_keeps_it_folded() {
    for (name, act) in WHOLE {
        let (machine, space, graves) = folded();
        assert!(touch(&space, AT + 3 * PAGE, true));
        machine.start_log();
        act(&space, &graves);
        let log = machine.take_log();
        common::assert_broken_before_made(&log, machine.format());
        assert_eq!(contiguous(&space, AT, 16), [true; 16], "{name}");
        assert_eq!(count(&space, "unfolds"), 0, "{name}");
        let want = Invalidation::Range {
            asid: space.asid(),
            start: AT,
            end: AT + BLOCK,
            level: Level::L3,
            tables: false,
        };
        assert_eq!(machine.take_invalidations(), [want], "{name}");
        let Walked::Seen { value, span, .. } = walk(&space, AT) else {
            panic!("{name}: gone")
        };
        assert!(value.dirty(), "{name}");
        assert_eq!(span, BLOCK);
        end(space, &graves);
    }
}

#[test]
fn the_whole_block_is_taken_out_folded() {
    let (machine, space, graves) = folded();
    let free = machine.free_frames();
    machine.start_log();
    zap(&space, &graves, AT, AT + BLOCK);
    let log = machine.take_log();
    let made_again = |event: &Event| matches!(event, Event::Stored { new, level: Level::L3, .. } if new.is_valid());
    assert!(!log.iter().any(made_again), "{log:?}");
    assert_eq!(count(&space, "unfolds"), 0);
    assert_eq!(machine.free_frames(), free + 16);
    end(space, &graves);
}

#[test]
fn the_accessed_flag_of_a_block_is_cleared_as_a_whole_by_any_part_of_it() {
    let (machine, space, graves) = folded();
    each_leaf(
        &space,
        &graves,
        (AT + 9 * PAGE, AT + 10 * PAGE),
        |leaf, gather| {
            assert!(leaf.clear_young(gather));
        },
    );
    for i in 0..16 {
        assert!(!raw(&space, AT + i * PAGE).young(), "page {i}");
    }
    assert_eq!(contiguous(&space, AT, 16), [true; 16]);
    let flushed = machine.take_invalidations();
    assert!(
        matches!(flushed[..], [Invalidation::Range { start: AT, end, .. }] if end == AT + BLOCK),
        "{flushed:?}"
    );
    end(space, &graves);
}

#[test]
fn an_access_is_recorded_by_a_look_at_every_raw_entry() {
    let (machine, space, graves) = folded();
    // An agent that keeps no flags looked at page 3; another one, that does, wrote page 5.
    assert!(touch(&space, AT + 5 * PAGE, true));
    let stay = ();
    let section = machine.read_side(&stay);
    let leaf = space.lock_existing(AT, &section).expect("a table");
    assert!(leaf.get(AT + 3 * PAGE).dirty(), "PTE-04: the block's");
    assert!(!raw(&space, AT + 3 * PAGE).dirty());
    let recorded = Accessed::Recorded {
        start: AT,
        end: AT + BLOCK,
    };
    assert_eq!(leaf.mark_accessed(AT + 3 * PAGE, true), recorded, "law 7");
    assert!(raw(&space, AT + 3 * PAGE).dirty());
    assert_eq!(leaf.mark_accessed(AT + 3 * PAGE, true), Accessed::Already);
    drop(leaf);
    assert_eq!(contiguous(&space, AT, 16), [true; 16]);
    end(space, &graves);
}

#[test]
fn without_hardware_flags_each_page_of_a_block_faults_at_most_once() {
    let (machine, space, graves) = folded();
    machine.set_records_access(false);
    let stay = ();
    let section = machine.read_side(&stay);
    let mut recorded = 0;
    for i in 0..16 {
        let va = AT + i * PAGE;
        // The hardware faults as long as the entry of the page itself is clean.
        let mut faults = 0;
        while !raw(&space, va).hw_writable() {
            let leaf = space.lock_existing(va, &section).expect("a table");
            faults += 1;
            assert!(faults <= 1, "XC-05: page {i} faults for ever");
            match leaf.mark_accessed(va, true) {
                Accessed::Recorded { .. } => recorded += 1,
                other => panic!("XC-05: page {i}: {other:?}"),
            }
        }
        let leaf = space.lock_existing(va, &section).expect("a table");
        assert_eq!(leaf.mark_accessed(va, true), Accessed::Already);
    }
    assert_eq!(recorded, 1);
    end(space, &graves);
}

#[test]
fn an_access_that_is_not_allowed_is_not_recorded() {
    let (machine, space, graves) = folded();
    each_leaf(&space, &graves, (AT, AT + BLOCK), |leaf, gather| {
        leaf.write_protect(gather)
    });
    let stay = ();
    let section = machine.read_side(&stay);
    let leaf = space.lock_existing(AT, &section).expect("a table");
    assert_eq!(leaf.mark_accessed(AT, true), Accessed::NotAllowed);
    assert_eq!(leaf.mark_accessed(AT, false), Accessed::Already);
    assert_eq!(leaf.mark_accessed(AT + BLOCK, false), Accessed::NotAllowed);
    drop(leaf);
    end(space, &graves);
}

#[test]
fn a_mark_on_one_page_unfolds_and_marks_that_page_alone() {
    let (_, space, graves) = folded();
    each_leaf(
        &space,
        &graves,
        (AT + 7 * PAGE, AT + 8 * PAGE),
        |leaf, gather| {
            leaf.mark_uffd_wp(Marking::Present, gather);
        },
    );
    for i in 0..16 {
        let pte = raw(&space, AT + i * PAGE);
        assert_eq!(pte.uffd_wp(), i == 7, "XC-01: page {i}");
        assert_eq!(pte.writable(), i != 7, "law 10: page {i}");
        assert!(!pte.is_contiguous());
    }
    // Mixed marks never fold, however the last page is written.
    each_leaf(
        &space,
        &graves,
        (AT + 8 * PAGE, AT + BLOCK),
        |leaf, gather| {
            leaf.protect(Prot::READ, gather);
            leaf.protect(RW, gather);
        },
    );
    assert_eq!(contiguous(&space, AT, 16), [false; 16]);
    end(space, &graves);
}

#[test]
fn the_last_mark_makes_the_block_alike_and_folds_it() {
    let (_, space, graves) = folded();
    for i in 0..16 {
        each_leaf(
            &space,
            &graves,
            (AT + i * PAGE, AT + (i + 1) * PAGE),
            |leaf, gather| {
                leaf.mark_uffd_wp(Marking::Present, gather);
            },
        );
        assert_eq!(contiguous(&space, AT, 16), [i == 15; 16], "page {i}");
    }
    let Walked::Seen { value, .. } = walk(&space, AT) else {
        panic!("gone")
    };
    assert!(value.uffd_wp() && !value.writable());
    end(space, &graves);
}

#[test]
fn getters_see_what_any_entry_of_the_block_recorded_and_no_contiguous_bit() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    install_folio(&space, AT, folio(machine, 4), 16, Attrs::user(RW));
    assert!(touch(&space, AT + 3 * PAGE, true));
    let clean = Attrs::user(RW).with_young(true).with_dirty(true);
    let stay = ();
    let section = machine.read_side(&stay);
    for i in 0..16 {
        let va = AT + i * PAGE;
        assert_eq!(raw(&space, va).dirty(), i == 3, "per entry in memory");
        let Walked::Seen { value, level, span } = space.walk(va, &section) else {
            panic!("gone")
        };
        assert_eq!((level, span), (Level::L3, BLOCK));
        let leaf = space.lock_existing(va, &section).expect("a table");
        for (getter, value) in [("lockless", value), ("locked", leaf.get(va))] {
            assert!(value.dirty() && value.young(), "PTE-13: {getter}, page {i}");
            let entry = value.decode(machine.format(), level);
            let pa = PhysAddr::new(pfn_at(&space, va).expect("mapped") << 12);
            let want = arm64::pte::Entry::Leaf { pa, attrs: clean };
            assert_eq!(entry, want, "PTE-04: {getter}, page {i}");
        }
    }
    end(space, &graves);
}

#[test]
fn a_lockless_getter_answers_with_one_moment_of_a_block_or_not_at_all() {
    let (_, space, graves) = folded();
    // Another CPU is between break and make: page 9 is empty, then it is single, then as it was.
    let (_, cell) = entry(&space, AT + 9 * PAGE);
    let whole = Pte::from_raw(cell.swap(0, SeqCst));
    let seen = walk(&space, AT);
    assert!(
        matches!(seen, Walked::Miss { value, .. } if value.is_none()),
        "XC-04: {seen:?}"
    );
    cell.store(whole.with_contiguous(false).raw(), SeqCst);
    assert!(matches!(walk(&space, AT), Walked::Miss { .. }), "XC-04");
    assert!(matches!(
        walk(&space, AT + 9 * PAGE),
        Walked::Seen { span: PAGE, .. }
    ));
    cell.store(whole.raw(), SeqCst);
    assert_eq!(span(&space, AT), BLOCK);
    end(space, &graves);
}

#[test]
fn each_page_of_a_block_has_a_reference() {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (user(machine), Graveyard::new());
    let frame = folio(machine, 4);
    let head = machine
        .frames()
        .meta(frame.pfn())
        .expect("a frame of the bank");
    install_folio(&space, AT, frame.page(0), 16, young());
    assert_eq!(head.references(), 17);
    zap(&space, &graves, AT + 4 * PAGE, AT + 6 * PAGE);
    assert_eq!(head.references(), 15);
    zap(&space, &graves, AT, AT + BLOCK);
    assert_eq!(head.references(), 1);
    drop(frame);
    end(space, &graves);
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn what_a_batch_maps_beside_the_touched_page_is_born_old_and_clean() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let stay = ();
    let section = machine.read_side(&stay);
    let leaf = space.lock_leaf(AT, &section, || true).expect("a table");
    let attrs = young().with_dirty(true);
    let touched = Some(AT + 6 * PAGE);
    let done = leaf.install_folio(AT, folio(machine, 4), 16, attrs, touched);
    assert!(done.is_ok());
    drop(leaf);
    for i in 0..16 {
        let pte = raw(&space, AT + i * PAGE);
        assert_eq!((pte.young(), pte.dirty()), (i == 6, i == 6), "page {i}");
        assert!(pte.is_contiguous());
    }
    end(space, &graves);
}

#[test]
fn kernel_mappings_are_never_contiguous() {
    let machine = machine();
    let space: PageTable<Kernel, _> =
        PageTable::new(machine, 1, Geometry::for_va_bits(48)).expect("a root");
    let at = 0xffff_9000_0000_0000;
    let attrs = Attrs::kernel(RW, MemType::Normal).with_contiguous(false);
    let pa = PhysAddr::new(0x8000_0000);
    machine.start_log();
    space
        .edit()
        .map(range(at, at + 2 * BLOCK), pa, attrs)
        .expect("room");
    let _flushed = space.edit().protect(range(at, at + BLOCK), Prot::READ);
    let _flushed = space.edit().protect(range(at, at + BLOCK), RW);
    let _flushed = space
        .edit()
        .protect(range(at + PAGE, at + 2 * PAGE), Prot::READ);
    let _flushed = space.edit().unmap(range(at + BLOCK, at + 2 * BLOCK));
    for event in machine.take_log() {
        if let Event::Stored { new, level, .. } = event {
            assert!(
                !new.is_leaf(level) || !new.is_contiguous(),
                "XC-13: {new:?}"
            );
        }
    }
    let stay = ();
    let section = machine.read_side(&stay);
    for i in 0..16 {
        let walked = space.walk(at + i * PAGE, &section);
        assert!(
            matches!(walked, Walked::Seen { span: PAGE, .. }),
            "{walked:?}"
        );
    }
}

/// Law 3: hardware records a write at any moment of a change, also between its load and its store.
#[test]
fn what_the_hardware_records_during_a_change_is_not_lost() {
    let rounds = if cfg!(miri) { 10 } else { 5000 };
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    install(&space, AT, folio(machine, 0), young());
    let (_, cell) = entry(&space, AT);
    let clean = cell.load(SeqCst);
    let (asked, done) = (AtomicU64::new(0), AtomicU64::new(0));
    // Counted, not asserted: a panic would leave the other thread waiting.
    let mut lost = 0;
    std::thread::scope(|scope| {
        let (asked, done) = (&asked, &done);
        scope.spawn(move || {
            for round in 1..=rounds {
                while asked.load(SeqCst) != round {
                    std::thread::yield_now();
                }
                (0..round % 61).for_each(|_| std::hint::spin_loop());
                let written = |word| Some(Pte::from_raw(word).mkdirty().raw());
                cell.fetch_update(SeqCst, SeqCst, written).expect("always");
                done.store(round, SeqCst);
            }
        });
        each_leaf(&space, &graves, (AT, AT + PAGE), |leaf, gather| {
            for round in 1..=rounds {
                cell.store(clean, SeqCst);
                asked.store(round, SeqCst);
                while done.load(SeqCst) != round {
                    leaf.clear_young(gather);
                    leaf.mark_accessed(AT, false);
                }
                lost += u32::from(!leaf.get(AT).dirty());
            }
        });
    });
    assert_eq!(lost, 0, "law 3: recorded and lost");
    end(space, &graves);
}
