//! Address spaces on a host machine: verbs against a simple model, errors, faults, accounting.

mod common;

use std::collections::BTreeMap;

use arm64::attrs::Prot;
use arm64::pte::Format;
use common::{Space, World};
use mm::layout::{DEFAULT_END as TASK_SIZE, MMAP_BASE, STACK_LIMIT, STACK_TOP};
use mm::object::Name;
use mm::policy::{FOLIO_2M, FOLIO_64K, SizeMode, Sizes};
use mm::{
    Access, Backing, CopyStop, FaultInput, FaultOutcome, ImageObject, MapFlags, MapRequest,
    MmError, Mode, Populated, RemapFlags, SegvCode, Verb,
};
use pgtable::Invalidation;
use proptest::prelude::*;

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

fn request(addr: u64, len: u64, prot: Prot, flags: MapFlags) -> MapRequest {
    MapRequest {
        addr,
        len,
        prot,
        flags,
        backing: Backing::ANON,
        refusal: None,
    }
}

fn map_fixed(space: &Space, addr: u64, len: u64, prot: Prot) -> Result<u64, MmError> {
    run(space, Verb::Map(request(addr, len, prot, MapFlags::FIXED)))
}

fn put(space: &Space, mut va: u64, mut bytes: &[u8]) -> Result<(), CopyStop> {
    while !bytes.is_empty() {
        let done = space.copy_out(va, bytes)?;
        bytes = &bytes[done..];
        va += done as u64;
    }
    Ok(())
}

fn get<const N: usize>(space: &Space, va: u64) -> Result<[u8; N], CopyStop> {
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        at += space.copy_in(va + at as u64, &mut bytes[at..])?;
    }
    Ok(bytes)
}

fn touch(space: &Space, va: u64, access: Access) -> FaultOutcome {
    space.fault(FaultInput {
        va,
        access,
        mode: Mode::User,
    })
}

#[test]
fn the_kernel_reads_and_writes_memory_that_a_block_maps() {
    let world = World::new(4096, Format::NORMAL);
    world.context.policy().set_anon(Sizes {
        kib64: SizeMode::Always,
        mib2: SizeMode::Always,
    });
    let space = world.space();
    let at = 4 * FOLIO_2M;
    map_fixed(&space, at, FOLIO_2M, RW).unwrap();
    let va = at + 77 * PAGE + 8;
    // It is cleared over several faults, and the kernel's own do not begin one.
    while touch(&space, va, Access::Write) == FaultOutcome::Again {}
    put(&space, va, b"block").unwrap();
    assert_eq!(space.counters().faults_2m.get(), 1);
    assert_eq!(&get::<5>(&space, va).unwrap(), b"block");
    assert_eq!(space.cas_u32(va + 8, 0, 5), Ok(0));
    assert_eq!(space.load_u32(va + 8), Ok(5));
    let protect = |prot| {
        let (addr, len) = (at, FOLIO_2M);
        run(&space, Verb::Protect { addr, len, prot }).unwrap();
    };
    protect(Prot::READ);
    assert_eq!(put(&space, va, b"never"), Err(CopyStop::Fault));
    protect(RW);
    put(&space, va + PAGE, b"again").unwrap();
    assert_eq!(&get::<5>(&space, va).unwrap(), b"block");
    assert_eq!(space.counters().faults_2m.get(), 1);
    drop(space);
    world.assert_nothing_lost();
}

fn single_pages(world: &World) {
    world.context.policy().set_anon(Sizes {
        kib64: SizeMode::Never,
        mib2: SizeMode::Never,
    });
}

/// What populating from `va` on comes to, until it is through or meets something.
fn populate(space: &Space, mut va: u64, end: u64) -> (u64, u32) {
    let mut pieces = 0;
    while va < end {
        pieces += 1;
        match space.populate(va, end, Access::Write, true) {
            Ok(Populated::To(next)) => va = next,
            Ok(Populated::Part) => {}
            Err(outcome) => panic!("populating {va:#x} ended with {outcome:?}"),
        }
    }
    (va, pieces)
}

#[test]
fn populating_maps_runs_of_pages_up_to_what_is_there_and_the_end() {
    let world = World::new(512, Format::NORMAL);
    single_pages(&world);
    let space = world.space();
    map_fixed(&space, BASE, 64 * PAGE, RW).unwrap();
    // One fault makes the table, and in the middle of the second run a page is there already.
    put(&space, BASE + 20 * PAGE, b"here").unwrap();
    let before = space.counters().faults_anon.get();
    assert_eq!(
        populate(&space, BASE, BASE + 40 * PAGE),
        (BASE + 40 * PAGE, 5)
    );
    assert_eq!(space.counters().faults_anon.get() - before, 39);
    assert_eq!(&get::<4>(&space, BASE + 20 * PAGE).unwrap(), b"here");
    // Nothing was mapped behind the end; and a run ends with its area.
    assert_eq!(
        space.populate(BASE + 63 * PAGE, u64::MAX, Access::Write, true),
        Ok(Populated::To(BASE + 64 * PAGE))
    );
    assert_eq!(space.counters().faults_anon.get() - before, 40);
    let segv = FaultOutcome::Segv {
        code: SegvCode::MapErr,
    };
    assert_eq!(
        space.populate(BASE + 64 * PAGE, u64::MAX, Access::Write, true),
        Err(segv)
    );
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn populating_takes_folios_where_there_may_be_some() {
    let world = World::new(512, Format::NORMAL);
    world.context.policy().set_anon(Sizes {
        kib64: SizeMode::Always,
        mib2: SizeMode::Never,
    });
    let space = world.space();
    map_fixed(&space, BASE, 64 * PAGE, RW).unwrap();
    put(&space, BASE + 17 * PAGE, b"x").unwrap();
    let before = space.counters().faults_64k.get();
    let end = BASE + 64 * PAGE;
    // It begins in the middle of a folio and goes on from the next; one is there.
    assert_eq!(populate(&space, BASE + 5 * PAGE, end), (end, 4));
    assert_eq!(space.counters().faults_64k.get() - before, 3);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn populating_without_memory_maps_what_there_was_memory_for() {
    let world = World::new(48, Format::NORMAL);
    single_pages(&world);
    let space = world.space();
    let flags = MapFlags::FIXED | MapFlags::NORESERVE;
    run(&space, Verb::Map(request(BASE, 64 * PAGE, RW, flags))).unwrap();
    let (mut va, end) = (BASE, BASE + 64 * PAGE);
    let outcome = loop {
        match space.populate(va, end, Access::Write, true) {
            Ok(Populated::To(next)) => va = next,
            Ok(Populated::Part) => {}
            Err(outcome) => break outcome,
        }
    };
    assert_eq!(outcome, FaultOutcome::OutOfMemory);
    assert_eq!(space.counters().faults_anon.get(), (va - BASE) / PAGE);
    assert!(va > BASE && va < end);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn memory_is_zero_until_written_and_keeps_what_was_written_over_page_borders() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map_fixed(&space, BASE, 4 * PAGE, RW).unwrap();
    assert_eq!(get::<16>(&space, BASE + PAGE - 8), Ok([0; 16]));
    assert_eq!(space.counters().faults_zero.get(), 2);
    put(&space, BASE + PAGE - 3, b"border").unwrap();
    assert_eq!(&get::<6>(&space, BASE + PAGE - 3).unwrap(), b"border");
    assert_eq!(space.counters().faults_cow.get(), 2);
    assert_eq!(space.counters().minor_faults(), 4);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn what_is_not_mapped_or_not_allowed_is_refused_with_its_code() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map_fixed(&space, BASE, PAGE, Prot::READ).unwrap();
    let segv = |code| FaultOutcome::Segv { code };
    assert_eq!(
        touch(&space, BASE + PAGE, Access::Read),
        segv(SegvCode::MapErr)
    );
    assert_eq!(touch(&space, BASE, Access::Write), segv(SegvCode::AccErr));
    assert_eq!(touch(&space, BASE, Access::Exec), segv(SegvCode::AccErr));
    assert_eq!(
        touch(&space, TASK_SIZE, Access::Read),
        segv(SegvCode::MapErr)
    );
    assert_eq!(
        touch(&space, u64::MAX, Access::Read),
        segv(SegvCode::MapErr)
    );
    assert_eq!(touch(&space, 0, Access::Read), segv(SegvCode::MapErr));
    assert_eq!(put(&space, BASE, b"x"), Err(CopyStop::Fault));
    assert_eq!(
        get::<1>(&space, 0xffff_0000_0000_0000),
        Err(CopyStop::Fault)
    );
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn a_copy_that_runs_into_a_hole_says_how_far_it_came() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map_fixed(&space, BASE, PAGE, RW).unwrap();
    assert_eq!(space.copy_out(BASE + PAGE - 4, b"12345678"), Ok(4));
    assert_eq!(space.copy_out(BASE + PAGE, b"5678"), Err(CopyStop::Fault));
    drop(space);
}

#[test]
fn mmap_answers_bad_requests_as_linux_does() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    let map = |addr, len, flags| run(&space, Verb::Map(request(addr, len, RW, flags)));
    let none = MapFlags::empty();
    assert_eq!(map(0, 0, none), Err(MmError::Invalid));
    assert_eq!(map(0, u64::MAX, none), Err(MmError::NoMemory));
    assert_eq!(
        map(0, TASK_SIZE + PAGE, MapFlags::NORESERVE),
        Err(MmError::NoMemory)
    );
    assert_eq!(map(BASE + 1, PAGE, MapFlags::FIXED), Err(MmError::Invalid));
    assert_eq!(map(PAGE, PAGE, MapFlags::FIXED), Err(MmError::NotPermitted));
    assert_eq!(
        map(TASK_SIZE, PAGE, MapFlags::FIXED),
        Err(MmError::NoMemory)
    );
    assert_eq!(
        map(0, 513 * PAGE, none),
        Err(MmError::NoMemory),
        "more than the machine has"
    );
    assert_eq!(
        map(0, 513 * PAGE, MapFlags::NORESERVE),
        Ok(MMAP_BASE - 513 * PAGE)
    );
    assert_eq!(map(BASE, PAGE, none), Ok(BASE), "a free hint is taken");
    assert_eq!(map(BASE, PAGE, MapFlags::NOREPLACE), Err(MmError::Exists));
    assert_eq!(map(BASE + PAGE, PAGE, MapFlags::NOREPLACE), Ok(BASE + PAGE));
    let placed = map(BASE + 17, PAGE, none).unwrap();
    assert_eq!(placed, MMAP_BASE - 514 * PAGE, "a taken hint is not");
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn the_other_verbs_answer_bad_requests_as_linux_does() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map_fixed(&space, BASE, 2 * PAGE, RW).unwrap();
    map_fixed(&space, BASE + 3 * PAGE, PAGE, RW).unwrap();
    let unmap = |addr, len| run(&space, Verb::Unmap { addr, len });
    assert_eq!(unmap(BASE + 1, PAGE), Err(MmError::Invalid));
    assert_eq!(unmap(BASE, 0), Err(MmError::Invalid));
    assert_eq!(unmap(BASE, u64::MAX), Err(MmError::Invalid));
    assert_eq!(unmap(BASE + 16 * PAGE, PAGE), Ok(0), "a hole is no error");
    let protect = |addr, len| {
        run(
            &space,
            Verb::Protect {
                addr,
                len,
                prot: Prot::READ,
            },
        )
    };
    assert_eq!(protect(BASE + 1, PAGE), Err(MmError::Invalid));
    assert_eq!(protect(BASE, 0), Ok(0));
    assert_eq!(protect(BASE + 2 * PAGE, PAGE), Err(MmError::NoMemory));
    assert_eq!(protect(BASE, u64::MAX), Err(MmError::NoMemory));
    assert_eq!(
        protect(BASE, 4 * PAGE),
        Err(MmError::NoMemory),
        "a hole behind two pages"
    );
    assert_eq!(
        touch(&space, BASE, Access::Write),
        FaultOutcome::Segv {
            code: SegvCode::AccErr
        }
    );
    assert_eq!(
        touch(&space, BASE + 3 * PAGE, Access::Write),
        FaultOutcome::Done
    );
    let drop_pages = |addr, len| run(&space, Verb::DontNeed { addr, len });
    assert_eq!(drop_pages(BASE + 1, PAGE), Err(MmError::Invalid));
    assert_eq!(drop_pages(BASE, 0), Ok(0));
    assert_eq!(drop_pages(BASE, 4 * PAGE), Err(MmError::NoMemory));
    let remap = |old, old_len, new_len, flags, new| {
        run(
            &space,
            Verb::Remap {
                old,
                old_len,
                new_len,
                flags,
                new,
            },
        )
    };
    let (may, fixed) = (RemapFlags::MAYMOVE, RemapFlags::MAYMOVE | RemapFlags::FIXED);
    assert_eq!(remap(BASE + 1, PAGE, PAGE, may, 0), Err(MmError::Invalid));
    assert_eq!(remap(BASE, PAGE, 0, may, 0), Err(MmError::Invalid));
    assert_eq!(
        remap(BASE + 2 * PAGE, PAGE, 2 * PAGE, may, 0),
        Err(MmError::BadAddress)
    );
    assert_eq!(
        remap(BASE, 3 * PAGE, 4 * PAGE, may, 0),
        Err(MmError::BadAddress)
    );
    assert_eq!(
        remap(BASE, PAGE, PAGE, RemapFlags::FIXED, BASE),
        Err(MmError::Invalid)
    );
    assert_eq!(
        remap(BASE, 2 * PAGE, 2 * PAGE, fixed, BASE + PAGE),
        Err(MmError::Invalid)
    );
    let cannot_grow = remap(BASE, 2 * PAGE, 3 * PAGE + 5, RemapFlags::empty(), 0);
    assert_eq!(cannot_grow, Err(MmError::NoMemory));
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn only_one_change_at_a_time_and_faults_on_its_areas_wait_for_it() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map_fixed(&space, BASE, 4 * PAGE, RW).unwrap();
    put(&space, BASE, b"x").unwrap();
    let mut change = space
        .begin(Verb::Unmap {
            addr: BASE,
            len: 2 * PAGE,
        })
        .unwrap();
    assert!(space.is_busy());
    let waits = BASE + PAGE;
    assert_eq!(touch(&space, waits, Access::Read), FaultOutcome::Busy);
    assert_eq!(put(&space, waits, b"y"), Err(CopyStop::Busy));
    assert_eq!(
        touch(&space, BASE + 2 * PAGE, Access::Write),
        FaultOutcome::Done,
        "an area that the change is not about"
    );
    assert_eq!(space.begin(Verb::Brk { new: 0 }).err(), Some(MmError::Busy));
    while change.step(&space, 64).is_none() {}
    assert!(!space.is_busy());
    assert_eq!(
        touch(&space, BASE, Access::Read),
        FaultOutcome::Segv {
            code: SegvCode::MapErr
        }
    );
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn unmapping_flushes_before_the_frame_is_free_and_an_empty_range_needs_no_flush() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map_fixed(&space, BASE, 4 * PAGE, RW).unwrap();
    world.machine.take_invalidations();
    run(
        &space,
        Verb::Unmap {
            addr: BASE,
            len: PAGE,
        },
    )
    .unwrap();
    assert_eq!(
        world.machine.take_invalidations(),
        [],
        "nothing was ever mapped there"
    );
    put(&space, BASE + PAGE, b"x").unwrap();
    run(
        &space,
        Verb::Unmap {
            addr: BASE + PAGE,
            len: PAGE,
        },
    )
    .unwrap();
    let first = world.machine.take_invalidations()[0];
    let page = Invalidation::Range {
        asid: space.asid_cell().current(),
        start: BASE + PAGE,
        end: BASE + 2 * PAGE,
        level: arm64::geometry::Level::L3,
        // The page was the last of its table.
        tables: true,
    };
    assert_eq!(first, page);
    run(
        &space,
        Verb::Protect {
            addr: BASE + 2 * PAGE,
            len: PAGE,
            prot: Prot::READ,
        },
    )
    .unwrap();
    assert_eq!(
        world.machine.take_invalidations(),
        [],
        "no entry lost a right"
    );
    drop(space);
}

#[test]
fn the_main_stack_grows_down_to_its_limit_and_keeps_its_distance() {
    let world = World::new(4096, Format::NORMAL);
    let space = world.space();
    let flags = MapFlags::FIXED | MapFlags::GROWSDOWN | MapFlags::STACK;
    let start = STACK_TOP - 32 * PAGE;
    run(&space, Verb::Map(request(start, 32 * PAGE, RW, flags))).unwrap();
    assert_eq!(
        touch(&space, start - 100 * PAGE, Access::Write),
        FaultOutcome::Done
    );
    assert_eq!(space.counters().stack_growths.get(), 1);
    let lowest = STACK_TOP - STACK_LIMIT;
    map_fixed(&space, lowest + 16 * PAGE, PAGE, RW).unwrap();
    let near = lowest + 100 * PAGE;
    assert_eq!(
        touch(&space, near, Access::Write),
        FaultOutcome::Segv {
            code: SegvCode::MapErr
        }
    );
    run(
        &space,
        Verb::Unmap {
            addr: lowest + 16 * PAGE,
            len: PAGE,
        },
    )
    .unwrap();
    assert_eq!(touch(&space, near, Access::Write), FaultOutcome::Done);
    assert_eq!(touch(&space, lowest, Access::Write), FaultOutcome::Done);
    let below = touch(&space, lowest - 1, Access::Write);
    assert_eq!(
        below,
        FaultOutcome::Segv {
            code: SegvCode::MapErr
        }
    );
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn an_image_is_read_on_demand_and_written_privately() {
    let world = World::new(512, Format::NORMAL);
    let bytes: &'static [u8] = Vec::leak((0..2 * PAGE + 100).map(|i| i as u8 ^ 0x5a).collect());
    let image = ImageObject::new(bytes);
    let objects = world.context.objects();
    let object = objects.create_image(image, Name::PROGRAM).unwrap();
    let space = world.space();
    let synced = world.machine.synced_pages();
    let backing = Backing::object(object, PAGE);
    let flags = MapFlags::FIXED;
    let prot = RW | Prot::EXEC;
    run(
        &space,
        Verb::Map(MapRequest {
            addr: BASE,
            len: 3 * PAGE,
            prot,
            flags,
            backing,
            refusal: None,
        }),
    )
    .unwrap();
    assert_eq!(
        get::<4>(&space, BASE + 5).unwrap(),
        bytes[PAGE as usize + 5..][..4]
    );
    assert_eq!(
        get::<4>(&space, BASE + PAGE + 98).unwrap(),
        [98 ^ 0x5a, 99 ^ 0x5a, 0, 0]
    );
    assert_eq!(
        touch(&space, BASE + 2 * PAGE, Access::Read),
        FaultOutcome::Bus
    );
    assert_eq!(
        world.machine.synced_pages() - synced,
        2,
        "executable pages are made fetchable"
    );
    put(&space, BASE, b"mine").unwrap();
    assert_eq!(&get::<4>(&space, BASE).unwrap(), b"mine");
    run(
        &space,
        Verb::DontNeed {
            addr: BASE,
            len: PAGE,
        },
    )
    .unwrap();
    assert_eq!(get::<4>(&space, BASE).unwrap(), bytes[PAGE as usize..][..4]);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn a_word_of_a_shared_object_is_found_through_every_mapping() {
    let world = World::new(512, Format::NORMAL);
    let object = world.context.objects().create(4 * PAGE).unwrap();
    let spaces = [world.space(), world.space()];
    let map = |space: &Space, addr, offset, flags| {
        let backing = Backing::object(object.clone(), offset);
        let request = MapRequest {
            backing,
            ..request(addr, 2 * PAGE, RW, MapFlags::FIXED | flags)
        };
        run(space, Verb::Map(request)).unwrap();
    };
    map(&spaces[0], BASE, 0, MapFlags::SHARED);
    map(&spaces[1], BASE + 8 * PAGE, PAGE, MapFlags::SHARED);
    map(&spaces[1], BASE, PAGE, MapFlags::empty());
    let place = Ok(Some((object.number(), PAGE + 12)));
    assert_eq!(spaces[0].shared_place(BASE + PAGE + 12), place);
    assert_eq!(spaces[1].shared_place(BASE + 8 * PAGE + 12), place);
    assert_eq!(spaces[1].shared_place(BASE + 12), Ok(None), "private");
    map_fixed(&spaces[1], BASE, PAGE, RW).unwrap();
    assert_eq!(spaces[1].shared_place(BASE), Ok(None), "anonymous");
    assert_eq!(spaces[1].shared_place(0), Err(CopyStop::Fault));
    let mut change = spaces[0]
        .begin(Verb::Unmap {
            addr: BASE,
            len: PAGE,
        })
        .unwrap();
    assert_eq!(spaces[0].shared_place(BASE), Err(CopyStop::Busy));
    while change.step(&spaces[0], 64).is_none() {}
}

#[test]
fn the_break_moves_up_and_down_and_stays_where_it_cannot() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    let brk = |new| run(&space, Verb::Brk { new });
    assert_eq!(brk(BASE), Ok(0), "no program, no break");
    space.set_brk(BASE);
    assert_eq!(brk(0), Ok(BASE));
    assert_eq!(brk(BASE + 5000), Ok(BASE + 5000));
    put(&space, BASE + PAGE, b"heap").unwrap();
    assert_eq!(brk(BASE + 10), Ok(BASE + 10));
    assert_eq!(put(&space, BASE + PAGE, b"gone"), Err(CopyStop::Fault));
    assert_eq!(brk(BASE + 2 * PAGE), Ok(BASE + 2 * PAGE));
    assert_eq!(
        &get::<4>(&space, BASE + PAGE).unwrap(),
        &[0; 4],
        "fresh zeros"
    );
    map_fixed(&space, BASE + 4 * PAGE, PAGE, Prot::READ).unwrap();
    assert_eq!(
        brk(BASE + 4 * PAGE + 1),
        Ok(BASE + 2 * PAGE),
        "something is in the way"
    );
    assert_eq!(brk(u64::MAX), Ok(BASE + 2 * PAGE));
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn areas_split_and_merge_as_maps_shows() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map_fixed(&space, BASE, 3 * PAGE, RW).unwrap();
    map_fixed(&space, BASE + 3 * PAGE, PAGE, RW).unwrap();
    assert_eq!(
        space.area_count(),
        1,
        "neighbours with equal rights are one"
    );
    run(
        &space,
        Verb::Protect {
            addr: BASE + PAGE,
            len: PAGE,
            prot: Prot::READ,
        },
    )
    .unwrap();
    let mut text = String::new();
    space.maps(&mut text).unwrap();
    let want = "00100000-00101000 rw-p 00000000 00:00 0\n\
                00101000-00102000 r--p 00000000 00:00 0\n\
                00102000-00104000 rw-p 00000000 00:00 0\n";
    assert_eq!(text, want);
    run(
        &space,
        Verb::Protect {
            addr: BASE + PAGE,
            len: PAGE,
            prot: RW,
        },
    )
    .unwrap();
    assert_eq!(space.area_count(), 1);
    drop(space);
}

#[test]
fn out_of_memory_is_a_definite_answer_and_the_rest_works_on() {
    let world = World::new(24, Format::NORMAL);
    let space = world.space();
    let flags = MapFlags::FIXED | MapFlags::NORESERVE;
    run(&space, Verb::Map(request(BASE, 64 * PAGE, RW, flags))).unwrap();
    let outcomes: Vec<_> = (0..64)
        .map(|page| touch(&space, BASE + page * PAGE, Access::Write))
        .collect();
    let done = outcomes
        .iter()
        .filter(|&&o| o == FaultOutcome::Done)
        .count();
    assert!(
        done >= 16
            && outcomes[done..]
                .iter()
                .all(|&o| o == FaultOutcome::OutOfMemory)
    );
    assert_eq!(
        put(&space, BASE + 63 * PAGE, b"x"),
        Err(CopyStop::OutOfMemory)
    );
    // A folio is freed as a whole.
    let (addr, len) = (BASE, FOLIO_64K);
    run(&space, Verb::Unmap { addr, len }).unwrap();
    assert_eq!(
        touch(&space, BASE + 63 * PAGE, Access::Write),
        FaultOutcome::Done
    );
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn a_stepped_teardown_leaves_only_the_root_and_the_drop_takes_that() {
    let world = World::new(2048, Format::NORMAL);
    let space = world.space();
    let bytes = [1; 8 * PAGE as usize];
    let written = if cfg!(miri) { 100 } else { bytes.len() };
    for slot in 0..20 {
        map_fixed(&space, BASE + slot * (3 << 21), 8 * PAGE, RW).unwrap();
        put(&space, BASE + slot * (3 << 21), &bytes[..written]).unwrap();
    }
    let mut change = space.begin_teardown().unwrap();
    let mut steps = 0;
    while change.step(&space, 64).is_none() {
        steps += 1;
    }
    assert!(steps > 2, "bounded pieces");
    assert_eq!((space.table_stats().live(), space.area_count()), (1, 0));
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn a_fault_with_nothing_to_do_drops_the_translation_that_caused_it() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map_fixed(&space, BASE, PAGE, RW).unwrap();
    touch(&space, BASE, Access::Read);
    world.machine.take_invalidations();
    let page = Invalidation::Range {
        asid: space.asid_cell().current(),
        start: BASE,
        end: BASE + PAGE,
        level: arm64::geometry::Level::L3,
        tables: false,
    };
    touch(&space, BASE, Access::Write);
    assert_eq!(world.machine.take_invalidations(), [page], "made dirty");
    touch(&space, BASE, Access::Write);
    assert_eq!(world.machine.take_invalidations(), [page], "spurious");
    assert_eq!(space.counters().faults_spurious.get(), 1);
    drop(space);
}

#[test]
fn the_first_fault_is_kept_with_its_walk_before_and_after() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    map_fixed(&space, BASE, PAGE, RW).unwrap();
    assert!(space.first_fault().is_none());
    put(&space, BASE + 5, b"x").unwrap();
    assert!(
        space.first_fault().is_none(),
        "the kernel's own faults are not the program's"
    );
    run(
        &space,
        Verb::DontNeed {
            addr: BASE,
            len: PAGE,
        },
    )
    .unwrap();
    touch(&space, BASE + 5, Access::Write);
    let first = space.first_fault().unwrap();
    assert_eq!((first.va, first.access), (BASE + 5, Access::Write));
    assert_eq!(
        first.before.iter().flatten().count(),
        1,
        "the root was empty"
    );
    assert_eq!(first.after.iter().flatten().count(), 3);
    drop(space);
}

#[derive(Clone, Debug)]
enum Op {
    Map {
        at: u64,
        pages: u64,
        prot: Prot,
    },
    Unmap {
        at: u64,
        pages: u64,
    },
    Protect {
        at: u64,
        pages: u64,
        prot: Prot,
    },
    DontNeed {
        at: u64,
        pages: u64,
    },
    Move {
        from: u64,
        to: u64,
        pages: u64,
        new_pages: u64,
    },
    Write {
        at: u64,
        value: u8,
    },
}

/// Sixteen pages below and above a table border.
const SLOTS: u64 = 32;

fn address(slot: u64) -> u64 {
    0x4000_0000 + 0x20_0000 - 16 * PAGE + slot * PAGE
}

fn op() -> impl Strategy<Value = Op> {
    let prot = || prop_oneof![3 => Just(RW), 1 => Just(Prot::READ), 1 => Just(Prot::empty())];
    let span = || (0..SLOTS).prop_flat_map(|at| (Just(at), 1..=SLOTS - at));
    prop_oneof![
        3 => (span(), prot()).prop_map(|((at, pages), prot)| Op::Map { at, pages, prot }),
        2 => span().prop_map(|(at, pages)| Op::Unmap { at, pages }),
        3 => (span(), prot()).prop_map(|((at, pages), prot)| Op::Protect { at, pages, prot }),
        1 => span().prop_map(|(at, pages)| Op::DontNeed { at, pages }),
        2 => (0..SLOTS, 0..SLOTS, 1..6u64, 1..6u64).prop_map(|(from, to, pages, new_pages)| {
            Op::Move { from, to, pages, new_pages }
        }),
        6 => (0..SLOTS, 1..=255u8).prop_map(|(at, value)| Op::Write { at, value }),
    ]
}

/// Page → (rights, first byte).
type Model = BTreeMap<u64, (Prot, u8)>;

fn apply(space: &Space, model: &mut Model, op: &Op) {
    match *op {
        Op::Map { at, pages, prot } => {
            map_fixed(space, address(at), pages * PAGE, prot).unwrap();
            model.extend((at..at + pages).map(|slot| (slot, (prot, 0))));
        }
        Op::Unmap { at, pages } => {
            run(
                space,
                Verb::Unmap {
                    addr: address(at),
                    len: pages * PAGE,
                },
            )
            .unwrap();
            model.retain(|slot, _| !(at..at + pages).contains(slot));
        }
        Op::Protect { at, pages, prot } => {
            let done = run(
                space,
                Verb::Protect {
                    addr: address(at),
                    len: pages * PAGE,
                    prot,
                },
            );
            let hole = (at..at + pages).find(|slot| !model.contains_key(slot));
            assert_eq!(done.is_err(), hole.is_some());
            for slot in at..hole.unwrap_or(at + pages) {
                model.entry(slot).and_modify(|page| page.0 = prot);
            }
        }
        Op::DontNeed { at, pages } => {
            let done = run(
                space,
                Verb::DontNeed {
                    addr: address(at),
                    len: pages * PAGE,
                },
            );
            let whole = (at..at + pages).all(|slot| model.contains_key(&slot));
            assert_eq!(done.is_ok(), whole);
            for slot in at..at + pages {
                model.entry(slot).and_modify(|page| page.1 = 0);
            }
        }
        Op::Move {
            from,
            to,
            pages,
            new_pages,
        } => move_pages(space, model, from, to, pages, new_pages),
        Op::Write { at, value } => {
            let done = put(space, address(at), &[value]);
            let allowed = model
                .get(&at)
                .is_some_and(|page| page.0.contains(Prot::WRITE));
            assert_eq!(done.is_ok(), allowed, "write to slot {at}");
            if allowed {
                model.entry(at).and_modify(|page| page.1 = value);
            }
        }
    }
}

fn move_pages(space: &Space, model: &mut Model, from: u64, to: u64, pages: u64, new_pages: u64) {
    let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    let (old, new) = (address(from), address(to));
    let (old_len, new_len) = (pages * PAGE, new_pages * PAGE);
    let done = run(
        space,
        Verb::Remap {
            old,
            old_len,
            new_len,
            flags,
            new,
        },
    );
    let apart = to + new_pages <= from || from + pages <= to;
    let first = model.get(&from).map(|page| page.0);
    // What moves is a part of one area, and so has equal rights; not every run of equal rights is
    // one area, though.
    let kept = pages.min(new_pages);
    let whole = (from..from + kept).all(|slot| model.get(&slot).map(|page| page.0) == first);
    let possible = apart && first.is_some() && whole;
    assert!(possible || done.is_err(), "{done:?}");
    if done.is_err() {
        let certain = possible && kept == 1;
        assert!(!certain, "{done:?}");
        if apart && first.is_some() {
            // The target and what is left over went before the old range was looked at.
            model.retain(|slot, _| !(to..to + new_pages).contains(slot));
            model.retain(|slot, _| !(from + kept..from + pages).contains(slot));
        }
        return;
    }
    model.retain(|slot, _| !(to..to + new_pages).contains(slot));
    let prot = first.unwrap();
    let mut moved: Vec<_> = (from..from + pages)
        .map(|slot| model.remove(&slot))
        .collect();
    moved.truncate(kept as usize);
    for slot in 0..new_pages {
        let page = moved.get(slot as usize).copied().flatten();
        let page = page.unwrap_or((prot, 0));
        model.insert(to + slot, page);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 128 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_verbs_agrees_with_a_simple_map(ops in prop::collection::vec(op(), 1..50)) {
        let world = World::new(512, Format::NORMAL);
        let space = world.space();
        let mut model = Model::new();
        for op in &ops {
            apply(&space, &mut model, op);
        }
        for slot in 0..SLOTS {
            let seen = get::<1>(&space, address(slot)).map(|byte| byte[0]).ok();
            let want = model.get(&slot).filter(|page| page.0.contains(Prot::READ));
            prop_assert_eq!(seen, want.map(|page| page.1), "slot {}", slot);
        }
        prop_assert_eq!(space.mapped_pages(), model.len() as u64);
        drop(space);
        world.assert_nothing_lost();
    }
}
