//! ptdump: merged ranges, and lines that are whole while the tables change (PTE-07).

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use arm64::addr::PhysAddr;
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::{Geometry, Level};
use common::{
    BLOCK, GIB, MIB2, PAGE, RW, Space, each_leaf, end, folio, install, install_folio, machine,
    protect, range, user, young, zap,
};

use pgtable::{Graveyard, Kernel, Machine, PageTable};

const AT: u64 = 0x12_3440_0000;

fn dump(space: &Space) -> String {
    let stay = ();
    let mut text = String::new();
    let section = space.machine().read_side(&stay);
    space
        .dump(&mut text, &section)
        .expect("a string takes everything");
    text
}

#[test]
fn equal_neighbours_are_one_range() {
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    // Single pages, a contiguous block, a page without access, a block of 2 MiB.
    install_folio(&space, AT - 2 * PAGE, folio(machine, 1), 2, young());
    install_folio(&space, AT, folio(machine, 4), 16, young());
    install(&space, AT + BLOCK, folio(machine, 0), young());
    protect(
        &space,
        &graves,
        (AT + BLOCK, AT + BLOCK + PAGE),
        Prot::empty(),
    );
    let (stay, large) = ((), folio(machine, 9));
    let section = machine.read_side(&stay);
    let at = AT + 2 * MIB2;
    space
        .map_block(at, Level::L2, large, young(), &section, || true)
        .expect("room");
    let want = "\
00000012343fe000-0000001234400000         8 KiB  rw-u normal   L3 4 KiB pages
0000001234400000-0000001234410000        64 KiB  rw-u normal   L3 4 KiB pages contiguous
0000001234410000-0000001234411000         4 KiB  ---u normal   L3 4 KiB pages (software only)
0000001234800000-0000001234a00000      2048 KiB  rw-u normal   L2 2 MiB blocks
ranges both writable and executable: 0
";
    assert_eq!(dump(&space), want);
    end(space, &graves);
}

#[test]
fn ranges_both_writable_and_executable_are_pointed_out() {
    let machine = machine();
    let space: PageTable<Kernel, _> =
        PageTable::new(machine, 1, Geometry::for_va_bits(48)).expect("a root");
    let at = 0xffff_9000_0000_0000;
    let attrs = Attrs::kernel(RW | Prot::EXEC, MemType::Normal);
    let pa = PhysAddr::new(GIB);
    space
        .edit()
        .map(range(at, at + 2 * PAGE), pa, attrs)
        .expect("room");
    let (stay, mut text) = ((), String::new());
    space
        .dump(&mut text, &machine.read_side(&stay))
        .expect("a string");
    let line = text.lines().next().expect("a line");
    assert!(
        line.starts_with("ffff900000000000-ffff900000002000"),
        "{text}"
    );
    assert!(line.contains("WRITABLE AND EXECUTABLE"), "{text}");
    assert!(
        text.ends_with("ranges both writable and executable: 1\n"),
        "{text}"
    );
}

/// Whether a line is of the one form that a range has, and its range lies where something was ever
/// mapped.
fn is_well_formed(line: &str) -> bool {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let Some((from, to)) = line.get(..33).and_then(|range| range.split_once('-')) else {
        return line == "ranges both writable and executable: 0";
    };
    let (Some(from), Some(to)) = (hex(from), hex(to)) else {
        return false;
    };
    let known = AT <= from && from < to && to <= AT + 2 * BLOCK && (from | to) % PAGE == 0;
    let rest = line[33..].trim_start();
    let size = format!("{} KiB  ", (to - from) >> 10);
    let Some(attrs) = rest.strip_prefix(&size) else {
        return false;
    };
    let rights = ["rw-u", "r--u"].iter().any(|prot| attrs.starts_with(prot));
    let folded = attrs.ends_with(" contiguous");
    let end = " normal   L3 4 KiB pages";
    let whole = !folded || (from | to) % BLOCK == 0;
    known && rights && whole && attrs[4..].trim_end_matches(" contiguous") == end
}

#[test]
fn a_dump_while_blocks_come_and_go_has_whole_lines_only() {
    let rounds = if cfg!(miri) { 20 } else { 10_000 };
    let machine = machine();
    let (space, graves) = (user(machine), Graveyard::new());
    // Keeps the table: what dies with it is another test's.
    install(&space, AT + BLOCK + 3 * PAGE, folio(machine, 0), young());
    let (done, mut torn, mut lines) = (AtomicBool::new(false), Vec::new(), 0);
    std::thread::scope(|scope| {
        let (space, graves, done) = (&space, &graves, &done);
        scope.spawn(move || {
            let part = (AT + 5 * PAGE, AT + 7 * PAGE);
            for _ in 0..rounds {
                install_folio(space, AT, folio(machine, 4), 16, young());
                // Unfolds, and folds again.
                protect(space, graves, part, Prot::READ);
                each_leaf(space, graves, (AT, AT + BLOCK), |leaf, gather| {
                    leaf.write_protect(gather);
                });
                zap(space, graves, AT, AT + BLOCK);
            }
            done.store(true, SeqCst);
        });
        while !done.load(SeqCst) {
            let text = dump(space);
            lines += text.lines().count();
            torn.extend(
                text.lines()
                    .filter(|line| !is_well_formed(line))
                    .map(String::from),
            );
        }
    });
    assert!(torn.is_empty(), "PTE-07: {torn:?}");
    assert!(lines > 1, "something was seen");
    end(space, &graves);
}
