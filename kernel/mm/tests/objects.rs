//! Memory objects: pages, mappings, and what changes many pages in steps, against simple models.

#[expect(dead_code, reason = "objects are looked at without a space")]
mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use arm64::addr::PAGE_SIZE;
use arm64::pte::Format;
use common::World;
use frame::slab::Ref;
use frame::{Bytes, FramePins, UserFrame};
use mm::object::mappings::UnmapReason;
use mm::object::{
    Allocate, Mapper, MemObject, ObjectError, Objects, Punch, Resize, Room, Seals, SupplyError,
    Unmapping,
};
use pgtable::Machine;
use proptest::prelude::*;

const PAGE: u64 = PAGE_SIZE;

/// A space as a map of addresses: no tables, but the protocol of faults and visits.
struct Shown {
    id: u32,
    entries: Mutex<BTreeMap<u64, UserFrame>>,
    asked: Mutex<Vec<(u64, u64, UnmapReason)>>,
}

impl Mapper for Shown {
    fn id(&self) -> u32 {
        self.id
    }

    fn unmap(&self, what: &Unmapping, budget: &mut u32) -> u64 {
        assert!(what.start < what.end, "an empty range to visit");
        let mut entries = self.entries.lock().unwrap();
        let mut at = what.start;
        while at < what.end {
            if *budget == 0 && at > what.start {
                break;
            }
            if entries
                .get(&at)
                .is_some_and(|frame| what.copies || frame.owner() == what.object)
            {
                entries.remove(&at);
            }
            *budget = budget.saturating_sub(1);
            at += PAGE;
        }
        let asked = (what.start, at, what.reason);
        self.asked.lock().unwrap().push(asked);
        at
    }

    fn clean(&self, _start: u64, end: u64, _object: u32, _budget: &mut u32) -> u64 {
        end
    }
}

impl Shown {
    fn new(id: u32) -> Arc<Self> {
        let (entries, asked) = Default::default();
        Arc::new(Self { id, entries, asked })
    }

    fn weak(self: &Arc<Self>) -> Weak<dyn Mapper> {
        let this: Weak<Self> = Arc::downgrade(self);
        this
    }

    /// A fault: page `index` of the object at `va`, unless the object ends before.
    fn fault(&self, object: &MemObject, va: u64, index: u64) -> bool {
        loop {
            let page = match object.resident(index) {
                Some(page) => page,
                None => {
                    let fresh = object.store().frames().alloc_fresh(0, true).unwrap();
                    match object.supply(index, fresh) {
                        Ok(page) => page,
                        Err(SupplyError::Raced) => continue,
                        Err(_) => return false,
                    }
                }
            };
            if self.install(object, va, index, page) {
                return true;
            }
        }
    }

    /// The last part of a fault: the check under the lock, and the entry.
    fn install(&self, object: &MemObject, va: u64, index: u64, page: UserFrame) -> bool {
        let mut entries = self.entries.lock().unwrap();
        let fits = object.holds(index, page.pfn());
        if fits {
            entries.insert(va, page);
        }
        fits
    }

    fn shows(&self, va: u64) -> bool {
        self.entries.lock().unwrap().contains_key(&va)
    }

    fn visits(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn world() -> (World, &'static Objects) {
    let world = World::new(if cfg!(miri) { 256 } else { 512 }, Format::NORMAL);
    let objects = world.context.objects();
    (world, objects)
}

fn object(objects: &'static Objects, pages: u64) -> Ref<MemObject> {
    let object = objects.create(pages * PAGE).unwrap();
    object.allow_sealing(Seals::empty());
    object
}

fn fill(object: &MemObject, index: u64, byte: u8) {
    let mut fresh = object.store().frames().alloc_fresh(0, true).unwrap();
    fresh.bytes_mut().fill(byte);
    drop(object.supply(index, fresh).unwrap());
}

fn resize(object: &Ref<MemObject>, size: u64) {
    let mut resize = Resize::begin(object, size).unwrap();
    while !resize.step(3) {}
}

fn punch(object: &Ref<MemObject>, start: u64, len: u64) {
    let mut punch = Punch::begin(object, start, len).unwrap();
    while !punch.step(3) {}
}

fn show(object: &Ref<MemObject>, space: &Arc<Shown>, start: u64, pages: u64, index: u64) {
    let mut room = Room::reserve(object, 1, false).unwrap();
    let range = (start, start + pages * PAGE);
    room.link((space.id, &space.weak()), range, index, false);
}

#[test]
fn pages_are_found_wherever_they_are_in_the_object() {
    let (world, objects) = world();
    let object = object(objects, 1 << 28);
    let places = [
        0,
        1,
        63,
        64,
        4095,
        4096,
        4159,
        262_143,
        262_144,
        16_777_215,
        16_777_216,
        (1 << 28) - 1,
    ];
    for (byte, &index) in (1..).zip(&places) {
        assert!(object.resident(index).is_none());
        fill(&object, index, byte);
    }
    assert_eq!(object.resident_pages(), places.len() as u64);
    for (byte, &index) in (1..).zip(&places) {
        let page = object.resident(index).expect("a page that was supplied");
        let mut seen = [0];
        page.read(100, &mut seen);
        assert_eq!(seen, [byte]);
        assert_eq!(page.owner(), object.number());
        assert!(object.holds(index, page.pfn()));
        assert!(!object.holds(index ^ 1, page.pfn()));
        assert_eq!(world.machine.frames().owner_of(page.pfn()), object.number());
    }
    let fresh = || world.machine.frames().alloc_fresh(0, true).unwrap();
    assert_eq!(object.supply(63, fresh()).unwrap_err(), SupplyError::Raced);
    let beyond = object.supply(1 << 28, fresh());
    assert_eq!(beyond.unwrap_err(), SupplyError::BeyondEnd);
    assert!(object.resident(u64::MAX).is_none());
    drop(object);
    while objects.reap(999) {}
    world.assert_nothing_lost();
}

#[test]
fn a_folio_is_supplied_as_a_whole_or_not_at_all() {
    let (world, objects) = world();
    let object = object(objects, 40);
    let block = |order| world.machine.frames().alloc_fresh(order, true).unwrap();
    let first = object.supply_folio(16, block(4)).unwrap();
    for page in 0..16 {
        assert!(object.holds(16 + page, first.block().add(page)));
        assert_eq!(object.resident(16 + page).unwrap().order(), 4);
    }
    drop(first);
    fill(&object, 3, 1);
    assert_eq!(
        object.supply_folio(0, block(4)).unwrap_err(),
        SupplyError::Raced
    );
    assert_eq!(
        object.supply_folio(32, block(4)).unwrap_err(),
        SupplyError::BeyondEnd
    );
    assert_eq!(object.resident_pages(), 17);
    // A page, a hole, a folio, as it is and by its parts.
    let mut around = FramePins::new(objects.frames());
    object.pin_group(3, 0xffff, &mut around);
    assert_eq!(around.held(), 0xe001);
    let page = |index| object.resident(index).map(|page| page.pfn());
    let found = [0, 1, 13, 15].map(|place| around.pfn(place));
    assert_eq!(found, [page(3), None, page(16), page(18)]);
    let mut part = FramePins::new(objects.frames());
    object.pin_group(20, 0xfa, &mut part);
    assert_eq!(part.held(), 0xfa, "what was wanted");
    assert_eq!(part.pfn(7), page(27));
    drop((around, part, object));
    world.assert_nothing_lost();
}

#[test]
fn neighbours_behind_the_end_are_not_found() {
    let (world, objects) = world();
    let object = object(objects, 66);
    let mut allocate = Allocate::begin(&object, 0, 70 * PAGE, true).unwrap();
    while allocate.step(8).is_none() {}
    drop(allocate);
    assert_eq!((object.resident_pages(), object.pages()), (70, 66));
    let mut around = FramePins::new(objects.frames());
    object.pin_group(56, 0xffff, &mut around);
    assert_eq!(around.held(), 0x3ff, "of two leaves, to the end");
    let page = object.resident(66).unwrap();
    assert!(!object.holds(66, page.pfn()), "beyond the end");
    drop((page, around, object));
    while objects.reap(999) {}
    world.assert_nothing_lost();
}

#[test]
fn shrinking_unmaps_frees_and_clears_what_is_behind_the_end() {
    let (world, objects) = world();
    let object = object(objects, 8);
    let (near, far) = (Shown::new(1), Shown::new(2));
    show(&object, &near, 0x10000, 8, 0);
    show(&object, &far, 0x90000, 2, 5);
    for index in 0..8 {
        fill(&object, index, 0xaa);
        assert!(near.fault(&object, 0x10000 + index * PAGE, index));
    }
    assert!(far.fault(&object, 0x90000, 5));
    // A private copy, as a private mapping would have made it.
    let copy = world.machine.frames().alloc_fresh(0, true).unwrap();
    far.entries
        .lock()
        .unwrap()
        .insert(0x91000, copy.into_user());
    resize(&object, 3 * PAGE + 100);
    assert_eq!(object.resident_pages(), 4);
    for index in 0..8 {
        assert_eq!(near.shows(0x10000 + index * PAGE), index < 4);
    }
    assert!(!far.shows(0x90000) && !far.shows(0x91000), "copies go too");
    assert!(!near.fault(&object, 0x14000, 4), "beyond the end");
    let mut bytes = [0; 200];
    object.resident(3).unwrap().read(0, &mut bytes);
    assert!(bytes[..100].iter().all(|&byte| byte == 0xaa));
    assert!(bytes[100..].iter().all(|&byte| byte == 0));
    resize(&object, 8 * PAGE);
    assert!(near.fault(&object, 0x14000, 4), "it is longer again");
    object.resident(4).unwrap().read(0, &mut bytes);
    assert_eq!(bytes, [0; 200], "old contents have come back");
    drop((near, far, object));
    world.assert_nothing_lost();
}

#[test]
fn a_hole_frees_whole_pages_clears_parts_and_leaves_copies() {
    let (world, objects) = world();
    let object = object(objects, 8);
    let space = Shown::new(3);
    show(&object, &space, 0x10000, 8, 0);
    for index in 0..8 {
        fill(&object, index, 0xaa);
        assert!(space.fault(&object, 0x10000 + index * PAGE, index));
    }
    let copy = world.machine.frames().alloc_fresh(0, true).unwrap();
    space
        .entries
        .lock()
        .unwrap()
        .insert(0x13000, copy.into_user());
    punch(&object, PAGE + 10, 4 * PAGE);
    assert_eq!((object.resident_pages(), object.size()), (5, 8 * PAGE));
    for index in 0..8 {
        let gone = index == 2 || index == 4;
        assert_eq!(space.shows(0x10000 + index * PAGE), !gone, "page {index}");
    }
    let byte = |index, at| {
        let mut byte = [1];
        object.resident(index).unwrap().read(at, &mut byte);
        byte[0]
    };
    assert_eq!([byte(1, 9), byte(1, 10), byte(1, 4095)], [0xaa, 0, 0]);
    assert_eq!([byte(5, 0), byte(5, 9), byte(5, 10)], [0, 0, 0xaa]);
    punch(&object, 6 * PAGE + 100, 50);
    assert_eq!(
        [byte(6, 99), byte(6, 100), byte(6, 149), byte(6, 150)],
        [0xaa, 0, 0, 0xaa]
    );
    drop((space, object));
    world.assert_nothing_lost();
}

#[test]
fn a_page_faulted_in_between_unmap_and_detach_is_unmapped_again() {
    let (world, objects) = world();
    let object = object(objects, 4);
    let space = Shown::new(3);
    show(&object, &space, 0x10000, 4, 0);
    fill(&object, 1, 0xaa);
    assert!(space.fault(&object, 0x11000, 1));
    let mut punch = Punch::begin(&object, 0, 4 * PAGE).unwrap();
    while !punch.is_unmapped() {
        assert!(!punch.step(100));
    }
    assert!(!space.shows(0x11000));
    // A fault that comes now maps the page; one that is late holds it and has not mapped it.
    assert!(space.fault(&object, 0x11000, 1));
    let late = object.resident(1).unwrap();
    while !punch.step(100) {}
    assert!(!space.shows(0x11000), "the page is mapped and nobody's");
    assert!(!space.install(&object, 0x11000, 1, late), "check 4");
    assert_eq!(object.resident_pages(), 0);
    drop((punch, space, object));
    world.assert_nothing_lost();
}

#[test]
fn a_visit_begins_again_when_entries_were_moved() {
    let (world, objects) = world();
    let object = object(objects, 4);
    let space = Shown::new(3);
    show(&object, &space, 0x10000, 2, 2);
    show(&object, &space, 0x20000, 2, 2);
    fill(&object, 2, 0xaa);
    assert!(space.fault(&object, 0x20000, 2));
    let mut shrink = Resize::begin(&object, 0).unwrap();
    while space.visits() == 0 {
        assert!(!shrink.step(1));
    }
    // An entry moves from where the visit has yet to come to where it has been.
    let guard = object.lock_for_move();
    let entry = space.entries.lock().unwrap().remove(&0x20000).unwrap();
    space.entries.lock().unwrap().insert(0x10000, entry);
    drop(guard);
    while !shrink.step(1) {}
    assert!(!space.shows(0x10000), "a mapping of a freed page");
    drop((shrink, space, object));
    world.assert_nothing_lost();
}

#[test]
fn changes_of_many_pages_take_turns() {
    let (world, objects) = world();
    let object = object(objects, 4);
    fill(&object, 3, 1);
    let mut shrink = Resize::begin(&object, PAGE).unwrap();
    let busy = ObjectError::Busy;
    assert_eq!(Resize::begin(&object, 0).unwrap_err(), busy);
    assert_eq!(Punch::begin(&object, 0, 9).unwrap_err(), busy);
    assert_eq!(Allocate::begin(&object, 0, 9, false).unwrap_err(), busy);
    assert_eq!(object.write(PAGE - 1, &[1], PAGE + 1), Err(busy));
    assert_eq!(
        object.write(PAGE - 1, &[1], PAGE),
        Ok(()),
        "it is that long"
    );
    assert!(object.is_busy());
    while !shrink.step(1) {}
    drop(shrink);
    assert!(!object.is_busy());
    assert_eq!(object.write(9 * PAGE - 1, &[1], 9 * PAGE), Ok(()));
    assert_eq!(object.size(), 9 * PAGE);
    drop(object);
    world.assert_nothing_lost();
}

#[test]
fn allocation_fills_holes_and_grows_unless_told_otherwise() {
    let (world, objects) = world();
    let object = object(objects, 2);
    fill(&object, 1, 0xaa);
    let run = |from, len, keep| {
        let mut allocate = Allocate::begin(&object, from, len, keep).unwrap();
        loop {
            if let Some(result) = allocate.step(2) {
                return result;
            }
        }
    };
    assert_eq!(run(10, 5 * PAGE, true), Ok(()));
    assert_eq!((object.resident_pages(), object.size()), (6, 2 * PAGE));
    assert_eq!(run(10, 5 * PAGE, false), Ok(()));
    assert_eq!((object.resident_pages(), object.size()), (6, 5 * PAGE + 10));
    let mut byte = [0];
    object.resident(1).unwrap().read(7, &mut byte);
    assert_eq!(byte, [0xaa], "a page was replaced");
    let frames = world.free;
    let all = Allocate::begin(&object, 0, (frames + 10) * PAGE, false);
    assert_eq!(all.unwrap_err(), ObjectError::NoMemory);
    resize(&object, 0);
    assert_eq!(object.resident_pages(), 0, "pages beyond the end stayed");
    drop(object);
    world.assert_nothing_lost();
}

#[test]
fn bytes_are_read_where_they_were_written_and_holes_are_zeroes() {
    let (world, objects) = world();
    let object = object(objects, 0);
    assert_eq!(object.read(0, &mut [0; 9]), 0);
    object.write(PAGE + 10, b"hello", PAGE + 15).unwrap();
    assert_eq!((object.size(), object.resident_pages()), (PAGE + 15, 1));
    let mut bytes = [1; 8192];
    assert_eq!(object.read(100, &mut bytes), 4096 - 100);
    assert!(bytes[..3996].iter().all(|&byte| byte == 0));
    assert_eq!(object.read(PAGE, &mut bytes), 15, "to the end");
    assert_eq!(&bytes[..15], b"\0\0\0\0\0\0\0\0\0\0hello");
    object.write(PAGE + 11, b"a", PAGE + 12).unwrap();
    assert_eq!(object.read(PAGE + 10, &mut bytes[..3]), 3);
    assert_eq!(&bytes[..3], b"hal");
    let last = mm::object::MAX_SIZE - 1;
    assert_eq!(object.write(last, &[7], last + 1), Ok(()));
    let beyond = object.write(last, &[7], last + 2);
    assert_eq!(beyond, Err(ObjectError::TooLarge));
    assert_eq!(object.search(2, true), 64);
    assert_eq!(object.search(1, false), 2);
    assert!(object.is_resident(1) && !object.is_resident(2));
    drop(object);
    while objects.reap(999) {}
    world.assert_nothing_lost();
}

#[test]
fn bytes_of_pages_are_written_to_new_pages_and_over_old_ones() {
    let (world, objects) = world();
    let object = object(objects, 1);
    let frames = objects.frames();
    let source = frames.alloc_fresh(0, true).unwrap().into_user();
    let pattern: Vec<u8> = (0..PAGE).map(|i| (i % 251) as u8 + 1).collect();
    source.write(0, &pattern);
    let bytes = |start, len| Bytes {
        page: &source,
        start,
        len,
    };
    let page = |index: u64| {
        let mut bytes = vec![0; PAGE as usize];
        object.resident(index).unwrap().read(0, &mut bytes);
        bytes
    };
    let whole = PAGE as usize;
    assert_eq!(object.write_bytes(PAGE, bytes(0, whole), 2 * PAGE), Ok(()));
    assert_eq!(object.size(), 2 * PAGE);
    assert_eq!(page(1), pattern);
    // A part of a new page: zeros around it.
    object
        .write_bytes(2 * PAGE + 5, bytes(7, 100), 2 * PAGE + 105)
        .unwrap();
    assert_eq!(object.size(), 2 * PAGE + 105);
    assert_eq!(page(2)[5..105], pattern[7..107]);
    assert!(
        page(2)[..5]
            .iter()
            .chain(&page(2)[105..])
            .all(|&byte| byte == 0)
    );
    // Over what is there: the same page, and none but these bytes.
    let before = object.resident(1).unwrap().pfn();
    object
        .write_bytes(PAGE + 50, bytes(0, 9), PAGE + 59)
        .unwrap();
    assert_eq!(object.resident(1).unwrap().pfn(), before);
    assert_eq!(object.size(), 2 * PAGE + 105, "no shorter");
    assert_eq!(page(1)[50..59], pattern[..9]);
    assert_eq!(page(1)[59..], pattern[59..]);
    object.write_bytes(PAGE, bytes(0, whole), 2 * PAGE).unwrap();
    assert_eq!(page(1), pattern);
    assert_eq!(object.resident_pages(), 2);
    drop((source, object));
    world.assert_nothing_lost();
}

#[test]
fn seals_forbid_what_they_say() {
    let (_, objects) = world();
    let plain = objects.create(PAGE).unwrap();
    let sealed = ObjectError::Sealed;
    assert_eq!(plain.add_seals(Seals::GROW), Err(sealed), "not allowed");
    let object = object(objects, 2);
    let room = Room::reserve(&object, 1, true).unwrap();
    assert_eq!(object.add_seals(Seals::WRITE), Err(ObjectError::Mapped));
    drop(room);
    object.add_seals(Seals::GROW).unwrap();
    assert_eq!(Resize::begin(&object, 3 * PAGE).unwrap_err(), sealed);
    assert_eq!(object.write(2 * PAGE - 1, &[1], 2 * PAGE + 1), Err(sealed));
    assert_eq!(object.write(2 * PAGE - 1, &[1], 2 * PAGE), Ok(()));
    let grow = Allocate::begin(&object, 0, 3 * PAGE, false);
    assert_eq!(grow.unwrap_err(), sealed);
    let grow = Allocate::begin(&object, 0, 3 * PAGE, true);
    assert_eq!(grow.unwrap_err(), sealed, "as on Linux");
    object.add_seals(Seals::SHRINK).unwrap();
    assert_eq!(Resize::begin(&object, PAGE).unwrap_err(), sealed);
    object.add_seals(Seals::WRITE | Seals::SEAL).unwrap();
    assert_eq!(Punch::begin(&object, 0, PAGE).unwrap_err(), sealed);
    assert_eq!(Room::reserve(&object, 1, true).unwrap_err(), sealed);
    assert_eq!(object.add_seals(Seals::EXEC), Err(sealed));
    assert_eq!(object.write(0, &[1], 1), Err(sealed));
    assert!(!object.is_busy(), "a refusal keeps the turn");
}

#[test]
fn a_large_object_ends_in_steps() {
    let (world, objects) = world();
    let count = if cfg!(miri) { 20 } else { 300 };
    let object = object(objects, 1 << 28);
    for page in 0..count {
        fill(&object, page * 70_000, 1);
    }
    drop(object);
    assert!(!objects.is_reaped(), "all of it went at once");
    let mut steps = 0;
    while objects.reap(64) {
        steps += 1;
    }
    assert!(steps > count / 4, "{steps} steps");
    assert!(objects.is_reaped());
    world.assert_nothing_lost();
}

#[test]
fn a_space_that_has_gone_is_passed_over() {
    let (world, objects) = world();
    let object = object(objects, 4);
    let (gone, stays) = (Shown::new(1), Shown::new(2));
    show(&object, &gone, 0x10000, 4, 0);
    show(&object, &stays, 0x10000, 4, 0);
    assert!(stays.fault(&object, 0x10000, 0));
    drop(gone);
    resize(&object, 0);
    assert!(!stays.shows(0x10000));
    drop((stays, object));
    world.assert_nothing_lost();
}

/// What covers what: by space and page of address, the page of the object.
type Covered = BTreeMap<(u32, u64), u64>;

/// What a visit of pages 2 to 8 asks for: spaces and pages of addresses.
fn asked(object: &Ref<MemObject>, spaces: &[Arc<Shown>]) -> Vec<(u32, u64)> {
    for space in spaces {
        space.asked.lock().unwrap().clear();
    }
    punch(object, 2 * PAGE, 7 * PAGE);
    let mut seen = Vec::new();
    for space in spaces {
        for &(start, end, _) in &*space.asked.lock().unwrap() {
            seen.extend((start / PAGE..end / PAGE).map(|page| (space.id, page)));
        }
    }
    seen.sort_unstable();
    seen
}

/// Most steps of a random sequence; Miri is slow.
const STEPS: usize = if cfg!(miri) { 8 } else { 40 };

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 200 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_reverse_map_covers_what_was_linked(
        steps in prop::collection::vec((any::<bool>(), 0..2u32, 0..24u64, 1..8u64, 0..6u64), 1..STEPS)
    ) {
        let (_, objects) = world();
        let object = object(objects, 0);
        let spaces = [Shown::new(0), Shown::new(1)];
        let mut model = Covered::new();
        for (add, id, page, pages, index) in steps {
            let mut room = Room::reserve(&object, 1, false).unwrap();
            let range = (page * PAGE, (page + pages) * PAGE);
            let free = (page..page + pages).all(|page| !model.contains_key(&(id, page)));
            if add && free {
                // Often where merging is possible, often not.
                let index = if index < 3 { page } else { index };
                let space = spaces[id as usize].weak();
                room.link((id, &space), range, index, false);
                model.extend((0..pages).map(|i| ((id, page + i), index + i)));
            } else {
                room.unlink(id, range.0, range.1);
                model.retain(|&(space, at), _| space != id || !(page..page + pages).contains(&at));
            }
            drop(room);
            let hole = model.iter().filter(|&(_, index)| (2..9).contains(index));
            let covered: Vec<_> = hole.map(|(&at, _)| at).collect();
            prop_assert_eq!(asked(&object, &spaces), covered);
        }
    }

    #[test]
    fn an_object_is_a_map_of_pages(
        steps in prop::collection::vec((0..5u8, 0..200u64, 1..60u64), 1..STEPS)
    ) {
        let (world, objects) = world();
        let object = object(objects, 100);
        let mut pages: BTreeMap<u64, u8> = BTreeMap::new();
        let mut size = 100;
        for (byte, (what, at, count)) in (1..).zip(steps) {
            match what {
                0 | 1 => {
                    let mut fresh = world.machine.frames().alloc_fresh(0, false).unwrap();
                    fresh.bytes_mut().fill(byte);
                    let answer = object.supply(at, fresh).map(drop);
                    let expected = match pages.entry(at) {
                        _ if at >= size => Err(SupplyError::BeyondEnd),
                        std::collections::btree_map::Entry::Occupied(_) => Err(SupplyError::Raced),
                        std::collections::btree_map::Entry::Vacant(place) => {
                            place.insert(byte);
                            Ok(())
                        }
                    };
                    prop_assert_eq!(answer, expected);
                }
                2 => {
                    resize(&object, at * PAGE);
                    if at <= size {
                        pages.retain(|&index, _| index < at);
                    }
                    size = at;
                }
                3 => {
                    punch(&object, at * PAGE, count * PAGE);
                    pages.retain(|&index, _| !(at..at + count).contains(&index));
                }
                _ => {
                    let count = count.min(20);
                    let mut allocate =
                        Allocate::begin(&object, at * PAGE, count * PAGE, false).unwrap();
                    while allocate.step(3).is_none() {}
                    (at..at + count).for_each(|index| { pages.entry(index).or_insert(0); });
                    size = size.max(at + count);
                }
            }
            prop_assert_eq!(object.size(), size * PAGE);
            prop_assert_eq!(object.resident_pages(), pages.len() as u64);
            for index in (0..260).step_by(if cfg!(miri) { 7 } else { 1 }) {
                let found = object.resident(index).map(|page| {
                    let mut byte = [0];
                    page.read(9, &mut byte);
                    byte[0]
                });
                prop_assert_eq!(found, pages.get(&index).copied());
            }
        }
        drop(object);
        while objects.reap(999) {}
        world.assert_nothing_lost();
    }
}

/// Whatever puts pages in asks who pays, and what is freed is there again.
#[test]
fn pages_are_counted_for_whoever_made_the_object() {
    let (world, objects) = world();
    let account = objects.account().unwrap();
    account.set_limit(20);
    let make = || {
        let mut object = object(objects, 64);
        MemObject::charge_to(&mut object, &account);
        object
    };
    let (one, two) = (make(), make());
    let frame = |order| world.machine.frames().alloc_fresh(order, true).unwrap();
    assert!(one.supply_folio(0, frame(4)).is_ok());
    assert!(one.supply(17, frame(0)).is_ok());
    assert!(two.write(0, &[1; 2], 2).is_ok());
    assert!(two.write(1, &[1; 2], 3).is_ok(), "no page more");
    assert_eq!(account.used(), 18);
    let refused = two.supply_folio(16, frame(2)).map(drop);
    assert_eq!(refused, Err(SupplyError::NoMemory));
    assert!(two.supply(16, frame(0)).is_ok() && two.supply(17, frame(0)).is_ok());
    assert_eq!(account.used(), 20);
    let refused = one.supply(20, frame(0)).map(drop);
    assert_eq!(refused, Err(SupplyError::NoMemory));
    let refused = two.write(5 * PAGE, &[1], 6 * PAGE);
    assert_eq!(refused, Err(ObjectError::NoMemory));
    resize(&one, PAGE);
    assert_eq!(account.used(), 4);
    drop(one);
    assert_eq!(account.used(), 3);
    assert!(two.write(5 * PAGE, &[1], 6 * PAGE).is_ok());
    drop(two);
    assert_eq!(account.used(), 0);
}
