//! Corners of the verbs in which Linux was measured (docs/linux-measured.md), on a host machine.

mod common;

use arm64::attrs::Prot;
use arm64::pte::Format;
use common::{Space, World};
use mm::{
    Access, Backing, CopyStop, FaultOutcome, Grows, MapFlags, MapRequest, MmError, RemapFlags,
    SegvCode, Verb,
};

const PAGE: u64 = 4096;
const BASE: u64 = 0x10_0000;
const RW: Prot = Prot::READ.union(Prot::WRITE);

fn run(space: &Space, verb: Verb) -> Result<u64, MmError> {
    let mut change = space.begin(verb)?;
    loop {
        if let Some(result) = change.step(space, 3) {
            return result;
        }
    }
}

fn map(space: &Space, page: u64, pages: u64, prot: Prot, flags: MapFlags) {
    let request = MapRequest {
        addr: BASE + page * PAGE,
        len: pages * PAGE,
        prot,
        flags: flags | MapFlags::FIXED,
        backing: Backing::ANON,
        refusal: None,
    };
    assert!(run(space, Verb::Map(request)).is_ok());
}

fn write(space: &Space, page: u64) {
    assert_eq!(space.copy_out(BASE + page * PAGE, b"x"), Ok(1));
}

fn remap(
    space: &Space,
    (page, pages): (u64, u64),
    (to, more): (u64, u64),
    flags: RemapFlags,
) -> Result<u64, MmError> {
    let verb = Verb::Remap {
        old: BASE + page * PAGE,
        old_len: pages.wrapping_mul(PAGE),
        new_len: more.wrapping_mul(PAGE),
        flags,
        new: BASE + to * PAGE,
    };
    run(space, verb).map(|at| at.wrapping_sub(BASE) / PAGE)
}

/// The areas as `first..end rights`, in pages from [`BASE`].
fn maps(space: &Space) -> Vec<String> {
    let mut text = String::new();
    space.maps(&mut text).unwrap();
    let page = |hex: &str| (u64::from_str_radix(hex, 16).unwrap() - BASE) / PAGE;
    let show = |line: &str| {
        let mut words = line.split(' ');
        let (start, end) = words.next()?.split_once('-')?;
        Some(format!("{}..{} {}", page(start), page(end), words.next()?))
    };
    text.lines().filter_map(show).collect()
}

const MOVE: RemapFlags = RemapFlags::MAYMOVE.union(RemapFlags::FIXED);

#[test]
fn what_was_never_written_merges_wherever_it_is_moved() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 40, Prot::empty(), MapFlags::NORESERVE);
    map(&space, 2, 1, RW, MapFlags::NORESERVE);
    write(&space, 2);
    assert_eq!(remap(&space, (24, 6), (2, 6), MOVE), Ok(2));
    assert_eq!(maps(&space), ["0..24 ---p", "30..40 ---p"]);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn a_write_that_is_refused_gives_an_area_no_origin() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 4, Prot::READ, MapFlags::empty());
    map(&space, 8, 4, Prot::READ, MapFlags::empty());
    for page in [0, 8] {
        let at = BASE + page * PAGE;
        assert_eq!(space.copy_out(at, b"x"), Err(CopyStop::Fault));
    }
    assert_eq!(remap(&space, (8, 4), (4, 4), MOVE), Ok(4));
    assert_eq!(maps(&space), ["0..8 r--p"]);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn collapsing_says_what_does_not_suit_in_the_order_of_the_areas() {
    let world = World::new(4096, Format::NORMAL);
    let space = world.space();
    let block = 512 - BASE / PAGE % 512;
    map(&space, block, 1024, RW, MapFlags::empty());
    let collapse = |page, pages| {
        let (addr, len) = (BASE + page * PAGE, pages * PAGE);
        run(&space, Verb::Collapse { addr, len })
    };
    write(&space, block);
    assert_eq!(collapse(block + 1, 2), Ok(0), "no whole block in the range");
    assert_eq!(collapse(block + 1022, 4), Err(MmError::NoMemory));
    map(&space, block + 1028, 4, RW, MapFlags::empty());
    assert_eq!(
        collapse(block + 1022, 8),
        Err(MmError::Invalid),
        "the small area behind the hole"
    );
    assert_eq!(collapse(block, 512), Ok(0));
    space.set_small_pages_only(true);
    assert_eq!(collapse(block, 512), Err(MmError::Invalid));
}

/// A change owns the map until it is over, and nothing of it may be cut short: so it must not be as long as
/// what a program says.
#[test]
fn collapsing_a_range_of_nothing_is_soon_over() {
    let world = World::new(4096, Format::NORMAL);
    let space = world.space();
    let block = 512 - BASE / PAGE % 512;
    map(&space, block, 1024, RW, MapFlags::empty());
    // Most of this area has no tables.
    let long = 1 << 24;
    map(&space, block + 512 * 512, long, RW, MapFlags::NORESERVE);
    let steps = |len| {
        let addr = BASE + block * PAGE;
        let mut change = space.begin(Verb::Collapse { addr, len }).expect("begun");
        let result = (0..1000).find_map(|_| change.step(&space, 3));
        result.expect("it is over within a thousand steps")
    };
    assert_eq!(steps(u64::MAX / 512), Err(MmError::NoMemory));
    write(&space, block + 600);
    assert_eq!(steps((long + 512 * 512) * PAGE), Err(MmError::NoMemory));
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn a_growing_area_may_come_next_to_one_that_grows_too() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, 1, 2, RW, MapFlags::empty());
    map(&space, 10, 4, RW, MapFlags::GROWSDOWN);
    assert_eq!(space.copy_out(BASE + 9 * PAGE, b"x"), Err(CopyStop::Fault));
    map(&space, 4, 2, RW, MapFlags::GROWSDOWN);
    assert_eq!(space.copy_out(BASE + 6 * PAGE, b"x"), Ok(1));
    assert_eq!(maps(&space), ["1..3 rw-p", "4..6 rw-p", "6..14 rw-p"]);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn a_second_mapping_of_shared_memory_leaves_the_first_whole() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    let object = world.context.objects().create(8 * PAGE).unwrap();
    let request = MapRequest {
        addr: BASE,
        len: 8 * PAGE,
        prot: RW,
        flags: MapFlags::FIXED | MapFlags::SHARED,
        backing: Backing::object(object, 0),
        refusal: None,
    };
    assert!(run(&space, Verb::Map(request)).is_ok());
    assert_eq!(remap(&space, (3, 0), (20, 2), MOVE), Ok(20));
    assert_eq!(maps(&space), ["0..8 rw-s", "20..22 rw-s"]);
}

#[test]
fn a_remap_to_the_same_length_changes_nothing() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 8, RW, MapFlags::empty());
    let none = RemapFlags::empty();
    assert_eq!(remap(&space, (2, 4), (0, 4), none), Ok(2));
    assert_eq!(maps(&space), ["0..8 rw-p"], "no border is left behind");
    let hopeless = u64::MAX / PAGE;
    assert_eq!(
        remap(&space, (2, hopeless), (0, hopeless), none),
        Ok(2),
        "even where there are not so many addresses"
    );
    assert_eq!(
        remap(&space, (2, hopeless), (0, 2), none),
        Err(MmError::Invalid)
    );
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn a_remap_that_finds_two_areas_has_cleared_its_target_by_then() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 2, RW, MapFlags::empty());
    map(&space, 2, 4, Prot::READ, MapFlags::empty());
    map(&space, 10, 4, RW, MapFlags::empty());
    (10..14).for_each(|page| write(&space, page));
    assert_eq!(
        remap(&space, (5, 2), (10, 2), MOVE),
        Err(MmError::BadAddress)
    );
    assert_eq!(maps(&space), ["0..2 rw-p", "2..6 r--p", "12..14 rw-p"]);
    assert_eq!(
        remap(&space, (0, 6), (12, 3), MOVE),
        Err(MmError::BadAddress)
    );
    assert_eq!(
        maps(&space),
        ["0..2 rw-p", "2..3 r--p"],
        "and the rest of the old range"
    );
    assert_eq!(
        remap(&space, (7, 2), (0, 2), MOVE),
        Err(MmError::BadAddress)
    );
    assert_eq!(
        maps(&space),
        ["0..2 rw-p", "2..3 r--p"],
        "nothing where there is no old area at all"
    );
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn a_low_target_is_refused_after_everything_else() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 2, RW, MapFlags::empty());
    let low = |pages| {
        let verb = Verb::Remap {
            old: BASE,
            old_len: pages * PAGE,
            new_len: pages * PAGE,
            flags: MOVE,
            new: 0,
        };
        run(&space, verb)
    };
    assert_eq!(low(2), Err(MmError::NotPermitted));
    assert_eq!(low(4), Err(MmError::BadAddress));
}

#[test]
fn growth_in_place_may_use_the_gap_below_a_growing_area() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 4, RW, MapFlags::empty());
    map(&space, 10, 4, RW, MapFlags::GROWSDOWN);
    let none = RemapFlags::empty();
    assert_eq!(remap(&space, (0, 4), (0, 10), none), Ok(0));
    assert_eq!(
        remap(&space, (0, 10), (0, 11), none),
        Err(MmError::NoMemory)
    );
    let much = 1 << 40;
    assert_eq!(
        remap(&space, (0, 10), (0, much / PAGE), RemapFlags::MAYMOVE),
        Err(MmError::NoMemory),
        "more is promised than there is"
    );
}

#[test]
fn an_end_beyond_all_addresses_is_a_hole_to_mprotect() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 4, Prot::READ, MapFlags::empty());
    let protect = |len| {
        let addr = BASE + PAGE;
        let prot = RW;
        run(&space, Verb::Protect { addr, len, prot })
    };
    assert_eq!(protect(u64::MAX), Err(MmError::NoMemory));
    assert_eq!(maps(&space), ["0..4 r--p"], "a length that wraps");
    assert_eq!(protect(1 << 63), Err(MmError::NoMemory));
    assert_eq!(
        maps(&space),
        ["0..1 r--p", "1..4 rw-p"],
        "changed up to the hole"
    );
}

#[test]
fn protection_of_a_growing_area_begins_where_the_area_does() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, 10, 4, RW, MapFlags::GROWSDOWN);
    map(&space, 14, 4, RW, MapFlags::empty());
    let protect = |page, grows| {
        let verb = Verb::ProtectGrowing {
            addr: BASE + page * PAGE,
            len: PAGE,
            prot: Prot::READ,
            grows,
        };
        run(&space, verb)
    };
    assert_eq!(protect(12, Grows::Up), Err(MmError::Invalid));
    assert_eq!(protect(15, Grows::Down), Err(MmError::Invalid));
    assert_eq!(protect(5, Grows::Down), Err(MmError::NoMemory));
    assert_eq!(protect(5, Grows::Up), Err(MmError::NoMemory));
    assert_eq!(maps(&space), ["10..14 rw-p", "14..18 rw-p"]);
    assert_eq!(protect(12, Grows::Down), Ok(0));
    assert_eq!(maps(&space), ["10..13 r--p", "13..14 rw-p", "14..18 rw-p"]);
}

#[test]
fn rights_are_shown_as_asked_for_and_bind_others() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 2, Prot::WRITE, MapFlags::empty());
    write(&space, 0);
    let mut byte = [0];
    assert_eq!(
        space.copy_in(BASE, &mut byte),
        Ok(1),
        "the CPU can read what it can write"
    );
    assert_eq!(maps(&space), ["0..2 -w-p"]);
    let foreign = |page, access| space.foreign_access(BASE + page * PAGE, access);
    assert_eq!(foreign(0, Access::Write), Ok(BASE + 2 * PAGE));
    assert_eq!(foreign(0, Access::Read), Err(CopyStop::Fault));
    let refused = FaultOutcome::Segv {
        code: SegvCode::AccErr,
    };
    assert_eq!(space.ask_rights(BASE, Access::Read), Err(refused));
    let prot = RW;
    let (addr, len) = (BASE, PAGE);
    assert_eq!(run(&space, Verb::Protect { addr, len, prot }), Ok(0));
    assert_eq!(maps(&space), ["0..1 rw-p", "1..2 -w-p"]);
    assert_eq!(foreign(0, Access::Read), Ok(BASE + PAGE));
    let prot = Prot::WRITE;
    assert_eq!(run(&space, Verb::Protect { addr, len, prot }), Ok(0));
    assert_eq!(maps(&space), ["0..2 -w-p"]);
    map(&space, 10, 2, RW, MapFlags::GROWSDOWN);
    assert_eq!(foreign(9, Access::Read), Err(CopyStop::Fault));
    assert_eq!(maps(&space), ["0..2 -w-p", "10..12 rw-p"], "nothing grows");
}

#[test]
fn residency_is_told_up_to_a_hole() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 3, RW, MapFlags::empty());
    write(&space, 1);
    let mut pages = [9; 5];
    assert_eq!(space.mincore(BASE, &mut pages), Ok(3));
    assert_eq!(pages, [0, 1, 0, 9, 9]);
    let behind = BASE + 3 * PAGE;
    assert_eq!(space.mincore(behind, &mut pages), Err(MmError::NoMemory));
}

#[test]
fn a_second_mapping_of_a_part_leaves_the_first_in_one_piece() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    let object = space.context().objects().create(8 * PAGE);
    let request = MapRequest {
        addr: BASE,
        len: 8 * PAGE,
        prot: RW,
        flags: MapFlags::SHARED | MapFlags::FIXED,
        backing: Backing::object(object.expect("there is memory"), 0),
        refusal: None,
    };
    assert!(run(&space, Verb::Map(request)).is_ok());
    assert_eq!(remap(&space, (3, 0), (20, 2), MOVE), Ok(20));
    assert_eq!(maps(&space), ["0..8 rw-s", "20..22 rw-s"]);
}
