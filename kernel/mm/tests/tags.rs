//! Memory with allocation tags, on a host machine whose tags are in a table beside its memory.

mod common;

use arm64::UserAddr;
use arm64::attrs::{MemType, Prot};
use arm64::geometry::Level;
use arm64::pte::{Entry, Format, Invalid};
use common::{Space, World};
use frame::slab::Ref;
use mm::object::{ImageObject, MemObject, Name};
use mm::tags::StoragePolicy;
use mm::{
    Access, Backing, CopyStop, FaultInput, FaultOutcome, MapFlags, MapRequest, MmError, Mode, Verb,
};
use model::HostMachine;
use pgtable::{Machine, Walked};

const PAGE: u64 = 4096;
const BASE: u64 = 0x20_0000;
const RW: Prot = Prot::READ.union(Prot::WRITE);

fn run(space: &Space, verb: Verb) -> Result<u64, MmError> {
    let mut change = space.begin(verb)?;
    loop {
        if let Some(result) = change.step(space, 8) {
            return result;
        }
    }
}

fn map(space: &Space, page: u64, pages: u64, flags: MapFlags, backing: Backing) {
    let request = MapRequest {
        addr: BASE + page * PAGE,
        len: pages * PAGE,
        prot: RW,
        flags: flags | MapFlags::FIXED,
        backing,
        refusal: None,
    };
    assert!(run(space, Verb::Map(request)).is_ok());
}

fn tag(space: &Space, page: u64, pages: u64, prot: Prot) -> Result<u64, MmError> {
    let (addr, len) = (BASE + page * PAGE, pages * PAGE);
    run(
        space,
        Verb::Tag {
            addr,
            len,
            prot,
            grows: None,
        },
    )
}

fn touch(space: &Space, page: u64, access: Access) -> FaultOutcome {
    let (va, mode) = (BASE + page * PAGE, Mode::User);
    loop {
        match space.fault(FaultInput { va, access, mode }) {
            FaultOutcome::Again => {}
            outcome => return outcome,
        }
    }
}

fn write(space: &Space, page: u64, byte: u8) {
    assert_eq!(space.copy_out(BASE + page * PAGE, &[byte]), Ok(1));
}

fn read(space: &Space, page: u64) -> u8 {
    let mut byte = [0];
    assert_eq!(space.copy_in(BASE + page * PAGE, &mut byte), Ok(1));
    byte[0]
}

fn entry(space: &Space, page: u64) -> Entry {
    let (machine, stay) = (space.table().machine(), ());
    let value = match space
        .table()
        .walk(BASE + page * PAGE, &machine.read_side(&stay))
    {
        Walked::Seen { value, .. } | Walked::Miss { value, .. } => value,
    };
    value.decode(machine.format(), Level::L3)
}

fn is_tagged(space: &Space, page: u64) -> bool {
    matches!(entry(space, page), Entry::Leaf { attrs, .. } if attrs.mem == MemType::Tagged)
}

fn lacks_tags(space: &Space, page: u64) -> bool {
    matches!(
        entry(space, page),
        Entry::PresentInvalid {
            reason: Invalid::NoTagStorage,
            ..
        }
    )
}

/// The page at `va` by a pointer with this tag, read and written with checks.
fn pointer(page: u64, tag: u64) -> UserAddr {
    UserAddr::checked((BASE + page * PAGE) | (tag << 56), true, true)
}

#[test]
fn fresh_memory_is_born_with_tags() {
    let world = World::new(2048, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 64, MapFlags::MTE, Backing::ANON);
    write(&space, 3, 7);
    assert!(is_tagged(&space, 3));
    assert_eq!(space.copy_in(pointer(3, 0), &mut [0; 64]), Ok(64));
    assert_eq!(
        space.copy_in(pointer(3, 1), &mut [0; 64]),
        Err(CopyStop::Fault)
    );
    assert_eq!(space.counters().faults_tag.get(), 0);
    // The page of zeros that all share has tags of zero.
    assert_eq!(touch(&space, 40, Access::Read), FaultOutcome::Done);
    assert!(is_tagged(&space, 40));
    drop(space);
    world.assert_nothing_lost();
}

/// TAG-01, TAG-05, TAG-12.
#[test]
fn mprotect_reserves_nothing_and_a_touch_makes_tags() {
    let world = World::new(4096, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 1024, MapFlags::empty(), Backing::ANON);
    for page in 0..1024 {
        write(&space, page, page as u8);
    }
    assert!(tag(&space, 0, 1024, RW).is_ok());
    assert!((0..1024).all(|page| lacks_tags(&space, page)));
    assert_eq!(space.counters().pages_tagged.get(), 0);
    for page in [5, 77, 1023] {
        assert_eq!(touch(&space, page, Access::Read), FaultOutcome::Done);
        assert!(is_tagged(&space, page));
    }
    assert_eq!(space.counters().pages_tagged.get(), 3);
    assert_eq!(space.counters().faults_tag.get(), 3);
    // Other rights take nothing away, and what lacks tags lacks them still.
    let (addr, len, prot) = (BASE, 1024 * PAGE, Prot::READ);
    assert!(run(&space, Verb::Protect { addr, len, prot }).is_ok());
    assert!(is_tagged(&space, 5) && lacks_tags(&space, 6));
    assert!((0..1024).all(|page| read(&space, page) == page as u8));
    assert!((0..1024).all(|page| is_tagged(&space, page)));
    drop(space);
    world.assert_nothing_lost();
}

/// An entry that nobody may access is not one that lacks tags.
#[test]
fn no_access_stays_no_access() {
    let world = World::new(1024, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 4, MapFlags::empty(), Backing::ANON);
    write(&space, 0, 1);
    assert!(tag(&space, 0, 4, Prot::empty()).is_ok());
    let refused = touch(&space, 0, Access::Read);
    assert!(matches!(refused, FaultOutcome::Segv { .. }));
    assert!(tag(&space, 0, 4, RW).is_ok());
    assert_eq!(read(&space, 0), 1);
    assert!(is_tagged(&space, 0));
}

/// XC-03, TAG-06: what lacks tags is in no contiguous block, and its block folds with the last of them.
#[test]
fn a_block_folds_when_its_last_page_gets_its_tags() {
    let world = World::new(2048, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 16, MapFlags::empty(), Backing::ANON);
    write(&space, 0, 1);
    let folds = || {
        let (events, mut folds) = (space.table_stats().events(), 0);
        events.each(&mut |name, value| folds += if name == "folds" { value } else { 0 });
        folds
    };
    let before = folds();
    assert!(tag(&space, 0, 16, RW).is_ok());
    for page in 0..15 {
        assert_eq!(touch(&space, page, Access::Read), FaultOutcome::Done);
    }
    assert_eq!(folds(), before);
    assert_eq!(touch(&space, 15, Access::Read), FaultOutcome::Done);
    assert_eq!(folds(), before + 1);
}

/// TAG-20: a block of 2 MiB gets its tags as a whole.
#[test]
fn a_block_of_2_mib_stays_one() {
    let world = World::new(4096, Format::NORMAL);
    let space = world.space();
    world.context.policy().set_anon(mm::policy::Sizes {
        kib64: mm::policy::SizeMode::Never,
        mib2: mm::policy::SizeMode::Always,
    });
    map(&space, 0, 512, MapFlags::empty(), Backing::ANON);
    assert_eq!(touch(&space, 3, Access::Write), FaultOutcome::Done);
    write(&space, 300, 9);
    assert!(tag(&space, 0, 512, RW).is_ok());
    assert_eq!(touch(&space, 300, Access::Read), FaultOutcome::Done);
    assert_eq!(read(&space, 300), 9);
    assert_eq!(space.counters().faults_2m.get(), 1);
    assert_eq!(space.counters().pages_tagged.get(), 512);
    drop(space);
    world.assert_nothing_lost();
}

/// Range mode: 32 faults become one (TAG-03).
#[test]
fn a_fault_may_tag_all_that_share_a_block() {
    let world = World::new(4096, Format::NORMAL);
    world.context.policy().set_tag_range(true);
    let space = world.space();
    map(&space, 0, 512, MapFlags::empty(), Backing::ANON);
    for page in 0..512 {
        write(&space, page, page as u8);
    }
    assert!(tag(&space, 0, 512, RW).is_ok());
    let mut faults = 0;
    for page in 0..512 {
        if !is_tagged(&space, page) {
            assert_eq!(touch(&space, page, Access::Read), FaultOutcome::Done);
            faults += 1;
        }
        assert_eq!(read(&space, page), page as u8);
    }
    assert!(faults <= 512 / 16, "{faults} faults");
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn memory_files_share_tags_and_others_have_none() {
    let world = World::new(2048, Format::NORMAL);
    let space = world.space();
    let object = world.context.objects().create(8 * PAGE).expect("an object");
    let backing = || Backing::object(object.clone(), 0);
    map(&space, 0, 8, MapFlags::SHARED | MapFlags::MTE, backing());
    map(&space, 16, 8, MapFlags::SHARED, backing());
    write(&space, 1, 5);
    assert!(is_tagged(&space, 1));
    assert_eq!(read(&space, 17), 5);
    assert!(!is_tagged(&space, 17));
    let pager = world.context.objects().pager(8 * PAGE, 1, 1);
    let of_pager = Backing::object(pager.expect("an object"), 0);
    let request = MapRequest {
        addr: BASE + 64 * PAGE,
        len: 8 * PAGE,
        prot: RW,
        flags: MapFlags::SHARED | MapFlags::MTE,
        backing: of_pager.clone(),
        refusal: None,
    };
    assert_eq!(run(&space, Verb::Map(request)), Err(MmError::Invalid));
    map(&space, 64, 8, MapFlags::SHARED, of_pager);
    assert_eq!(tag(&space, 64, 8, RW), Err(MmError::Invalid));
}

/// Copies compare what the pointer says; words too.
#[test]
fn words_are_compared() {
    let world = World::new(1024, Format::NORMAL);
    let space = world.space();
    map(&space, 0, 4, MapFlags::MTE, Backing::ANON);
    write(&space, 0, 0);
    assert_eq!(space.cas_u32(pointer(0, 0), 0, 5), Ok(0));
    assert_eq!(space.cas_u32(pointer(0, 3), 5, 6), Err(CopyStop::Fault));
    assert_eq!(space.load_u32(pointer(0, 0)), Ok(5));
    assert_eq!(space.load_u32(pointer(0, 3)), Err(CopyStop::Fault));
    assert_eq!(space.copy_out(pointer(0, 3), b"x"), Err(CopyStop::Fault));
    // Where nobody tags, nothing is compared.
    map(&space, 8, 1, MapFlags::empty(), Backing::ANON);
    assert_eq!(space.copy_out(pointer(8, 3), b"x"), Ok(1));
}

/// A machine with tag storage, and an object of so many pages that fills all of it: an image, or a
/// memory file with the policy that allows that.
fn stored(policy: StoragePolicy) -> (World, Space, Ref<MemObject>, u64) {
    let world = World::over(HostMachine::with_tag_storage(2048, Format::NORMAL, 1));
    world.context.policy().set_storage(policy);
    let pages = world.machine.frames().tag_stats().frames;
    let objects = world.context.objects();
    let object = match policy {
        StoragePolicy::Migrate => objects.create(pages * PAGE).expect("an object"),
        _ => {
            let bytes: Vec<u8> = (0..pages * PAGE)
                .map(|at| (at / PAGE) as u8 ^ 0x5a)
                .collect();
            let image = ImageObject::new(Box::leak(bytes.into_boxed_slice()));
            objects
                .create_image(image, Name::PROGRAM)
                .expect("an image")
        }
    };
    let space = world.space();
    let backing = Backing::object(object.clone(), 0);
    map(&space, 0, pages, MapFlags::SHARED, backing);
    for page in 0..pages {
        match policy {
            StoragePolicy::Migrate => write(&space, page, page as u8 ^ 0x5a),
            _ => assert_eq!(read(&space, page), page as u8 ^ 0x5a),
        }
    }
    (world, space, object, pages)
}

fn all_there(space: &Space, pages: u64) -> bool {
    (0..pages).all(|page| read(space, page) == page as u8 ^ 0x5a)
}

/// The policy discard: what is in the way is dropped, and comes again.
#[test]
fn clean_pages_make_way_for_tags() {
    let (world, space, object, pages) = stored(StoragePolicy::Discard);
    let frames = world.machine.frames();
    assert!(
        frames.tag_stats().data >= pages - 1,
        "the zero page has its tags"
    );
    map(&space, 512, 64, MapFlags::MTE, Backing::ANON);
    for page in 512..576 {
        write(&space, page, 1);
        assert!(is_tagged(&space, page));
    }
    let events = world.context.tag_events();
    assert!(events.pages_dropped.get() >= 2);
    assert_eq!((events.pages_moved.get(), events.refused.get()), (0, 0));
    assert!(all_there(&space, pages));
    drop((space, object));
    world.context.objects().sweep();
    world.assert_nothing_lost();
}

/// The policy migrate: it moves, with its contents.
#[test]
fn written_pages_move_out_of_the_way_of_tags() {
    let (world, space, object, pages) = stored(StoragePolicy::Migrate);
    assert!(world.machine.frames().tag_stats().data >= pages - 1);
    map(&space, 512, 64, MapFlags::MTE, Backing::ANON);
    (512..576).for_each(|page| write(&space, page, 1));
    let events = world.context.tag_events();
    assert!(events.pages_moved.get() >= 2);
    assert!(all_there(&space, pages));
    drop((space, object));
    world.context.objects().sweep();
    world.assert_nothing_lost();
}

/// TAG-25: a page in storage cannot have tags; it is replaced, and its contents stay.
#[test]
fn a_page_in_storage_that_is_to_carry_tags_moves() {
    let (world, space, object, pages) = stored(StoragePolicy::Migrate);
    assert!(tag(&space, 0, pages, RW).is_ok());
    assert!(all_there(&space, pages));
    assert!((0..pages).all(|page| is_tagged(&space, page)));
    assert!(world.context.tag_events().pages_moved.get() >= pages - 1);
    drop((space, object));
    world.context.objects().sweep();
    world.assert_nothing_lost();
}

/// TAG-17, law 14: storage that is pinned makes no fault loop; the page to be tagged moves.
#[test]
fn a_pinned_page_in_the_way_makes_the_other_one_move() {
    let (world, space, object, pages) = stored(StoragePolicy::Migrate);
    map(&space, 512, 64, MapFlags::empty(), Backing::ANON);
    (512..576).for_each(|page| write(&space, page, page as u8));
    let place = |page| match entry(&space, page) {
        Entry::Leaf { pa, .. } | Entry::PresentInvalid { pa, .. } => pa.pfn(),
        other => panic!("{other:?}"),
    };
    let frames = world.machine.frames();
    // One whose storage holds a page, which is pinned from now on.
    let in_the_way = |target| {
        (0..pages).find(|page| {
            let served = frames.served_by(place(*page), 1);
            served.is_some_and(|served| served.contains(&place(target)))
        })
    };
    let (target, page) = (512..576)
        .find_map(|target| Some((target, in_the_way(target)?)))
        .expect("storage that holds data");
    let pin = frames.try_pin_user(place(page)).expect("a page");
    let before = place(target);
    assert!(tag(&space, 512, 64, RW).is_ok());
    assert_eq!(touch(&space, target, Access::Write), FaultOutcome::Done);
    assert!(is_tagged(&space, target) && read(&space, target) == target as u8);
    assert_ne!(place(target), before);
    let events = world.context.tag_events();
    assert!(events.refused.get() >= 1);
    assert_eq!(events.pages_relocated.get(), 1);
    drop(pin);
    assert!(all_there(&space, pages));
    drop((space, object));
    world.context.objects().sweep();
    world.assert_nothing_lost();
}

/// With everything pinned the fault ends with an error, and nothing is lost.
#[test]
fn without_any_storage_the_fault_ends() {
    let (world, space, object, pages) = stored(StoragePolicy::Migrate);
    let frames = world.machine.frames();
    let place = |page| match entry(&space, page) {
        Entry::Leaf { pa, .. } => pa.pfn(),
        other => panic!("{other:?}"),
    };
    let pins: Vec<_> = (0..pages)
        .filter_map(|page| frames.try_pin_user(place(page)))
        .collect();
    map(&space, 512, 8, MapFlags::empty(), Backing::ANON);
    write(&space, 512, 9);
    assert!(tag(&space, 512, 8, RW).is_ok());
    let end = touch(&space, 512, Access::Read);
    // The storage of the page of zeros has room for a few.
    if end != FaultOutcome::Done {
        assert_eq!(end, FaultOutcome::Bus);
        assert!(world.context.tag_events().failed.get() >= 1);
    }
    drop(pins);
    assert_eq!(read(&space, 512), 9);
    drop((space, object));
    world.context.objects().sweep();
    world.assert_nothing_lost();
}

/// TAG-31.
#[test]
fn a_collapse_keeps_tags() {
    let world = World::over(HostMachine::with_tag_storage(4096, Format::NORMAL, 1));
    world.context.policy().set_anon(mm::policy::Sizes {
        kib64: mm::policy::SizeMode::Never,
        mib2: mm::policy::SizeMode::Never,
    });
    let space = world.space();
    map(&space, 0, 512, MapFlags::MTE, Backing::ANON);
    (0..512).for_each(|page| write(&space, page, page as u8));
    let (addr, len) = (BASE, 512 * PAGE);
    assert!(run(&space, Verb::Collapse { addr, len }).is_ok());
    assert_eq!(space.counters().pages_collapsed.get(), 512);
    let blocks = world.machine.frames().tag_stats().blocks;
    assert!((16..=17).contains(&blocks), "{blocks} blocks");
    assert!((0..512).all(|page| read(&space, page) == page as u8));
    assert_eq!(space.copy_in(pointer(7, 0), &mut [0; 64]), Ok(64));
    drop(space);
    world.assert_nothing_lost();
}
