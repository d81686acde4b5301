//! Spaces that grow: which requests make them, where things go, and what failing leaves behind.

mod common;

use arm64::attrs::Prot;
use arm64::pte::Format;
use common::{Space, World};
use mm::layout::{DEFAULT_END, FRESH_END, MMAP_BASE, task_size};
use mm::{
    Access, Backing, FaultInput, FaultOutcome, MapFlags, MapRequest, MmError, Mode, RemapFlags,
    Verb,
};

const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;
const RW: Prot = Prot::READ.union(Prot::WRITE);
const NONE: MapFlags = MapFlags::empty();
const WIDE: Format = Format { lpa2: true };
const LARGEST: u64 = task_size(WIDE);

fn run(space: &Space, verb: Verb) -> Result<u64, MmError> {
    let mut change = space.begin(verb.clone())?;
    for _ in 0..1_000_000 {
        if let Some(result) = change.step(space, 4096) {
            return result;
        }
    }
    panic!("{verb:?} does not end");
}

fn map(space: &Space, addr: u64, len: u64, flags: MapFlags) -> Result<u64, MmError> {
    let request = MapRequest {
        addr,
        len,
        prot: RW,
        flags: flags | MapFlags::NORESERVE,
        backing: Backing::ANON,
        refusal: None,
    };
    run(space, Verb::Map(request))
}

fn unmap(space: &Space, addr: u64, len: u64) -> Result<u64, MmError> {
    run(space, Verb::Unmap { addr, len })
}

fn levels(space: &Space) -> u8 {
    space.root_word().levels()
}

fn write(space: &Space, va: u64, value: u8) {
    assert_eq!(space.copy_out(va, &[value]), Ok(1), "{va:#x}");
}

fn read(space: &Space, va: u64) -> u8 {
    let mut byte = [0];
    assert_eq!(space.copy_in(va, &mut byte), Ok(1), "{va:#x}");
    byte[0]
}

fn touch(space: &Space, va: u64) -> FaultOutcome {
    space.fault(FaultInput {
        va,
        access: Access::Read,
        mode: Mode::User,
    })
}

#[test]
fn a_hint_above_the_range_grows_the_space_and_what_was_there_stays() {
    let world = World::new(512, WIDE);
    let space = world.space();
    let low = map(&space, 0, PAGE, NONE).unwrap();
    assert_eq!((low, levels(&space)), (MMAP_BASE - PAGE, 3));
    write(&space, low, 1);
    for (at, expected) in [(FRESH_END, 4), (DEFAULT_END - PAGE, 4)] {
        assert_eq!(map(&space, at, PAGE, NONE), Ok(at));
        assert_eq!(levels(&space), expected);
        write(&space, at, 2);
    }
    let far = DEFAULT_END + 5 * GIB;
    assert_eq!(map(&space, far, PAGE, NONE), Ok(far));
    assert_eq!(levels(&space), 5);
    write(&space, far, 3);
    let all = [low, FRESH_END, DEFAULT_END - PAGE, far];
    assert_eq!(all.map(|va| read(&space, va)), [1, 2, 2, 3]);
    assert_eq!(unmap(&space, low, LARGEST - low), Ok(0));
    assert_eq!((space.area_count(), levels(&space)), (0, 5));
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn a_fixed_address_may_be_anywhere_below_the_task_size() {
    let world = World::new(512, WIDE);
    let space = world.space();
    let last = LARGEST - PAGE;
    assert_eq!(map(&space, last, PAGE, MapFlags::FIXED), Ok(last));
    assert_eq!(levels(&space), 5, "by two levels at once");
    write(&space, last, 9);
    assert_eq!(
        map(&space, last, 2 * PAGE, MapFlags::FIXED),
        Err(MmError::NoMemory)
    );
    assert_eq!(read(&space, last), 9);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn without_lpa2_the_task_size_is_the_default_window() {
    let world = World::new(512, Format::NORMAL);
    let space = world.space();
    let wish = DEFAULT_END + GIB;
    assert_eq!(map(&space, wish, PAGE, NONE), Ok(MMAP_BASE - PAGE));
    let fixed = map(&space, wish, PAGE, MapFlags::FIXED);
    assert_eq!(fixed, Err(MmError::NoMemory));
    assert_eq!(levels(&space), 3, "refused before anything grew");
    let last = DEFAULT_END - PAGE;
    assert_eq!(map(&space, last, PAGE, MapFlags::FIXED), Ok(last));
    assert_eq!(levels(&space), 4);
    let invalid = Err(MmError::Invalid);
    assert_eq!(unmap(&space, last, 2 * PAGE), invalid);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn nothing_goes_above_the_default_window_without_being_asked_to() {
    let world = World::new(512, WIDE);
    let space = world.space();
    // The hint counts as a wish only strictly above, as on Linux.
    assert_eq!(map(&space, DEFAULT_END, PAGE, NONE), Ok(MMAP_BASE - PAGE));
    assert_eq!(levels(&space), 3);
    let all = map(&space, 0, DEFAULT_END, NONE);
    assert_eq!(all, Err(MmError::NoMemory));
    let wish = DEFAULT_END + GIB;
    assert_eq!(map(&space, wish, PAGE, NONE), Ok(wish));
    let taken = map(&space, wish, PAGE, NONE);
    assert_eq!(taken, Ok(LARGEST - PAGE), "near where it was asked for");
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn what_does_not_fit_below_goes_above_and_grows_the_space() {
    let world = World::new(512, WIDE);
    let space = world.space();
    let half = FRESH_END / 2 - GIB;
    let first = map(&space, 0, half, NONE).unwrap();
    let second = map(&space, 0, half, NONE).unwrap();
    assert!(first + half <= MMAP_BASE && second + half <= first && levels(&space) == 3);
    let third = map(&space, 0, half, NONE);
    assert_eq!(third, Ok(DEFAULT_END - half), "highest first there too");
    assert_eq!(levels(&space), 4);
    let large = map(&space, 0, 4 * FRESH_END, NONE);
    assert_eq!(large, Ok(DEFAULT_END - half - 4 * FRESH_END));
    write(&space, large.unwrap(), 7);
    let at = map(&space, 0, PAGE, NONE).unwrap();
    assert!(at < FRESH_END, "what fits below still goes there");
    assert_eq!(read(&space, large.unwrap()), 7);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn an_address_above_the_range_is_a_hole_like_any_other() {
    let world = World::new(512, WIDE);
    let space = world.space();
    map(&space, 0, PAGE, NONE).unwrap();
    let hole = FaultOutcome::Segv {
        code: mm::SegvCode::MapErr,
    };
    for va in [FRESH_END, DEFAULT_END, LARGEST - 1, LARGEST, u64::MAX] {
        assert_eq!(touch(&space, va), hole, "{va:#x}");
        assert_eq!(space.copy_out(va, &[1]), Err(mm::CopyStop::Fault));
    }
    let range = (FRESH_END, 4 * PAGE);
    assert_eq!(unmap(&space, range.0, range.1), Ok(0));
    let protect = Verb::Protect {
        addr: range.0,
        len: range.1,
        prot: RW,
    };
    assert_eq!(run(&space, protect), Err(MmError::NoMemory));
    let drop_pages = Verb::DontNeed {
        addr: range.0,
        len: range.1,
    };
    assert_eq!(run(&space, drop_pages), Err(MmError::NoMemory));
    assert!(!space.is_covered(range.0, range.0 + range.1));
    assert_eq!(levels(&space), 3);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn remaps_grow_the_space_for_their_targets() {
    let world = World::new(512, WIDE);
    let space = world.space();
    let remap = |old, old_len, new_len, flags, new| {
        let verb = Verb::Remap {
            old,
            old_len,
            new_len,
            flags,
            new,
        };
        run(&space, verb)
    };
    let old = map(&space, GIB, 2 * PAGE, NONE).unwrap();
    write(&space, old + PAGE, 5);
    let both = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    let new = DEFAULT_END + 3 * GIB;
    assert_eq!(remap(old, 2 * PAGE, 2 * PAGE, both, new), Ok(new));
    assert_eq!((read(&space, new + PAGE), levels(&space)), (5, 5));
    let beyond = remap(new, 2 * PAGE, 2 * PAGE, both, LARGEST - PAGE);
    assert_eq!(beyond, Err(MmError::Invalid));
    drop(space);
    let space = world.space();
    let last = FRESH_END - PAGE;
    assert_eq!(map(&space, last, PAGE, MapFlags::FIXED), Ok(last));
    write(&space, last, 6);
    let grow = Verb::Remap {
        old: last,
        old_len: PAGE,
        new_len: 2 * PAGE,
        flags: RemapFlags::empty(),
        new: 0,
    };
    assert_eq!(run(&space, grow), Ok(last));
    assert_eq!(levels(&space), 4, "in place over the end of the range");
    write(&space, FRESH_END, 8);
    assert_eq!([last, FRESH_END].map(|va| read(&space, va)), [6, 8]);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn no_memory_for_a_root_is_an_error_without_effects() {
    let world = World::new(512, WIDE);
    let space = world.space();
    let low = map(&space, 0, PAGE, NONE).unwrap();
    write(&space, low, 1);
    // One of the two roots that this needs.
    world.machine.refuse_after(1);
    let far = DEFAULT_END + GIB;
    let failed = map(&space, far, PAGE, MapFlags::FIXED);
    assert_eq!(failed, Err(MmError::NoMemory));
    assert_eq!(space.area_count(), 1);
    assert!(levels(&space) < 5);
    world.machine.refuse_after(u64::MAX);
    assert_eq!(read(&space, low), 1);
    assert_eq!(map(&space, far, PAGE, MapFlags::FIXED), Ok(far));
    drop(space);
    world.assert_nothing_lost();
}

/// What a space may span is looked at by whatever makes it span more, and by nothing else.
#[test]
fn areas_span_no_more_than_the_limit() {
    let world = World::new(512, WIDE);
    let space = world.space();
    let base = map(&space, 0, 8 * PAGE, NONE).unwrap();
    assert_eq!(space.mapped_pages(), 8);
    space.set_page_limit(12);
    assert_eq!(map(&space, 0, 5 * PAGE, NONE), Err(MmError::NoMemory));
    let second = map(&space, 0, 4 * PAGE, NONE).unwrap();
    let grow = |old_len, new_len| Verb::Remap {
        old: base,
        old_len,
        new_len,
        flags: RemapFlags::MAYMOVE,
        new: 0,
    };
    let refused = run(&space, grow(8 * PAGE, 9 * PAGE));
    assert_eq!(refused, Err(MmError::NoMemory));
    unmap(&space, second + PAGE, 2 * PAGE).unwrap();
    assert_eq!(space.mapped_pages(), 10);
    let moved = run(&space, grow(8 * PAGE, 10 * PAGE)).unwrap();
    assert_eq!(space.mapped_pages(), 12);
    let prot = Prot::READ;
    let (addr, len) = (moved, PAGE);
    run(&space, Verb::Protect { addr, len, prot }).unwrap();
    assert_eq!(space.mapped_pages(), 12);
    space.set_page_limit(2);
    assert_eq!(map(&space, 0, PAGE, NONE), Err(MmError::NoMemory));
    unmap(&space, moved, 10 * PAGE).unwrap();
    assert_eq!(space.mapped_pages(), 2);
}
