//! Objects whose pages come from a pager: what is asked, what is supplied, what is refused.

mod common;
#[path = "races/stage.rs"]
#[expect(dead_code, reason = "there are no races in here")]
mod stage;

use arm64::attrs::Prot;
use frame::slab::Ref;
use mm::object::{Allocate, Collect, DropClean, ObjectError};
use mm::{
    Access, Ask, Backing, CopyStop, FaultOutcome, MapFlags, MemObject, MmError, MoveStop, Moved,
    Refused, VmaFlags,
};
use pgtable::{Invalidation, Machine};

use stage::*;

/// Where the pager has its pages.
const DATA: u64 = 0x2000_0000;
const KEY: u64 = 77;

/// A client, whose space is the stage's, and an object of 32 pages with a window of sixteen.
struct Scene {
    stage: Stage,
    pager: common::Space,
    object: Ref<MemObject>,
}

impl Scene {
    fn new() -> Self {
        Self::of(32)
    }

    fn of(pages: u64) -> Self {
        let stage = Stage::new();
        let pager = stage.world.space();
        map(&pager, DATA, 64, Backing::ANON, MapFlags::empty());
        let objects = stage.world.context.objects();
        let object = objects.pager(pages * PAGE, KEY, 16).unwrap();
        Self {
            stage,
            pager,
            object,
        }
    }

    fn shared(pages: u64) -> Self {
        let scene = Self::of(pages);
        map_shared(&scene.stage.space, BASE, pages, &scene.object);
        scene
    }

    fn client(&self) -> &common::Space {
        &self.stage.space
    }

    /// From now on faults map single pages.
    fn single_pages(&self) {
        let never = mm::policy::SizeMode::Never;
        let sizes = mm::policy::Sizes {
            kib64: never,
            mib2: never,
        };
        self.stage.world.context.policy().set_anon(sizes);
    }

    fn asked(&self) -> Option<Ask> {
        self.stage.world.context.asks().take()
    }

    /// Fills `pages` of the pager's pages with their numbers and `first`.
    fn fill(&self, pages: u64, first: u8) {
        for page in 0..pages {
            put(&self.pager, DATA + page * PAGE, first + page as u8).unwrap();
        }
    }

    fn supply(&self, page: u64, pages: u64, index: u64) -> Moved {
        let va = DATA + page * PAGE;
        self.pager.move_pages(va, pages, &self.object, index, 100)
    }

    fn supplied(&self) -> (u64, u64) {
        let counters = self.pager.counters();
        (
            counters.pages_supplied_moved.get(),
            counters.pages_supplied_copied.get(),
        )
    }

    fn byte(&self, index: u64) -> Option<u8> {
        self.object.resident(index).map(|page| {
            let mut byte = [0];
            page.read(0, &mut byte);
            byte[0]
        })
    }

    fn end(self) {
        drop((self.pager, self.object));
        self.stage.end();
    }
}

const fn all(pages: u64) -> Moved {
    Moved { pages, stop: None }
}

#[test]
fn a_page_that_is_not_there_is_asked_for() {
    let scene = Scene::shared(32);
    for access in [Access::Read, Access::Write] {
        let va = BASE + 21 * PAGE + 8;
        assert_eq!(touch(scene.client(), va, access), FaultOutcome::Busy);
        let ask = scene.asked().expect("a question");
        assert!(Ref::ptr_eq(&ask.object, &scene.object));
        assert_eq!(ask.object.pager_key(), Some(KEY));
        assert_eq!((ask.index, ask.access, ask.va), (21, access, va));
        assert_eq!((ask.first, ask.pages), (16, 16));
        assert!(scene.asked().is_none(), "asked twice");
    }
    assert!(!is_mapped(scene.client(), BASE + 21 * PAGE));
    assert_eq!(scene.client().counters().faults_paged.get(), 2);
    assert_eq!(scene.object.resident_pages(), 0);
    scene.end();
}

#[test]
fn the_hint_is_what_is_absent_around_the_page_in_the_window() {
    let scene = Scene::shared(24);
    scene.fill(8, 1);
    assert_eq!(scene.supply(0, 2, 2), all(2));
    assert_eq!(scene.supply(4, 1, 9), all(1));
    for (index, first, pages) in [(0, 0, 2), (1, 0, 2), (4, 4, 5), (12, 10, 6), (20, 16, 8)] {
        assert_eq!(
            read(scene.client(), BASE + index * PAGE),
            FaultOutcome::Busy
        );
        let ask = scene.asked().unwrap();
        assert_eq!((ask.index, ask.first, ask.pages), (index, first, pages));
    }
    scene.end();
}

#[test]
fn windows_are_powers_of_two_in_a_leaf() {
    let scene = Scene::new();
    for (window, pages) in [(0, 1), (1, 1), (7, 4), (64, 64), (4096, 64)] {
        let objects = scene.stage.world.context.objects();
        let object = objects.pager(1024 * PAGE, KEY, window).unwrap();
        let ask = MemObject::ask(&object, 200, Access::Read, 0);
        assert_eq!(ask.pages, pages);
        assert!(ask.first <= 200 && 200 < ask.first + u64::from(pages));
        assert_eq!(ask.first % u64::from(pages), 0);
    }
    scene.end();
}

#[test]
fn what_is_supplied_is_mapped_with_its_neighbours_and_never_asks() {
    let scene = Scene::shared(32);
    scene.fill(16, 1);
    assert_eq!(read(scene.client(), BASE + 5 * PAGE), FaultOutcome::Busy);
    drop(scene.asked());
    assert_eq!(scene.supply(0, 12, 0), all(12));
    assert_eq!(read(scene.client(), BASE + 5 * PAGE), FaultOutcome::Done);
    for page in 0..16 {
        assert_eq!(is_mapped(scene.client(), BASE + page * PAGE), page < 12);
    }
    for page in 0..12 {
        assert_eq!(get(scene.client(), BASE + page * PAGE), Ok(1 + page as u8));
    }
    assert!(scene.asked().is_none());
    scene.end();
}

#[test]
fn kernel_accesses_ask_as_the_program_does() {
    let scene = Scene::shared(32);
    let space = scene.client();
    let asked = |access, index| {
        let ask = scene.asked().expect("a question");
        assert_eq!((ask.access, ask.index), (access, index));
    };
    assert_eq!(get(space, BASE), Err(CopyStop::Busy));
    asked(Access::Read, 0);
    assert_eq!(put(space, BASE + PAGE, 1), Err(CopyStop::Busy));
    asked(Access::Write, 1);
    assert_eq!(
        space.touch(BASE + 2 * PAGE, Access::Read),
        Err(CopyStop::Busy)
    );
    asked(Access::Read, 2);
    assert_eq!(space.cas_u32(BASE + 3 * PAGE, 0, 1), Err(CopyStop::Busy));
    asked(Access::Write, 3);
    let mut pins = mm::Pins::new();
    assert_eq!(
        space.gup(BASE + 4 * PAGE, 8, Access::Read, false, &mut pins),
        Err(CopyStop::Busy)
    );
    asked(Access::Read, 4);
    let populated = space.populate(BASE + 5 * PAGE, BASE + 6 * PAGE, Access::Write, true);
    assert_eq!(populated, Err(FaultOutcome::Busy));
    asked(Access::Write, 5);
    assert_eq!(space.load_u32(BASE), Err(CopyStop::Miss));
    scene.end();
}

#[test]
fn a_refused_page_is_a_bus_error_and_no_other() {
    let scene = Scene::shared(32);
    let (space, asks) = (scene.client(), scene.stage.world.context.asks());
    let object = scene.object.number();
    asks.refuse(Some(Refused { object, index: 3 }));
    assert_eq!(read(space, BASE + 3 * PAGE), FaultOutcome::Bus);
    assert_eq!(write(space, BASE + 3 * PAGE), FaultOutcome::Bus);
    assert_eq!(get(space, BASE + 3 * PAGE), Err(CopyStop::Fault));
    let page = scene
        .stage
        .world
        .context
        .object_page(&scene.object, 3, Access::Read);
    assert_eq!(page.err(), Some(CopyStop::Fault));
    assert!(scene.asked().is_none());
    assert_eq!(read(space, BASE + 4 * PAGE), FaultOutcome::Busy);
    assert!(scene.asked().is_some());
    asks.refuse(None);
    assert_eq!(read(space, BASE + 3 * PAGE), FaultOutcome::Busy);
    assert_eq!(space.counters().faults_bus.get(), 3);
    // A page that is there is not refused.
    scene.fill(1, 9);
    assert_eq!(scene.supply(0, 1, 3), all(1));
    asks.refuse(Some(Refused { object, index: 3 }));
    assert_eq!(get(space, BASE + 3 * PAGE), Ok(9));
    asks.refuse(None);
    asks.forget();
    scene.end();
}

#[test]
fn behind_the_end_nobody_is_asked() {
    let scene = Scene::shared(8);
    map_shared(scene.client(), BASE + 64 * PAGE, 16, &scene.object);
    assert_eq!(read(scene.client(), BASE + 72 * PAGE), FaultOutcome::Bus);
    assert!(scene.asked().is_none());
    let page = scene
        .stage
        .world
        .context
        .object_page(&scene.object, 8, Access::Read);
    assert!(page.expect("zeros").is_none());
    scene.end();
}

#[test]
fn a_change_of_the_map_is_not_taken_for_a_question() {
    let scene = Scene::shared(8);
    assert_eq!(read(scene.client(), BASE), FaultOutcome::Busy);
    map(scene.client(), DATA, 1, Backing::ANON, MapFlags::empty());
    put(scene.client(), DATA, 1).unwrap();
    let (addr, len) = (DATA, PAGE);
    let change = scene.client().begin(mm::Verb::Unmap { addr, len }).unwrap();
    assert_eq!(read(scene.client(), DATA), FaultOutcome::Busy);
    assert!(scene.asked().is_none(), "the question of another access");
    finish(scene.client(), change).unwrap();
    scene.end();
}

#[test]
fn a_userfaultfd_has_the_word_before_the_pager() {
    let scene = Scene::shared(8);
    scene
        .client()
        .arm(BASE, PAGE, VmaFlags::UFFD_MISSING)
        .unwrap();
    assert_eq!(read(scene.client(), BASE), FaultOutcome::Bus);
    assert_eq!(scene.client().counters().faults_asked.get(), 1);
    assert!(scene.asked().is_none());
    scene.end();
}

#[test]
fn private_mappings_read_the_objects_page_and_write_a_copy() {
    let scene = Scene::of(8);
    map_private(scene.client(), BASE, 8, &scene.object);
    for access in [Access::Read, Access::Write] {
        assert_eq!(touch(scene.client(), BASE, access), FaultOutcome::Busy);
        assert_eq!(scene.asked().map(|ask| ask.access), Some(access));
    }
    scene.fill(2, 5);
    assert_eq!(scene.supply(0, 2, 0), all(2));
    assert_eq!(get(scene.client(), BASE), Ok(5));
    put(scene.client(), BASE, 50).unwrap();
    put(scene.client(), BASE + PAGE, 60).unwrap();
    assert_eq!((scene.byte(0), scene.byte(1)), (Some(5), Some(6)));
    assert_eq!(get(scene.client(), BASE + PAGE), Ok(60));
    scene.end();
}

#[test]
fn reads_and_writes_by_the_object_ask_for_what_they_need() {
    let scene = Scene::new();
    let (object, context) = (&scene.object, scene.stage.world.context);
    assert_eq!(
        context.object_page(object, 2, Access::Read).err(),
        Some(CopyStop::Busy)
    );
    let ask = scene.asked().unwrap();
    assert_eq!((ask.index, ask.va, ask.access), (2, 0, Access::Read));
    drop(ask);
    // A part of a page needs the rest; a whole one does not, nor does one behind the end.
    assert_eq!(
        object.write(2 * PAGE + 1, &[1], 0),
        Err(ObjectError::Absent)
    );
    object
        .write(2 * PAGE, &[3; PAGE as usize], 3 * PAGE)
        .unwrap();
    object.write(2 * PAGE, &[4], 2 * PAGE + 1).unwrap();
    assert_eq!(scene.byte(2), Some(4));
    object.write(40 * PAGE + 1, &[5], 40 * PAGE + 2).unwrap();
    assert_eq!(scene.byte(40), Some(0));
    let allocated = Allocate::begin(object, 0, PAGE, false);
    assert_eq!(allocated.err(), Some(ObjectError::Paged));
    scene.end();
}

#[test]
fn pages_move_without_a_copy_and_are_gone_where_they_were() {
    let scene = Scene::shared(32);
    scene.single_pages();
    scene.fill(20, 1);
    let free = scene.stage.machine.free_frames();
    assert_eq!(scene.supply(0, 20, 3), all(20));
    assert_eq!(scene.supplied(), (20, 0));
    // A node of the tree, at most.
    assert!(free - scene.stage.machine.free_frames() <= 1);
    for page in 0..20 {
        assert!(!is_mapped(&scene.pager, DATA + page * PAGE));
        assert_eq!(
            get(scene.client(), BASE + (3 + page) * PAGE),
            Ok(1 + page as u8)
        );
        assert_eq!(get(&scene.pager, DATA + page * PAGE), Ok(0));
        let owner = scene.object.resident(3 + page).unwrap().owner();
        assert_eq!(owner, scene.object.number());
    }
    scene.end();
}

#[test]
fn a_folio_moves_as_one() {
    let scene = Scene::shared(32);
    scene.fill(32, 1);
    assert!(entry(&scene.pager, DATA, |look| look
        .value
        .is_leaf(look.level())));
    assert_eq!(scene.supply(0, 16, 16), all(16));
    assert_eq!(scene.supplied(), (16, 0));
    assert_eq!(scene.object.resident(20).unwrap().order(), 4);
    assert_eq!(read(scene.client(), BASE + 20 * PAGE), FaultOutcome::Done);
    for page in 0..16 {
        let va = BASE + (16 + page) * PAGE;
        assert!(is_mapped(scene.client(), va));
        assert_eq!(get(scene.client(), va), Ok(1 + page as u8));
    }
    // A part of one is copied, and stays.
    assert_eq!(scene.supply(16, 2, 0), all(2));
    assert_eq!(scene.supplied(), (16, 2));
    assert_eq!(get(&scene.pager, DATA + 17 * PAGE), Ok(18));
    assert_eq!(scene.byte(1), Some(18));
    scene.end();
}

#[test]
fn nothing_and_the_page_of_zeros_give_zeros() {
    let scene = Scene::shared(32);
    assert_eq!(get(&scene.pager, DATA + PAGE), Ok(0));
    put(&scene.pager, DATA + 16 * PAGE, 7).unwrap();
    assert_eq!(scene.supply(0, 17, 0), all(17));
    assert_eq!(get(scene.client(), BASE), Ok(0));
    assert_eq!(get(scene.client(), BASE + PAGE), Ok(0));
    assert_eq!(get(scene.client(), BASE + 16 * PAGE), Ok(7));
    scene.end();
}

#[test]
fn a_supply_stops_where_there_is_a_page_already() {
    let scene = Scene::shared(32);
    scene.fill(16, 1);
    assert_eq!(scene.supply(15, 1, 5), all(1));
    let stopped = Moved {
        pages: 5,
        stop: Some(MoveStop::Exists),
    };
    assert_eq!(scene.supply(0, 12, 0), stopped);
    let none = Moved {
        pages: 0,
        stop: Some(MoveStop::Exists),
    };
    assert_eq!(scene.supply(5, 7, 5), none);
    assert_eq!(scene.byte(5), Some(16));
    // What was not supplied is there still.
    assert_eq!(get(&scene.pager, DATA + 6 * PAGE), Ok(7));
    assert_eq!(scene.supply(6, 6, 6), all(6));
    scene.end();
}

#[test]
fn a_supply_stops_at_the_end_of_the_object_and_of_the_memory() {
    let scene = Scene::shared(4);
    scene.fill(16, 1);
    let stopped = |pages, stop| Moved {
        pages,
        stop: Some(stop),
    };
    assert_eq!(scene.supply(0, 8, 2), stopped(2, MoveStop::BeyondEnd));
    assert_eq!(scene.supply(0, 8, 9), stopped(0, MoveStop::BeyondEnd));
    assert_eq!(scene.supply(62, 4, 0), stopped(2, MoveStop::Fault));
    resize(&scene.object, 32);
    assert_eq!(scene.supply(62, 4, 8), stopped(2, MoveStop::Fault));
    assert_eq!(scene.supply(99, 1, 12), stopped(0, MoveStop::Fault));
    let odd = scene.pager.move_pages(DATA + 1, 1, &scene.object, 12, 1);
    assert_eq!(odd, stopped(0, MoveStop::Fault));
    protect(&scene.pager, DATA, 1, Prot::empty());
    assert_eq!(scene.supply(0, 1, 12), stopped(0, MoveStop::Fault));
    scene.end();
}

#[test]
fn a_supply_goes_in_steps() {
    let scene = Scene::shared(64);
    resize(&scene.object, 200);
    scene.fill(40, 1);
    let mut done = 0;
    while done < 40 {
        let va = DATA + done * PAGE;
        let moved = scene
            .pager
            .move_pages(va, 40 - done, &scene.object, 50 + done, 16);
        assert!(moved.stop.is_none() && (1..=16).contains(&moved.pages));
        done += moved.pages;
    }
    for page in 0..40 {
        assert_eq!(scene.byte(50 + page), Some(1 + page as u8));
    }
    scene.end();
}

#[test]
fn a_page_that_somebody_reads_is_copied() {
    let scene = Scene::shared(32);
    scene.single_pages();
    scene.fill(2, 1);
    let stay = ();
    let side = scene.stage.machine.read_side(&stay);
    let pinned = scene.pager.table().pin(DATA, &side).unwrap();
    assert_eq!(scene.supply(0, 2, 0), all(2));
    assert_eq!(scene.supplied(), (1, 1));
    put(scene.client(), BASE, 99).unwrap();
    let mut byte = [0];
    pinned.read(0, &mut byte);
    assert_eq!(byte, [1], "one page has two owners");
    drop(pinned);
    scene.end();
}

/// A folio that does not fall on a folio of the object stays one block of memory.
#[test]
fn a_folio_moves_to_any_place() {
    let scene = Scene::shared(64);
    scene.fill(16, 1);
    assert_eq!(scene.supply(0, 16, 5), all(16));
    assert_eq!(scene.supplied(), (16, 0));
    for page in 0..16 {
        let va = BASE + (5 + page) * PAGE;
        assert_eq!(get(scene.client(), va), Ok(1 + page as u8));
    }
    // Not over the end of a leaf of the object's pages: the pages are copied one by one.
    put(&scene.pager, DATA + 16 * PAGE, 7).unwrap();
    resize(&scene.object, 100);
    assert_eq!(scene.supply(16, 16, 55), all(16));
    assert_eq!(scene.supplied(), (16, 16));
    assert_eq!(scene.byte(55), Some(7));
    scene.end();
}

/// What was taken out before memory ran out goes back.
#[test]
fn a_supply_without_memory_loses_nothing() {
    for granted in 0..4 {
        let scene = Scene::shared(32);
        scene.single_pages();
        scene.fill(8, 1);
        // A page that is there, so that the tree of the object is; and one that has to be made.
        assert_eq!(scene.supply(9, 1, 31), all(1));
        discard(&scene.pager, DATA + 2 * PAGE, 2);
        let frames = scene.stage.machine.frames();
        frames.fail_after(granted);
        let moved = scene.supply(0, 8, 0);
        frames.fail_after(u64::MAX);
        let expected = match granted {
            0 | 1 => Some(MoveStop::NoMemory),
            _ => None,
        };
        assert_eq!(moved.stop, expected, "{granted} granted");
        for page in moved.pages..8 {
            let byte = if page == 2 || page == 3 {
                0
            } else {
                1 + page as u8
            };
            assert_eq!(get(&scene.pager, DATA + page * PAGE), Ok(byte));
        }
        let left = 8 - moved.pages;
        assert_eq!(scene.supply(moved.pages, left, moved.pages), all(left));
        assert_eq!(get(scene.client(), BASE + 7 * PAGE), Ok(8));
        scene.end();
    }
}

#[test]
fn pages_of_objects_and_of_blocks_are_copied() {
    let scene = Scene::shared(32);
    let other = scene.stage.object(8);
    map_shared(&scene.pager, DATA, 8, &other);
    assert_eq!(scene.supply(0, 4, 0), all(4));
    assert_eq!(scene.supplied(), (0, 4));
    assert_eq!(get(scene.client(), BASE + 3 * PAGE), Ok(4));
    assert_eq!(get(&scene.pager, DATA + 3 * PAGE), Ok(4));
    // Pages of another pager's object are asked for.
    let objects = scene.stage.world.context.objects();
    let behind = objects.pager(8 * PAGE, 1, 1).unwrap();
    map_shared(&scene.pager, DATA, 8, &behind);
    let stopped = Moved {
        pages: 0,
        stop: Some(MoveStop::Busy),
    };
    assert_eq!(scene.supply(2, 1, 8), stopped);
    assert_eq!(scene.asked().map(|ask| ask.index), Some(2));
    drop((behind, other));
    scene.end();
}

#[test]
fn a_supplier_whose_map_changes_waits() {
    let scene = Scene::shared(32);
    scene.fill(2, 1);
    let (addr, len) = (DATA, PAGE);
    let change = scene.pager.begin(mm::Verb::Unmap { addr, len }).unwrap();
    let stopped = Moved {
        pages: 0,
        stop: Some(MoveStop::Busy),
    };
    assert_eq!(scene.supply(0, 1, 0), stopped);
    finish(&scene.pager, change).unwrap();
    assert!(matches!(
        scene.pager.begin(mm::Verb::Unmap {
            addr: DATA + 1,
            len
        }),
        Err(MmError::Invalid)
    ));
    scene.end();
}

/// What a collection of the first `pages` pages says.
fn collected(scene: &Scene, pages: u64) -> Vec<u64> {
    let mut written = [0; 2];
    let mut collect = Collect::begin(&scene.object, 0, pages);
    while !collect.step(&mut written, 3) {}
    (0..pages)
        .filter(|page| written[*page as usize / 64] >> (page % 64) & 1 != 0)
        .collect()
}

fn drop_clean(scene: &Scene, first: u64, pages: u64) -> u64 {
    let mut drop = DropClean::begin(&scene.object, first, pages).unwrap();
    while !drop.step(3) {}
    drop.dropped()
}

/// 32 pages, of which the first 24 are there and hold their numbers and one, each a page by itself.
fn filled() -> Scene {
    let scene = Scene::shared(32);
    scene.single_pages();
    scene.fill(24, 1);
    assert_eq!(scene.supply(0, 24, 0), all(24));
    scene
}

#[test]
fn what_is_written_is_collected_once() {
    for records in [false, true] {
        let scene = filled();
        scene.stage.machine.set_records_access(records);
        assert_eq!(
            collected(&scene, 32),
            [0u64; 0],
            "written by being supplied"
        );
        for page in 0..24 {
            assert_eq!(read(scene.client(), BASE + page * PAGE), FaultOutcome::Done);
        }
        assert_eq!(collected(&scene, 32), [0u64; 0], "written by being read");
        put(scene.client(), BASE + 3 * PAGE, 30).unwrap();
        assert_eq!(write(scene.client(), BASE + 7 * PAGE), FaultOutcome::Done);
        scene.object.write(9 * PAGE, &[90], 9 * PAGE + 1).unwrap();
        assert_eq!(collected(&scene, 32), [3, 7, 9]);
        assert_eq!(collected(&scene, 32), [0u64; 0]);
        // The next write is told of again, by an entry that is mapped still.
        assert!(is_mapped(scene.client(), BASE + 3 * PAGE));
        put(scene.client(), BASE + 3 * PAGE, 31).unwrap();
        assert_eq!(collected(&scene, 32), [3]);
        assert_eq!(get(scene.client(), BASE + 3 * PAGE), Ok(31));
        scene.end();
    }
}

#[test]
fn a_collection_flushes_what_it_has_cleaned() {
    let scene = filled();
    put(scene.client(), BASE + 3 * PAGE, 30).unwrap();
    scene.stage.machine.take_invalidations();
    assert_eq!(collected(&scene, 32), [3]);
    let covers = |what: &Invalidation| match *what {
        Invalidation::Range { start, end, .. } => {
            start <= BASE + 3 * PAGE && BASE + 4 * PAGE <= end
        }
        _ => true,
    };
    assert!(scene.stage.machine.take_invalidations().iter().any(covers));
    scene.end();
}

#[test]
fn what_was_written_is_remembered_when_its_entry_goes() {
    let ways: [fn(&Scene); 4] = [
        |scene| unmap(scene.client(), BASE, 32),
        |scene| discard(scene.client(), BASE, 32),
        |scene| map(scene.client(), BASE, 32, Backing::ANON, MapFlags::empty()),
        |scene| protect(scene.client(), BASE, 32, Prot::empty()),
    ];
    for way in ways {
        let scene = filled();
        for page in [2, 5] {
            put(scene.client(), BASE + page * PAGE, 7).unwrap();
        }
        way(&scene);
        assert_eq!(collected(&scene, 32), [2, 5]);
        assert_eq!(collected(&scene, 32), [0u64; 0]);
        scene.end();
    }
}

#[test]
fn what_a_space_has_written_outlives_it() {
    let scene = filled();
    let other = scene.stage.world.space();
    map_shared(&other, BASE, 32, &scene.object);
    put(&other, BASE + 4 * PAGE, 7).unwrap();
    drop(other);
    assert_eq!(collected(&scene, 32), [4]);
    scene.end();
}

#[test]
fn a_collection_that_nobody_hears_of_is_given_back() {
    let scene = filled();
    for page in [2, 5] {
        put(scene.client(), BASE + page * PAGE, 7).unwrap();
    }
    assert_eq!(collected(&scene, 32), [2, 5]);
    Collect::give_back(&scene.object, 2, &[0b1001]);
    assert_eq!(collected(&scene, 32), [2, 5]);
    scene.end();
}

/// Any entry of a contiguous block may say for all that it was written.
#[test]
fn a_folded_block_is_written_as_a_whole() {
    let scene = Scene::shared(32);
    scene.stage.machine.set_records_access(true);
    scene.fill(32, 1);
    assert_eq!(scene.supply(0, 32, 0), all(32));
    assert_eq!(read(scene.client(), BASE), FaultOutcome::Done);
    put(scene.client(), BASE + 3 * PAGE, 7).unwrap();
    assert_eq!(collected(&scene, 32), (0..16).collect::<Vec<_>>());
    assert_eq!(collected(&scene, 32), [0u64; 0]);
    put(scene.client(), BASE + 3 * PAGE, 8).unwrap();
    // A part is asked for: the block is taken apart, and the rest is told of by who asks for it.
    assert_eq!(collected(&scene, 4), [0, 1, 2, 3]);
    assert_eq!(collected(&scene, 32), (4..16).collect::<Vec<_>>());
    scene.end();
}

#[test]
fn clean_pages_are_dropped_and_asked_for_again() {
    let scene = filled();
    for page in 0..24 {
        assert_eq!(read(scene.client(), BASE + page * PAGE), FaultOutcome::Done);
    }
    put(scene.client(), BASE + 3 * PAGE, 30).unwrap();
    scene.object.write(9 * PAGE, &[90], 9 * PAGE + 1).unwrap();
    let free = scene.stage.machine.free_frames();
    assert_eq!(drop_clean(&scene, 2, 20), 18);
    assert_eq!(scene.stage.machine.free_frames(), free + 18);
    let objects = scene.stage.world.context.objects();
    assert_eq!(objects.pages_dropped(), 18);
    for page in 0..24 {
        let stays = !(2..22).contains(&page) || page == 3 || page == 9;
        assert_eq!(scene.byte(page).is_some(), stays, "page {page}");
        let outcome = read(scene.client(), BASE + page * PAGE);
        let expected = if stays {
            FaultOutcome::Done
        } else {
            FaultOutcome::Busy
        };
        assert_eq!(outcome, expected, "page {page}");
    }
    scene.stage.world.context.asks().forget();
    // Collected, they are clean.
    assert_eq!(collected(&scene, 32), [3, 9]);
    assert_eq!(drop_clean(&scene, 0, 32), 6);
    assert_eq!(scene.object.resident_pages(), 0);
    assert!(!is_mapped(scene.client(), BASE + 3 * PAGE));
    scene.fill(1, 77);
    assert_eq!(scene.supply(0, 1, 3), all(1));
    assert_eq!(get(scene.client(), BASE + 3 * PAGE), Ok(77));
    assert_eq!(collected(&scene, 32), [0u64; 0]);
    scene.end();
}

#[test]
fn a_folio_is_dropped_as_a_whole_or_not() {
    let scene = Scene::shared(32);
    scene.fill(32, 1);
    assert_eq!(scene.supply(0, 32, 0), all(32));
    for page in [0, 16] {
        assert_eq!(read(scene.client(), BASE + page * PAGE), FaultOutcome::Done);
    }
    assert_eq!(drop_clean(&scene, 0, 8), 0);
    assert_eq!(drop_clean(&scene, 8, 20), 0);
    scene.object.write(20 * PAGE, &[1], 20 * PAGE + 1).unwrap();
    assert_eq!(drop_clean(&scene, 0, 32), 16);
    assert_eq!(scene.object.resident_pages(), 16);
    assert_eq!((scene.byte(0), scene.byte(21)), (None, Some(22)));
    scene.end();
}

#[test]
fn pages_that_are_held_and_private_copies_stay() {
    let scene = filled();
    map_private(scene.client(), BASE + 64 * PAGE, 8, &scene.object);
    put(scene.client(), BASE + 64 * PAGE, 50).unwrap();
    assert_eq!(get(scene.client(), BASE + 65 * PAGE), Ok(2));
    let held = scene.object.resident(2);
    assert_eq!(drop_clean(&scene, 0, 8), 7);
    assert_eq!(scene.byte(2), Some(3));
    assert_eq!(get(scene.client(), BASE + 64 * PAGE), Ok(50));
    assert!(!is_mapped(scene.client(), BASE + 65 * PAGE));
    drop(held);
    assert_eq!(drop_clean(&scene, 0, 8), 1);
    let zeros = scene.stage.object(2);
    assert_eq!(
        DropClean::begin(&zeros, 0, 2).err(),
        Some(ObjectError::Absent)
    );
    drop(zeros);
    scene.end();
}

/// Drops clean pages of the one object that the test has put here.
fn reclaim(budget: u32) -> u64 {
    SHORT.with(|object| {
        let object = object.borrow();
        object
            .as_ref()
            .map_or(0, |object| MemObject::reclaim(object, budget))
    })
}

thread_local! {
    static SHORT: std::cell::RefCell<Option<Ref<MemObject>>> = const { std::cell::RefCell::new(None) };
}

#[test]
fn clean_pages_are_dropped_before_memory_is_out() {
    let mut scene = filled();
    let context: &'static _ = Box::leak(Box::new(
        mm::MmContext::new(scene.stage.machine, scene.stage.world.graves, 8, 1, || 0)
            .reclaimed_by(reclaim),
    ));
    // Its page of zeros stays.
    scene.stage.world.free -= 1;
    SHORT.set(Some(scene.object.clone()));
    let short = mm::Space::new(context).unwrap();
    map(&short, BASE, 8, Backing::ANON, MapFlags::empty());
    // With a table.
    put(&short, BASE, 1).unwrap();
    // All that is free is taken.
    let frames = scene.stage.machine.frames();
    let mut all = Vec::new();
    while let Ok(frame) = frames.alloc_fresh(0, false) {
        all.push(frame);
    }
    for page in 1..5 {
        put(&short, BASE + page * PAGE, 1).unwrap();
    }
    assert!(scene.object.resident_pages() < 24);
    drop((all, short));
    SHORT.set(None);
    scene.end();
}

/// What is supplied stops where whoever made the object may have no more; and goes on when there is room.
#[test]
fn a_supply_ends_where_the_pager_may_have_no_more() {
    let mut scene = Scene::of(32);
    let account = scene.stage.world.context.objects().account().unwrap();
    account.set_limit(5);
    MemObject::charge_to(&mut scene.object, &account);
    scene.fill(8, 1);
    let moved = scene.supply(0, 8, 0);
    assert_eq!(moved.pages, 5);
    assert_eq!(account.used(), 5);
    assert_eq!(scene.supply(5, 3, 5).stop, Some(MoveStop::NoMemory));
    account.set_limit(6);
    assert_eq!(scene.supply(5, 1, 5), all(1));
    assert_eq!((scene.byte(0), scene.byte(5)), (Some(1), Some(6)));
    drop(account);
    scene.end();
}
