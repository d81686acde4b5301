//! Pinning user memory of any space, first without a lock and then by the fault path, and copies
//! from space to space (GUP-13, GUP-26, D4).

mod common;

use arm64::attrs::Prot;
use arm64::pte::Format;
use common::{Space, World};
use frame::slab::Ref;
use mm::{
    Access, Backing, CopyStop, GupFast, MapFlags, MapRequest, MemObject, Pins, Verb, VmaFlags,
};
use pgtable::{Decline, Gather, Machine, Pause, Walked};

const PAGE: u64 = 4096;
const BASE: u64 = 0x1000_0000;
const RW: Prot = Prot::READ.union(Prot::WRITE);

fn run(space: &Space, verb: Verb) {
    let mut change = space.begin(verb).unwrap();
    let result = loop {
        if let Some(result) = change.step(space, 1000) {
            break result;
        }
    };
    result.unwrap();
}

fn map_over(space: &Space, page: u64, pages: u64, prot: Prot, backing: Backing) {
    let shared = match backing.is_anon() {
        true => MapFlags::empty(),
        false => MapFlags::SHARED,
    };
    let request = MapRequest {
        addr: BASE + page * PAGE,
        len: pages * PAGE,
        prot,
        flags: MapFlags::FIXED | shared,
        backing,
        refusal: None,
    };
    run(space, Verb::Map(request));
}

fn map(space: &Space, page: u64, pages: u64, prot: Prot) {
    map_over(space, page, pages, prot, Backing::ANON);
}

fn protect(space: &Space, page: u64, pages: u64, prot: Prot) {
    let (addr, len) = (BASE + page * PAGE, pages * PAGE);
    run(space, Verb::Protect { addr, len, prot });
}

fn discard(space: &Space, page: u64, pages: u64) {
    let (addr, len) = (BASE + page * PAGE, pages * PAGE);
    run(space, Verb::DontNeed { addr, len });
}

fn put(space: &Space, page: u64, byte: u8) {
    assert_eq!(space.copy_out(BASE + page * PAGE, &[byte]), Ok(1));
}

/// Fills 2 MiB from `page` on and has them put together.
fn put_block(space: &Space, page: u64, byte: u8) {
    (page..page + 512).for_each(|page| put(space, page, byte));
    let (addr, len) = (BASE + page * PAGE, 512 * PAGE);
    run(space, Verb::Collapse { addr, len });
}

fn get(space: &Space, page: u64) -> u8 {
    let mut byte = [0];
    assert_eq!(space.copy_in(BASE + page * PAGE, &mut byte), Ok(1));
    byte[0]
}

/// The frame mapped there.
fn frame_at(space: &Space, page: u64) -> Option<u64> {
    let stay = ();
    let (table, va) = (space.table(), BASE + page * PAGE);
    let walked = table.walk(va, &table.machine().read_side(&stay));
    let pa = walked.address(va, Format::NORMAL);
    pa.map(|pa| pa.pfn().raw())
}

fn fast(space: &Space, page: u64, pages: u64, access: Access) -> GupFast {
    let mut pins = Pins::new();
    space.gup_fast(BASE + page * PAGE, pages * PAGE, access, &mut pins)
}

fn declined(space: &Space, page: u64, access: Access) -> Option<Decline> {
    fast(space, page, 1, access).declined
}

/// The frames of what is pinned; each is mapped where it should be.
fn gup(space: &Space, page: u64, pages: u64, access: Access) -> Result<usize, CopyStop> {
    let mut pins = Pins::new();
    let count = space.gup(BASE + page * PAGE, pages * PAGE, access, false, &mut pins)?;
    assert_eq!(count, pins.len());
    for (page, pin) in (page..).zip(&pins) {
        assert_eq!(Some(pin.pfn().raw()), frame_at(space, page), "page {page}");
    }
    Ok(count)
}

/// What a counter of the space says.
fn counted(space: &Space, name: &str) -> u64 {
    let mut found = None;
    space.counters().each(|key, value| {
        if key == name {
            found = Some(value);
        }
    });
    found.expect("a counter of that name")
}

fn world() -> World {
    World::new(2048, Format::NORMAL)
}

fn end(world: World, spaces: impl IntoIterator<Item = Space>) {
    assert_eq!(world.machine.script_left(), 0, "a step was never come to");
    spaces.into_iter().for_each(drop);
    world.context.objects().reap(u32::MAX);
    world.assert_nothing_lost();
}

fn object(world: &World, pages: u64) -> Ref<MemObject> {
    let object = world.context.objects().create(pages * PAGE).unwrap();
    for index in 0..pages {
        let mut frame = world.machine.frames().alloc_fresh(0, true).unwrap();
        frame.bytes_mut().fill(1 + index as u8);
        drop(object.supply(index, frame).unwrap());
    }
    object
}

#[test]
fn the_fast_path_declines_and_the_slow_path_takes_over() {
    let world = world();
    let space = world.space();
    map(&space, 0, 4, RW);
    // Nothing there, then the page of zeros, then a copy, then a right less and a right more.
    assert_eq!(declined(&space, 0, Access::Read), Some(Decline::NotPresent));
    assert_eq!(gup(&space, 0, 1, Access::Read), Ok(1));
    assert_eq!(frame_at(&space, 0), Some(world.context.zero_page().raw()));
    assert_eq!(declined(&space, 0, Access::Read), Some(Decline::Special));
    assert_eq!(gup(&space, 0, 1, Access::Write), Ok(1));
    assert_ne!(frame_at(&space, 0), Some(world.context.zero_page().raw()));
    assert_eq!(declined(&space, 0, Access::Write), None);
    protect(&space, 0, 1, Prot::READ);
    assert_eq!(declined(&space, 0, Access::Write), Some(Decline::NoRight));
    assert_eq!(gup(&space, 0, 1, Access::Write), Err(CopyStop::Fault));
    assert_eq!(gup(&space, 0, 1, Access::Read), Ok(1));
    protect(&space, 0, 1, Prot::empty());
    assert_eq!(declined(&space, 0, Access::Read), Some(Decline::NoAccess));
    assert_eq!(gup(&space, 0, 1, Access::Read), Err(CopyStop::Fault));
    protect(&space, 0, 1, RW);
    assert_eq!(gup(&space, 0, 1, Access::Write), Ok(1));
    let far = 1 << 60;
    let none = space.gup(far, 1, Access::Read, false, &mut Pins::new());
    assert_eq!(none, Err(CopyStop::Fault));
    for (name, count) in [
        ("gup_declined_not_present", 2),
        ("gup_declined_special", 3),
        ("gup_declined_no_right", 2),
        ("gup_declined_no_access", 2),
        ("gup_declined_beyond_range", 1),
        ("gup_declined_reference_refused", 0),
    ] {
        assert_eq!(counted(&space, name), count, "{name}");
    }
    end(world, [space]);
}

#[test]
fn accessed_and_dirty_are_not_set_without_a_lock() {
    let world = world();
    let (object, space) = (object(&world, 16), world.space());
    world.machine.set_records_access(true);
    map_over(&space, 0, 16, RW, Backing::object(object.clone(), 0));
    // The neighbours of the page are mapped, and nobody has accessed them.
    assert_eq!(get(&space, 0), 1);
    assert_eq!(declined(&space, 1, Access::Read), Some(Decline::NotYoung));
    assert_eq!(declined(&space, 0, Access::Write), Some(Decline::NotDirty));
    assert_eq!(gup(&space, 1, 1, Access::Read), Ok(1));
    assert_eq!(gup(&space, 0, 1, Access::Write), Ok(1));
    assert_eq!(declined(&space, 0, Access::Write), None);
    assert_eq!(counted(&space, "gup_declined_not_young"), 2);
    assert_eq!(counted(&space, "gup_declined_not_dirty"), 2);
    drop(object);
    end(world, [space]);
}

#[test]
fn changes_between_the_looks_are_met_again_by_the_slow_path() {
    type Act = fn(&Space);
    let unmapped: Act = |space| discard(space, 5, 1);
    let with_its_table: Act = |space| discard(space, 0, 512);
    let collapsed: Act = |space| {
        let stay = ();
        let table = space.table();
        let section = table.machine().read_side(&stay);
        let mut gather = Gather::new();
        assert!(table.collapse(BASE, &mut gather, &section));
        let flushed = gather.flush(table);
        let graves = Box::leak(Box::default());
        gather.release(table.machine(), graves, &flushed);
        while !graves.is_empty() {
            graves.reap(table.machine(), 9);
            table.machine().pass_grace_period(1);
        }
    };
    for (act, decline) in [
        (unmapped, "gup_declined_raced_leaf"),
        (with_its_table, "gup_declined_reference_refused"),
        (collapsed, "gup_declined_raced_parent"),
    ] {
        for at in [Pause::PinBeforeReference, Pause::PinBeforeRecheck] {
            let world = world();
            let space = world.space();
            map(&space, 0, 512, RW);
            put_block(&space, 0, 7);
            let stay = ();
            let table = space.table();
            let split = table.split_block(BASE, &table.machine().read_side(&stay));
            split.unwrap();
            let other = space.clone();
            world.machine.script(at, move || act(&other));
            assert_eq!(gup(&space, 5, 1, Access::Read), Ok(1));
            let all_gone = decline == "gup_declined_reference_refused";
            let decline = match all_gone && at == Pause::PinBeforeRecheck {
                // The reference keeps it.
                true => "gup_declined_raced_leaf",
                false => decline,
            };
            assert_eq!(counted(&space, decline), 1, "{decline} {at:?}");
            assert_eq!(counted(&space, "gup_slow"), 1);
            end(world, [space]);
        }
    }
}

#[test]
fn a_frame_that_is_free_by_then_is_refused() {
    let world = world();
    let space = world.space();
    map(&space, 0, 1, RW);
    put(&space, 0, 7);
    let other = space.clone();
    let act = move || discard(&other, 0, 1);
    world.machine.script(Pause::PinBeforeReference, act);
    assert_eq!(gup(&space, 0, 1, Access::Write), Ok(1));
    assert_eq!(counted(&space, "gup_declined_reference_refused"), 1);
    assert_eq!(get(&space, 0), 0, "what was given up");
    end(world, [space]);
}

#[test]
fn a_write_goes_to_the_programs_own_copy() {
    let world = world();
    let (object, space) = (object(&world, 1), world.space());
    let backing = Backing::object(object.clone(), 0);
    let flags = MapFlags::FIXED;
    run(
        &space,
        Verb::Map(MapRequest {
            addr: BASE,
            len: PAGE,
            prot: RW,
            flags,
            backing,
            refusal: None,
        }),
    );
    let original = object.resident(0).unwrap().pfn().raw();
    assert_eq!(gup(&space, 0, 1, Access::Read), Ok(1));
    assert_eq!(frame_at(&space, 0), Some(original));
    assert_eq!(gup(&space, 0, 1, Access::Write), Ok(1));
    assert_ne!(frame_at(&space, 0), Some(original), "a copy's original");
    // The right goes while the page is being pinned to be written, and comes back by the fault.
    let other = space.clone();
    world.machine.script(Pause::PinBeforeReference, move || {
        protect(&other, 0, 1, Prot::READ);
    });
    assert_eq!(gup(&space, 0, 1, Access::Write), Err(CopyStop::Fault));
    drop(object);
    end(world, [space]);
}

#[test]
fn as_many_pages_as_there_are_and_an_error_only_for_the_first() {
    let world = world();
    let space = world.space();
    space.set_small_pages_only(true);
    map(&space, 0, 64, RW);
    map(&space, 66, 2, RW);
    (0..40).for_each(|page| put(&space, page, 1));
    assert_eq!(gup(&space, 0, 64, Access::Read), Ok(mm::PINS));
    assert_eq!(gup(&space, 30, 64, Access::Write), Ok(10));
    // Pages of zeros are no reason to stop; one that a fault brought is the last.
    (40..44).for_each(|page| assert_eq!(get(&space, page), 0));
    assert_eq!(gup(&space, 38, 64, Access::Read), Ok(6));
    assert_eq!(gup(&space, 44, 64, Access::Read), Ok(1));
    assert_eq!(gup(&space, 63, 64, Access::Write), Ok(1));
    assert_eq!(gup(&space, 64, 1, Access::Read), Err(CopyStop::Fault));
    assert_eq!(gup(&space, 0, 0, Access::Read), Ok(0));
    end(world, [space]);
}

#[test]
fn a_change_of_the_map_is_waited_for_with_nothing_held() {
    let world = world();
    let space = world.space();
    map(&space, 0, 2, RW);
    put(&space, 0, 1);
    let (addr, len) = (BASE, 2 * PAGE);
    let mut change = space.begin(Verb::Unmap { addr, len }).unwrap();
    let mut pins = Pins::new();
    let busy = space.gup(BASE + PAGE, 1, Access::Read, false, &mut pins);
    assert_eq!((busy, pins.len()), (Err(CopyStop::Busy), 0));
    let foreign = space.gup(BASE, 1, Access::Read, true, &mut pins);
    assert_eq!((foreign, pins.len()), (Err(CopyStop::Busy), 0));
    while change.step(&space, 1000).is_none() {}
    assert_eq!(gup(&space, 0, 1, Access::Read), Err(CopyStop::Fault));
    end(world, [space]);
}

#[test]
fn a_userfaultfd_is_not_passed_by() {
    let world = world();
    let space = world.space();
    map(&space, 0, 2, RW);
    put(&space, 0, 1);
    space.arm(BASE, 2 * PAGE, VmaFlags::UFFD_MISSING).unwrap();
    assert_eq!(gup(&space, 0, 2, Access::Write), Ok(1));
    assert_eq!(gup(&space, 1, 1, Access::Write), Err(CopyStop::Fault));
    end(world, [space]);
}

fn across(
    from: (&Space, u64),
    to: (&Space, u64),
    len: u64,
    remote: Access,
) -> Result<u64, CopyStop> {
    let (va, to_va) = (BASE + from.1, BASE + to.1);
    from.0.copy_across(va, to.0, to_va, len, remote)
}

#[test]
fn pages_are_copied_from_space_to_space() {
    for remote in [Access::Read, Access::Write] {
        let world = world();
        let (from, to) = (world.space(), world.space());
        to.set_small_pages_only(true);
        map(&from, 0, 40, RW);
        map(&to, 0, 40, RW);
        (0..20).for_each(|page| put(&from, page, 1 + page as u8));
        (0..20).for_each(|page| put(&to, page, 100));
        let copied = across((&from, 0), (&to, 0), 20 * PAGE, remote);
        assert_eq!(copied, Ok(16 * PAGE), "a step");
        for page in 0..16 {
            assert_eq!(get(&to, page), 1 + page as u8);
            assert_ne!(frame_at(&from, page), frame_at(&to, page));
        }
        assert_eq!(get(&to, 16), 100);
        // Bytes that are not where pages begin, to a page that is not there: it alone.
        let copied = across((&from, 2 * PAGE - 1), (&to, 30 * PAGE - 2), 3, remote);
        assert_eq!(copied, Ok(2));
        let mut bytes = [9; 4];
        assert_eq!(to.copy_in(BASE + 30 * PAGE - 4, &mut bytes), Ok(4));
        assert_eq!(bytes, [0, 0, 0, 3]);
        // Zeros, from a page that nobody has written.
        assert_eq!(
            across((&from, 35 * PAGE), (&to, 3 * PAGE), PAGE, remote),
            Ok(PAGE)
        );
        assert_eq!(get(&to, 3), 0);
        // To itself, and over itself.
        assert_eq!(across((&to, 0), (&to, 39 * PAGE), PAGE, remote), Ok(PAGE));
        assert_eq!(get(&to, 39), 1);
        assert_eq!(across((&to, 0), (&to, 1), 8, remote), Ok(8));
        assert_eq!(across((&to, 0), (&to, 0), 8, remote), Ok(8));
        end(world, [from, to]);
    }
}

#[test]
fn copies_end_short_and_fail_only_at_the_first_page() {
    let world = world();
    let (from, to) = (world.space(), world.space());
    map(&from, 0, 2, RW);
    map(&to, 0, 4, RW);
    (0..2).for_each(|page| put(&from, page, 1));
    (0..4).for_each(|page| put(&to, page, 2));
    let all = 4 * PAGE;
    assert_eq!(
        across((&from, 0), (&to, 0), all, Access::Read),
        Ok(2 * PAGE)
    );
    let none = across((&from, 2 * PAGE), (&to, 0), all, Access::Read);
    assert_eq!(none, Err(CopyStop::Fault));
    protect(&to, 1, 1, Prot::READ);
    assert_eq!(across((&from, 0), (&to, 0), all, Access::Write), Ok(PAGE));
    let none = across((&from, PAGE), (&to, PAGE), all, Access::Write);
    assert_eq!(none, Err(CopyStop::Fault));
    assert_eq!(across((&from, 0), (&to, 0), 0, Access::Read), Ok(0));
    end(world, [from, to]);
}

/// What may be written only is not another's to read, whatever the CPU lets pass.
#[test]
fn the_rights_of_areas_bind_others() {
    let world = world();
    let (theirs, mine) = (world.space(), world.space());
    map(&theirs, 0, 1, RW);
    map(&theirs, 1, 1, Prot::WRITE);
    map(&mine, 0, 2, RW);
    (0..2).for_each(|page| put(&theirs, page, 3));
    let mut pins = Pins::new();
    let pinned = theirs.gup(BASE, 2 * PAGE, Access::Read, true, &mut pins);
    assert_eq!(pinned, Ok(1), "up to where it may");
    let refused = theirs.gup(BASE + PAGE, 1, Access::Read, true, &mut pins);
    assert_eq!(refused, Err(CopyStop::Fault));
    assert_eq!(gup(&theirs, 0, 2, Access::Read), Ok(2), "by itself");
    let read = across((&theirs, 0), (&mine, 0), 2 * PAGE, Access::Read);
    assert_eq!(read, Ok(PAGE));
    let write = across((&mine, 0), (&theirs, PAGE), PAGE, Access::Write);
    assert_eq!(write, Ok(PAGE));
    // No stack grows for another.
    let grows = MapFlags::FIXED | MapFlags::GROWSDOWN;
    run(
        &theirs,
        Verb::Map(MapRequest {
            addr: BASE + 10 * PAGE,
            len: PAGE,
            prot: RW,
            flags: grows,
            backing: Backing::ANON,
            refusal: None,
        }),
    );
    let below = theirs.gup(BASE + 9 * PAGE, 1, Access::Write, true, &mut pins);
    assert_eq!(below, Err(CopyStop::Fault));
    end(world, [theirs, mine]);
}

#[test]
fn blocks_and_folios_are_copied_like_pages() {
    let world = world();
    let (from, to) = (world.space(), world.space());
    map(&from, 0, 1024, RW);
    map(&to, 0, 32, RW);
    put_block(&from, 0, 1);
    (500..530).for_each(|page| put(&from, page, page as u8));
    let is_block = |page| {
        let stay = ();
        let (table, va) = (from.table(), BASE + page * PAGE);
        let walked = table.walk(va, &table.machine().read_side(&stay));
        matches!(walked, Walked::Seen { span, .. } if span > 16 * PAGE)
    };
    assert!(is_block(500), "nothing large to copy from");
    (0..16).for_each(|page| put(&to, page, 1));
    let copied = across((&from, 505 * PAGE), (&to, 0), 16 * PAGE, Access::Read);
    assert_eq!(copied, Ok(16 * PAGE));
    (0..16).for_each(|page| assert_eq!(get(&to, page), (505 + page) as u8));
    end(world, [from, to]);
}
