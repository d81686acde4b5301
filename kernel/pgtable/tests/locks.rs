//! What locks are for: schedules of two CPUs around missing, new and dying tables (D5), and what a
//! batch under one lock costs.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use arm64::addr::PhysAddr;
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::{Geometry, Level};
use arm64::pte::Format;
use common::{
    GIB, MIB2, PAGE, PLAIN, RW, Space, each_leaf, end, folio, install, install_folio, machine,
    only, pfn_at, protect, range, raw, release, user, walk, young, zap,
};
use frame::arena;
use model::HostMachine;
use model::host::Event;
use pgtable::{
    Cursor, Gather, Graveyard, Kernel, Kind, LockError, Machine, Marking, PageTable, Pause,
    Special, TableError, Visit, Walked, Zap,
};

const AT: u64 = 0x12_3440_0000;
/// Behind a table of its own, under the same parent.
const SIBLING: u64 = AT + MIB2;

/// Long enough for another thread to do what it should not be able to do.
fn wait_a_while(unless: impl Fn() -> bool) {
    for _ in 0..50 {
        if unless() {
            return;
        }
        match cfg!(miri) {
            true => std::thread::yield_now(),
            false => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn wait_until(done: impl Fn() -> bool) {
    while !done() {
        std::thread::yield_now();
    }
}

/// D5 from the unmapper's side: announce, then visit.
fn unmap(space: &Space, graves: &Graveyard, retired: &AtomicBool, (start, to): (u64, u64)) {
    retired.store(true, SeqCst);
    zap(space, graves, start, to);
}

#[test]
fn a_table_is_not_linked_for_an_area_that_was_unmapped_meanwhile() {
    for skipped in 0..2 {
        let machine = machine();
        let (space, graves) = (Arc::new(user(machine)), Arc::new(Graveyard::new()));
        let retired = Arc::new(AtomicBool::new(false));
        (0..skipped).for_each(|_| machine.script(Pause::TableMissing, || {}));
        let parts = (
            Arc::clone(&space),
            Arc::clone(&graves),
            Arc::clone(&retired),
        );
        machine.script(Pause::TableMissing, move || {
            let (space, graves, retired) = parts;
            unmap(&space, &graves, &retired, (AT, AT + MIB2));
        });
        let stay = ();
        let section = machine.read_side(&stay);
        let locked = space.lock_leaf(AT, &section, || !retired.load(SeqCst));
        assert_eq!(
            locked.err(),
            Some(LockError::Retired),
            "after {skipped} tables"
        );
        assert_eq!(machine.script_left(), 0);
        // The unmapping has been here already: what is linked now stays for good.
        assert_eq!(
            space.stats().live(),
            1,
            "D5, check 2, after {skipped} tables"
        );
        end(only(space), &only(graves));
    }
}

#[test]
fn a_table_is_not_linked_under_a_parent_that_has_been_unlinked() {
    let machine = machine();
    let before = machine.free_frames();
    let (space, graves) = (Arc::new(user(machine)), Arc::new(Graveyard::new()));
    install(&space, SIBLING, folio(machine, 0), young());
    let (changed, buried) = (Arc::clone(&space), Arc::clone(&graves));
    machine.script(Pause::TableMissing, move || {
        zap(&changed, &buried, SIBLING, SIBLING + PAGE);
        assert_eq!(changed.stats().live(), 1, "the parent is gone too");
    });
    let frame = folio(machine, 0);
    let pfn = frame.pfn().raw();
    install(&space, AT, frame, young());
    assert_eq!(pfn_at(&space, AT), Some(pfn));
    assert_eq!(space.stats().live(), 3, "D5, check 1");
    end(only(space), &only(graves));
    assert_eq!(machine.free_frames(), before);
}

#[test]
fn nobody_links_a_table_where_a_visitor_found_none() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    install(&space, SIBLING, folio(machine, 0), young());
    let missing = Arc::new(AtomicBool::new(false));
    let reached = Arc::clone(&missing);
    machine.script(Pause::TableMissing, move || reached.store(true, SeqCst));
    let linked = AtomicBool::new(false);
    let too_early = std::thread::scope(|scope| {
        let stay = ();
        let section = machine.read_side(&stay);
        let visit = space.cursor(range(AT, AT + MIB2), &section).visit();
        assert!(matches!(visit, Some(Visit::Absent(_))));
        let (space, linked) = (&space, &linked);
        scope.spawn(move || {
            install(space, AT, folio(machine, 0), young());
            linked.store(true, SeqCst);
        });
        wait_until(|| missing.load(SeqCst));
        let is_linked = || raw(space, AT).is_table(Level::L2) || linked.load(SeqCst);
        wait_a_while(is_linked);
        let too_early = linked.load(SeqCst) || !raw(space, AT).is_none();
        drop(visit);
        too_early
    });
    assert!(
        !too_early,
        "D5: an absent table is visited under its parent's lock"
    );
    assert!(matches!(walk(&space, AT), Walked::Seen { .. }));
    end(space, &graves);
}

type LockIt = fn(&Space) -> Option<bool>;

/// The ways to a leaf table; whether they ended with one that has the page, or with none.
const WAYS: [(&str, Option<bool>, LockIt); 4] = [
    ("lock_existing", None, |space| {
        let stay = ();
        let section = space.machine().read_side(&stay);
        let leaf = space.lock_existing(AT, &section)?;
        Some(leaf.get(AT).is_none())
    }),
    ("lock_leaf", Some(true), |space| {
        let stay = ();
        let section = space.machine().read_side(&stay);
        let leaf = space.lock_leaf(AT, &section, || true).ok()?;
        Some(leaf.get(AT).is_none())
    }),
    ("lock_seen", None, |space| {
        let stay = ();
        let section = space.machine().read_side(&stay);
        let look = space.look(AT, &section);
        let leaf = space.lock_seen(AT, &look, || true)?;
        Some(leaf.get(AT).is_none())
    }),
    ("cursor", None, |space| {
        let stay = ();
        let section = space.machine().read_side(&stay);
        match space.cursor(range(AT, AT + PAGE), &section).visit()? {
            Visit::Table(leaf) => Some(leaf.get(AT).is_none()),
            Visit::Block(_) | Visit::Absent(_) => None,
        }
    }),
];

#[test]
fn a_table_that_is_unlinked_before_it_is_locked_is_looked_for_again() {
    for (name, want, lock) in WAYS {
        let machine = machine();
        let before = machine.free_frames();
        let (space, graves) = (Arc::new(user(machine)), Arc::new(Graveyard::new()));
        install(&space, AT, folio(machine, 0), young());
        let (changed, buried) = (Arc::clone(&space), Arc::clone(&graves));
        machine.script(Pause::BeforeLock, move || {
            zap(&changed, &buried, AT, AT + PAGE);
            assert_eq!(changed.stats().live(), 1);
        });
        assert_eq!(lock(&space), want, "{name}");
        assert_eq!(machine.script_left(), 0, "{name}");
        let made = if want.is_some() { 3 } else { 1 };
        assert_eq!(space.stats().live(), made, "{name}");
        end(only(space), &only(graves));
        assert_eq!(machine.free_frames(), before, "{name}");
    }
}

/// The same for a block of 2 MiB, which is written under the lock of the table above: whether that
/// table has to be made first or is there.
#[test]
fn a_block_is_not_mapped_for_an_area_that_was_unmapped_meanwhile() {
    for (pause, with_table) in [
        (Pause::TableMissing, false),
        (Pause::BeforeLock, false),
        (Pause::BeforeLock, true),
    ] {
        let machine = machine();
        let before = machine.free_frames();
        let (space, graves) = (Arc::new(user(machine)), Arc::new(Graveyard::new()));
        if with_table {
            install(&space, SIBLING, folio(machine, 0), young());
        }
        let retired = Arc::new(AtomicBool::new(false));
        let parts = (
            Arc::clone(&space),
            Arc::clone(&graves),
            Arc::clone(&retired),
        );
        machine.script(pause, move || {
            let (space, graves, retired) = parts;
            unmap(&space, &graves, &retired, (AT, AT + MIB2));
        });
        let stay = ();
        let section = machine.read_side(&stay);
        let frame = folio(machine, 9);
        let still = || !retired.load(SeqCst);
        let mapped = space.map_block(AT, Level::L2, frame, young(), &section, still);
        let (error, frame) = mapped.expect_err("the area is gone");
        assert_eq!(error, LockError::Retired, "{pause:?}");
        assert_eq!(machine.script_left(), 0);
        assert!(matches!(walk(&space, AT), Walked::Miss { .. }), "{pause:?}");
        drop(frame);
        end(only(space), &only(graves));
        assert_eq!(machine.free_frames(), before, "{pause:?}");
    }
}

#[test]
fn a_look_tells_whether_a_block_has_room() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let stay = ();
    let section = machine.read_side(&stay);
    let room = |va| space.look(va, &section).has_room_for_block();
    assert!(room(AT), "no table at all");
    install(&space, SIBLING, folio(machine, 0), young());
    assert!(room(AT + PAGE) && !room(SIBLING + PAGE), "a table of pages");
    let mapped = space.map_block(AT, Level::L2, folio(machine, 9), young(), &section, || true);
    assert!(mapped.is_ok() && !room(AT + PAGE), "a block");
    end(space, &graves);
}

#[test]
fn a_table_is_not_unlinked_while_somebody_has_it_locked() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    install(&space, AT, folio(machine, 0), young());
    let frame = folio(machine, 0);
    let pfn = frame.pfn().raw();
    std::thread::scope(|scope| {
        let stay = ();
        let section = machine.read_side(&stay);
        // Holds the parent, so that the zapper stops between emptying the table and unlinking it.
        let parent = space
            .cursor(range(SIBLING, SIBLING + MIB2), &section)
            .visit();
        assert!(matches!(parent, Some(Visit::Absent(_))));
        let (space, graves) = (&space, &graves);
        scope.spawn(move || zap(space, graves, AT, AT + PAGE));
        wait_until(|| raw(space, AT).is_none());
        let leaf = space.lock_existing(AT, &section).expect("a table");
        drop(parent);
        wait_a_while(|| {
            walk(space, AT)
                != Walked::Miss {
                    value: leaf.get(AT),
                    level: Level::L3,
                }
        });
        let done = leaf.install(AT, frame, young());
        assert!(done.is_ok());
    });
    assert_eq!(
        pfn_at(&space, AT),
        Some(pfn),
        "law 8: mapped in a table that is no more"
    );
    end(space, &graves);
}

#[test]
fn a_refusing_hook_or_allocator_at_every_level_leaks_nothing() {
    for allowed in 0..3 {
        for by_hook in [false, true] {
            let machine = machine();
            let before = machine.free_frames();
            let (space, graves) = (user(machine), Graveyard::new());
            let (frames, stay) = (machine.frames(), ());
            match by_hook {
                true => machine.refuse_after(allowed),
                false => frames.fail_after(allowed),
            }
            let section = machine.read_side(&stay);
            let error = space.lock_leaf(AT, &section, || true).err();
            let want = match (allowed, by_hook) {
                (2, _) => None,
                (_, true) => Some(LockError::Table(TableError::Refused)),
                (_, false) => Some(LockError::Table(TableError::NoMemory)),
            };
            assert_eq!(error, want, "CTOR-22: after {allowed}");
            assert_eq!(space.stats().live(), 1 + allowed);
            machine.refuse_after(u64::MAX);
            frames.fail_after(u64::MAX);
            install(&space, AT, folio(machine, 0), young());
            end(space, &graves);
            assert_eq!(
                machine.free_frames(),
                before,
                "after {allowed}, hook: {by_hook}"
            );
        }
    }
}

#[test]
fn no_destructor_runs_while_a_walker_is_inside() {
    let machine = HostMachine::new(512, PLAIN, 2);
    let (space, graves) = (user(machine), Graveyard::new());
    install(&space, AT, folio(machine, 0), young());
    let stay = ();
    let section = machine.read_side(&stay);
    let look = space.look(AT, &section);
    zap(&space, &graves, AT, AT + PAGE);
    graves.reap(machine, 99);
    // The other CPU has left the kernel; the walker's has not.
    machine.grace().quiescent(1);
    assert_eq!(graves.reap(machine, 99), 0);
    assert_eq!(machine.hook_calls(), (3, 0), "CTOR-21");
    assert!(look.is_empty_around(AT, 16), "still a table");
    machine.grace().quiescent(0);
    assert_eq!(graves.reap(machine, 99), 2);
    assert_eq!(machine.hook_calls(), (3, 2));
    machine.pass_grace_period(2);
    let mut space = space;
    let mut gather = Gather::new();
    space.retire(&mut gather);
    release(&space, &graves, &mut gather);
}

#[test]
fn a_table_is_kept_as_long_as_it_holds_anything() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    install(&space, AT, folio(machine, 0), young());
    install(&space, AT + PAGE, folio(machine, 0), young());
    // Invalid to the hardware, and all that is known of that page.
    protect(&space, &graves, (AT + PAGE, AT + 2 * PAGE), Prot::empty());
    zap(&space, &graves, AT, AT + PAGE);
    assert_eq!(space.stats().live(), 3, "UF-22");
    assert!(matches!(walk(&space, AT + PAGE), Walked::Miss { value, .. } if !value.is_none()));
    zap(&space, &graves, AT + PAGE, AT + 2 * PAGE);
    assert_eq!(space.stats().live(), 1);
    end(space, &graves);
}

#[test]
fn unlinking_a_table_flushes_walk_caches_of_all_that_it_translated() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    install(&space, AT, folio(machine, 0), young());
    install(&space, SIBLING, folio(machine, 0), young());
    machine.take_invalidations();
    zap(&space, &graves, AT, AT + PAGE);
    let flushed = machine.take_invalidations();
    let covers = |what: &pgtable::Invalidation| {
        matches!(what, pgtable::Invalidation::Range { start, end, tables: true, .. }
            if *start <= AT && AT + MIB2 <= *end)
    };
    assert!(flushed.iter().any(covers), "law 12: {flushed:?}");
    end(space, &graves);
}

type Batch = fn(&Space, &Graveyard);

/// One window each, for 512 entries.
const BATCHES: [(&str, Batch); 8] = [
    ("map", |space, _| {
        install_folio(space, AT, folio(space.machine(), 9), 512, young())
    }),
    ("protect", |space, graves| {
        protect(space, graves, (AT, AT + MIB2), Prot::READ)
    }),
    ("mark", |space, graves| {
        each_leaf(space, graves, (AT, AT + MIB2), |leaf, gather| {
            leaf.mark_uffd_wp(Marking::Present, gather)
        })
    }),
    ("clear young", |space, graves| {
        each_leaf(space, graves, (AT, AT + MIB2), |leaf, gather| {
            leaf.clear_young(gather);
        })
    }),
    ("clear marks", |space, graves| {
        each_leaf(space, graves, (AT, AT + MIB2), |leaf, gather| {
            leaf.mark_uffd_wp(Marking::Clear, gather)
        })
    }),
    ("collapse", |space, graves| {
        let stay = ();
        let section = space.machine().read_side(&stay);
        let mut gather = Gather::new();
        assert!(space.collapse(AT, &mut gather, &section));
        release(space, graves, &mut gather);
    }),
    ("split", |space, _| {
        let stay = ();
        let section = space.machine().read_side(&stay);
        space.split_block(AT, &section).expect("memory");
    }),
    ("zap", |space, graves| {
        // Another page keeps the table: unlinking is another batch.
        each_leaf(space, graves, (AT, AT + MIB2), |leaf, gather| {
            // As many pages as one step may free (law 16).
            assert!(leaf.zap(Zap::REGION_GONE, gather) >= AT + 512 * PAGE);
        })
    }),
];

#[test]
fn a_batch_of_512_entries_opens_the_tables_once() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    let stay = ();
    drop(space.lock_leaf(AT, &machine.read_side(&stay), || true).ok());
    for (name, batch) in BATCHES {
        machine.start_log();
        batch(&space, &graves);
        let log = machine.take_log();
        let count = |wanted| log.iter().filter(|event| **event == wanted).count();
        assert_eq!(
            (count(Event::Opened), count(Event::Closed)),
            (1, 1),
            "XC-07: {name}"
        );
        let stores = log
            .iter()
            .filter(|event| matches!(event, Event::Stored { .. }))
            .count();
        // A collapse changes one entry, of the table above, for the whole table.
        let entries = match name {
            "collapse" => 2,
            "zap" => 512,
            _ => 512,
        };
        assert!(stores >= entries, "{name}: {stores}");
        let first = log
            .iter()
            .find(|event| !matches!(event, Event::Invalidated(_)));
        assert_eq!(first, Some(&Event::Opened), "{name}");
        let last = log
            .iter()
            .rfind(|event| !matches!(event, Event::Invalidated(_)));
        assert_eq!(last, Some(&Event::Closed), "{name}");
    }
    end(space, &graves);
}

/// What a cursor finds, in one word per part: the same code for all kinds of space.
fn parts<K: Kind>(mut cursor: Cursor<'_, K, HostMachine>) -> Vec<(&'static str, u64)> {
    let mut found = Vec::new();
    while let Some(visit) = cursor.visit() {
        found.push(match visit {
            Visit::Table(leaf) => {
                let pages = (leaf.from()..leaf.to()).step_by(PAGE as usize);
                let mapped = pages.filter(|&va| !leaf.get(va).is_none());
                ("table", mapped.count() as u64)
            }
            Visit::Block(block) => ("block", block.get().is_leaf(block.level()).into()),
            Visit::Absent(absent) => ("absent", absent.to() - absent.from()),
        });
    }
    found
}

/// A tree made by hand in the first frames, as boot makes it: the page at 1 GiB + 9 pages.
fn special(format: Format) -> PageTable<Special, HostMachine> {
    let machine = HostMachine::with_reserved(64, format, 8);
    let table = |n: u64| PhysAddr::new(arena::BASE.raw() + n * PAGE);
    let write = |n: u64, index: usize, raw: u64| {
        let at = machine.frames().window().virt(table(n)).cast::<u64>();
        // SAFETY: reserved arena memory that nobody else looks at yet.
        unsafe { at.add(index).write(raw) };
    };
    let attrs = Attrs::kernel(RW, MemType::Normal);
    write(0, 1, format.table(table(1)).raw());
    write(1, 0, format.table(table(2)).raw());
    write(
        2,
        9,
        format
            .leaf(PhysAddr::new(0x8000_0000), attrs, Level::L3)
            .raw(),
    );
    let shape = Geometry::for_va_bits(39);
    // SAFETY: a well-formed tree in frames that nobody owns.
    unsafe { PageTable::adopt(machine, 3, shape, table(0)) }.expect("a tree")
}

#[test]
fn one_cursor_visits_all_kinds_of_space() {
    let stay = ();
    let want = |before| vec![("absent", before), ("table", 1), ("absent", MIB2)];

    // User: made by the fault path, changed by the leaf.
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    install(&space, GIB, folio(machine, 0), young());
    let section = machine.read_side(&stay);
    let around = range(GIB - MIB2, GIB + 2 * MIB2);
    assert_eq!(parts(space.cursor(around, &section)), want(MIB2));
    protect(&space, &graves, (GIB, GIB + PAGE), Prot::READ);
    assert!(matches!(walk(&space, GIB), Walked::Seen { value, .. } if !value.writable()));
    end(space, &graves);

    // Kernel: made and changed under the edit token.
    let kernel: PageTable<Kernel, _> =
        PageTable::new(machine, 1, Geometry::for_va_bits(39)).expect("a root");
    let base = u64::MAX << 39;
    let page = range(base + GIB, base + GIB + PAGE);
    let attrs = Attrs::kernel(RW, MemType::Normal);
    let mut edit = kernel.edit();
    edit.map(page, PhysAddr::new(0x8000_0000), attrs)
        .expect("room");
    let around = range(base + GIB - MIB2, base + GIB + 2 * MIB2);
    assert_eq!(parts(edit.cursor(around, &section)), want(MIB2));
    let _flushed = edit.protect(page, Prot::READ);
    let walked = kernel.walk(base + GIB, &section);
    assert!(matches!(walked, Walked::Seen { value, .. } if !value.writable()));

    // Special: adopted, read by an exclusive borrow.
    let mut space = special(PLAIN);
    let section = space.machine().read_side(&stay);
    let around = range(GIB - MIB2, GIB + 2 * MIB2);
    assert_eq!(parts(space.cursor(around, &section)), want(MIB2));
    assert!(matches!(
        space.walk(GIB + 9 * PAGE, &section),
        Walked::Seen { .. }
    ));
    assert_eq!(space.stats().live(), 3, "CTOR-11");
}
