//! Want of memory, wherever a fault or a verb may meet it: a definite answer, nothing lost, and the
//! same request goes through when there is memory again.

use arm64::attrs::Prot;
use mm::{Advice, Backing, CopyStop, FaultOutcome, MapFlags, MmError, RemapFlags, Verb, VmaFlags};
use pgtable::Machine;

use crate::common::Space;
use crate::stage::*;

/// Bytes of a 2 MiB block.
const BLOCK: u64 = 512;
const ELSEWHERE: u64 = BASE + (64 << 20);

/// Memory was wanting.
#[derive(Debug, PartialEq, Eq)]
struct Want;

/// What is tried, and what the bytes at some addresses have to be before and after.
struct Case {
    name: &'static str,
    set_up: fn(&Stage),
    before: &'static [(u64, u8)],
    attempt: fn(&Space) -> Result<(), Want>,
    after: &'static [(u64, u8)],
}

fn faulted(outcome: FaultOutcome) -> Result<(), Want> {
    match outcome {
        FaultOutcome::Done | FaultOutcome::Again => Ok(()),
        FaultOutcome::OutOfMemory => Err(Want),
        other => panic!("{other:?}"),
    }
}

fn written(space: &Space, va: u64, byte: u8) -> Result<(), Want> {
    match put(space, va, byte) {
        Ok(_) => Ok(()),
        Err(CopyStop::OutOfMemory) => Err(Want),
        Err(other) => panic!("{other:?}"),
    }
}

fn changed(space: &Space, verb: Verb) -> Result<(), Want> {
    match run(space, verb) {
        Ok(_) => Ok(()),
        Err(MmError::NoMemory) => Err(Want),
        Err(other) => panic!("{other:?}"),
    }
}

fn anonymous(stage: &Stage) {
    map(&stage.space, BASE, 4, Backing::ANON, MapFlags::empty());
}

fn zeros(stage: &Stage) {
    anonymous(stage);
    assert_eq!(read(&stage.space, BASE), FaultOutcome::Done);
}

fn pages(stage: &Stage) {
    anonymous(stage);
    for page in 0..4 {
        put(&stage.space, BASE + page * PAGE, 10 + page as u8).unwrap();
    }
}

fn shared(stage: &Stage) {
    let objects = stage.world.context.objects();
    let object = objects.create(4 * PAGE).unwrap();
    map_shared(&stage.space, BASE, 4, &object);
}

fn private(stage: &Stage) {
    let object = stage.object(4);
    map_private(&stage.space, BASE, 4, &object);
}

fn advise(space: &Space) {
    let advice = Advice::new(VmaFlags::HUGEPAGE, VmaFlags::empty());
    let (addr, len) = (BASE, BLOCK * PAGE);
    run(space, Verb::Advise { addr, len, advice }).unwrap();
}

fn block(stage: &Stage) {
    let space = &stage.space;
    map(space, BASE, BLOCK, Backing::ANON, MapFlags::empty());
    advise(space);
    while write(space, BASE) == FaultOutcome::Again {}
    for (va, byte) in BLOCK_BYTES {
        put(space, *va, *byte).unwrap();
    }
    assert_eq!(space.counters().faults_2m.get(), 1);
}

/// A whole block of pages of their own.
fn small_pages(stage: &Stage) {
    let space = &stage.space;
    map(space, BASE, BLOCK, Backing::ANON, MapFlags::empty());
    for page in 0..BLOCK {
        put(space, BASE + page * PAGE, page as u8).unwrap();
    }
}

const BLOCK_BYTES: &[(u64, u8)] = &[
    (BASE, 1),
    (BASE + 100 * PAGE, 2),
    (BASE + 101 * PAGE, 3),
    (BASE + 511 * PAGE, 4),
];
const PAGE_BYTES: &[(u64, u8)] = &[(BASE, 10), (BASE + PAGE, 11), (BASE + 3 * PAGE, 13)];

const CASES: &[Case] = &[
    Case {
        name: "a write to anonymous memory",
        set_up: anonymous,
        before: &[],
        attempt: |space| written(space, BASE, 9),
        after: &[(BASE, 9)],
    },
    Case {
        name: "a read of anonymous memory",
        set_up: anonymous,
        before: &[],
        attempt: |space| faulted(read(space, BASE)),
        after: &[(BASE, 0)],
    },
    Case {
        name: "a write to zeros",
        set_up: zeros,
        before: &[(BASE, 0)],
        attempt: |space| written(space, BASE, 9),
        after: &[(BASE, 9), (BASE + PAGE, 0)],
    },
    Case {
        name: "a write to shared memory",
        set_up: shared,
        before: &[],
        attempt: |space| written(space, BASE + PAGE, 9),
        after: &[(BASE, 0), (BASE + PAGE, 9)],
    },
    Case {
        name: "a write to a private mapping",
        set_up: private,
        before: &[],
        attempt: |space| written(space, BASE + PAGE, 9),
        after: &[(BASE, 1), (BASE + PAGE, 9), (BASE + 2 * PAGE, 3)],
    },
    Case {
        name: "a mark where nothing is",
        set_up: |stage| {
            shared(stage);
            let armed = stage.space.arm(BASE, 4 * PAGE, VmaFlags::UFFD_WP);
            armed.unwrap();
        },
        before: &[],
        attempt: |space| match space.write_protect(BASE, BASE + 4 * PAGE, true) {
            Ok(_) => Ok(()),
            Err(MmError::NoMemory) => Err(Want),
            Err(other) => panic!("{other:?}"),
        },
        after: &[(BASE, 0)],
    },
    Case {
        name: "unmapping a part of a block",
        set_up: block,
        before: BLOCK_BYTES,
        attempt: |space| {
            let (addr, len) = (BASE + 101 * PAGE, 300 * PAGE);
            changed(space, Verb::Unmap { addr, len })
        },
        after: &[(BASE, 1), (BASE + 100 * PAGE, 2), (BASE + 511 * PAGE, 4)],
    },
    Case {
        name: "protecting a part of a block",
        set_up: block,
        before: BLOCK_BYTES,
        attempt: |space| {
            let (addr, len, prot) = (BASE + 101 * PAGE, 300 * PAGE, Prot::READ);
            changed(space, Verb::Protect { addr, len, prot })
        },
        after: BLOCK_BYTES,
    },
    Case {
        name: "giving up a part of a block",
        set_up: block,
        before: BLOCK_BYTES,
        attempt: |space| {
            let (addr, len) = (BASE + 101 * PAGE, 300 * PAGE);
            changed(space, Verb::DontNeed { addr, len })
        },
        after: &[(BASE, 1), (BASE + 101 * PAGE, 0), (BASE + 511 * PAGE, 4)],
    },
    Case {
        name: "moving pages",
        set_up: pages,
        before: PAGE_BYTES,
        attempt: |space| changed(space, moving(4)),
        after: &[(ELSEWHERE, 10), (ELSEWHERE + 3 * PAGE, 13)],
    },
    Case {
        name: "moving a block",
        set_up: block,
        before: BLOCK_BYTES,
        attempt: |space| changed(space, moving(BLOCK)),
        after: &[(ELSEWHERE, 1), (ELSEWHERE + 101 * PAGE, 3)],
    },
    Case {
        name: "collapsing pages",
        set_up: small_pages,
        before: &[(BASE, 0), (BASE + 7 * PAGE, 7), (BASE + 511 * PAGE, 255)],
        attempt: |space| {
            let (addr, len) = (BASE, BLOCK * PAGE);
            changed(space, Verb::Collapse { addr, len })
        },
        after: &[(BASE, 0), (BASE + 7 * PAGE, 7), (BASE + 511 * PAGE, 255)],
    },
];

fn moving(pages: u64) -> Verb {
    Verb::Remap {
        old: BASE,
        old_len: pages * PAGE,
        new_len: pages * PAGE,
        flags: RemapFlags::MAYMOVE | RemapFlags::FIXED,
        new: ELSEWHERE,
    }
}

fn assert_bytes(space: &Space, bytes: &[(u64, u8)], case: &str) {
    for &(va, byte) in bytes {
        assert_eq!(get(space, va), Ok(byte), "{case}: {va:#x}");
    }
}

/// With memory for `allocations` more frames: whether the attempt went through.
fn attempted(case: &Case, allocations: u64) -> bool {
    let stage = Stage::new();
    (case.set_up)(&stage);
    let (space, frames) = (&stage.space, stage.machine.frames());
    let name = format!("{} with {allocations} frames", case.name);
    assert_bytes(space, case.before, &name);
    frames.fail_after(allocations);
    let result = (case.attempt)(space);
    frames.fail_after(u64::MAX);
    if result == Err(Want) {
        assert_bytes(space, case.before, &name);
        assert!(!space.is_busy(), "{name}: the map is not free again");
        assert_eq!((case.attempt)(space), Ok(()), "{name}: tried again");
    }
    assert_bytes(space, case.after, &name);
    stage.end();
    result.is_ok()
}

#[test]
fn every_allocation_may_fail_once() {
    for case in CASES {
        let mut refused = 0;
        while !attempted(case, refused) {
            refused += 1;
            assert!(refused < 50, "{}: never enough", case.name);
        }
        assert!(refused > 0, "{}: takes no memory", case.name);
    }
}
