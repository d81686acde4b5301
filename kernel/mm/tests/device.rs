//! Registers of devices in an address space: what is mapped, and what every verb and the kernel's own
//! accesses do to it (docs/decisions/0018).

mod common;

use arm64::attrs::{MemType, Prot};
use arm64::geometry::Level;
use arm64::pte::{Entry, Format};
use common::{Space, World};
use mm::{
    Access, Backing, CopyStop, FaultInput, FaultOutcome, MapFlags, MapRequest, MmError, Mode, Pins,
    RemapFlags, SegvCode, Verb, VmaFlags,
};
use pgtable::{Machine, Walked};

const PAGE: u64 = 4096;
const BASE: u64 = 0x1000_0000;
/// Where no memory of the test's machine is.
const REGISTERS: u64 = 0x0901_0000;
const RW: Prot = Prot::READ.union(Prot::WRITE);

fn run(space: &Space, verb: Verb) -> Result<u64, MmError> {
    let mut change = space.begin(verb)?;
    loop {
        if let Some(result) = change.step(space, 3) {
            return result;
        }
    }
}

fn map_as(space: &Space, pages: u64, prot: Prot, flags: MapFlags) -> Result<u64, MmError> {
    let request = MapRequest {
        addr: BASE,
        len: pages * PAGE,
        prot,
        flags: MapFlags::FIXED | flags,
        backing: Backing::Device { base: REGISTERS },
        refusal: None,
    };
    run(space, Verb::Map(request))
}

fn map(space: &Space, pages: u64) {
    assert_eq!(map_as(space, pages, RW, MapFlags::SHARED), Ok(BASE));
}

fn touch(space: &Space, va: u64, access: Access) -> FaultOutcome {
    let mode = Mode::User;
    space.fault(FaultInput { va, access, mode })
}

/// Physical address, rights and type of what is mapped at `va`.
fn seen(space: &Space, va: u64) -> Option<(u64, Prot, MemType)> {
    let (stay, table) = ((), space.table());
    match table.walk(va, &table.machine().read_side(&stay)) {
        Walked::Seen { value, .. } => match value.decode(Format::NORMAL, Level::L3) {
            Entry::Leaf { pa, attrs } => {
                assert!(attrs.special && attrs.young && attrs.dirty);
                Some((pa.raw(), attrs.prot - Prot::USER, attrs.mem))
            }
            other => panic!("{other:?}"),
        },
        Walked::Miss { .. } => None,
    }
}

fn protect(space: &Space, va: u64, pages: u64, prot: Prot) -> Result<u64, MmError> {
    let len = pages * PAGE;
    run(
        space,
        Verb::Protect {
            addr: va,
            len,
            prot,
        },
    )
}

fn world() -> World {
    World::new(512, Format::NORMAL)
}

#[test]
fn registers_are_mapped_as_device_memory_and_as_nothing_else() {
    let world = world();
    let space = world.space();
    map(&space, 32);
    for page in [0, 1, 31] {
        let access = if page == 1 {
            Access::Read
        } else {
            Access::Write
        };
        assert_eq!(
            touch(&space, BASE + page * PAGE, access),
            FaultOutcome::Done
        );
        let expected = (REGISTERS + page * PAGE, RW, MemType::Device);
        assert_eq!(seen(&space, BASE + page * PAGE), Some(expected));
    }
    // A page at a time, however the neighbours lie.
    assert_eq!(seen(&space, BASE + 2 * PAGE), None);
    assert_eq!(
        touch(&space, BASE, Access::Exec),
        FaultOutcome::Segv {
            code: SegvCode::AccErr
        }
    );
    let mut text = String::new();
    space.maps(&mut text).unwrap();
    assert!(
        text.contains("rw-s 09010000 00:00 0          [device]"),
        "{text}"
    );
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn registers_are_mapped_shared_and_never_executable() {
    let world = world();
    let space = world.space();
    let private = map_as(&space, 1, RW, MapFlags::empty());
    assert_eq!(private, Err(MmError::Invalid));
    let executable = map_as(&space, 1, Prot::READ | Prot::EXEC, MapFlags::SHARED);
    assert_eq!(executable, Err(MmError::Access));
    map(&space, 1);
    let changed = protect(&space, BASE, 1, Prot::READ | Prot::EXEC);
    assert_eq!(changed, Err(MmError::Access));
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn the_kernel_reads_and_writes_no_registers() {
    let world = world();
    let space = world.space();
    map(&space, 4);
    // Page 0 is mapped, page 1 is not.
    assert_eq!(touch(&space, BASE, Access::Write), FaultOutcome::Done);
    for va in [BASE, BASE + PAGE] {
        let mut pins = Pins::new();
        for access in [Access::Read, Access::Write] {
            assert_eq!(
                space.gup(va, 8, access, false, &mut pins),
                Err(CopyStop::Fault)
            );
            assert_eq!(space.touch(va, access), Err(CopyStop::Fault));
        }
        assert_eq!(space.copy_in(va, &mut [0; 8]), Err(CopyStop::Fault));
        assert_eq!(space.copy_out(va, &[0; 8]), Err(CopyStop::Fault));
        assert_eq!(space.cas_u32(va, 0, 1), Err(CopyStop::Fault));
        assert_eq!(space.load_u32(va), Err(CopyStop::Miss));
        assert_eq!(
            space.copy_across(va, &space, va, 8, Access::Read),
            Err(CopyStop::Fault)
        );
        let populated = space.populate(va, va + PAGE, Access::Write, true);
        assert!(
            va == BASE || populated == Err(FaultOutcome::Bus),
            "{populated:?}"
        );
    }
    assert_eq!(seen(&space, BASE + PAGE), None);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn rights_change_and_come_back() {
    let world = world();
    let space = world.space();
    map(&space, 3);
    (0..3).for_each(|page| {
        assert_eq!(
            touch(&space, BASE + page * PAGE, Access::Write),
            FaultOutcome::Done
        );
    });
    let middle = BASE + PAGE;
    protect(&space, middle, 1, Prot::READ).unwrap();
    let at = |prot| Some((REGISTERS + PAGE, prot, MemType::Device));
    assert_eq!(seen(&space, middle), at(Prot::READ));
    assert!(matches!(
        touch(&space, middle, Access::Write),
        FaultOutcome::Segv { .. }
    ));
    protect(&space, middle, 1, Prot::empty()).unwrap();
    protect(&space, middle, 1, RW).unwrap();
    assert_eq!(touch(&space, middle, Access::Write), FaultOutcome::Done);
    assert_eq!(seen(&space, middle), at(RW));
    // The three areas are one again.
    let mut text = String::new();
    space.maps(&mut text).unwrap();
    assert_eq!(text.matches("[device]").count(), 1, "{text}");
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn registers_move_and_are_cut_but_do_not_grow() {
    let world = world();
    let space = world.space();
    map(&space, 4);
    let third = BASE + 2 * PAGE;
    assert_eq!(touch(&space, third, Access::Write), FaultOutcome::Done);
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
    let (may, to) = (RemapFlags::MAYMOVE, BASE + (4 << 20));
    assert_eq!(
        remap(BASE, 4 * PAGE, 8 * PAGE, may, 0),
        Err(MmError::BadAddress)
    );
    assert_eq!(remap(BASE, 0, PAGE, may, 0), Err(MmError::Invalid));
    let keep = may | RemapFlags::DONTUNMAP;
    assert_eq!(remap(BASE, PAGE, PAGE, keep, 0), Err(MmError::Invalid));
    let moved = remap(third, PAGE, PAGE, may | RemapFlags::FIXED, to);
    assert_eq!(moved, Ok(to));
    let there = Some((REGISTERS + 2 * PAGE, RW, MemType::Device));
    assert_eq!((seen(&space, third), seen(&space, to)), (None, there));
    // What is behind the cut shows the registers that it did.
    assert_eq!(
        touch(&space, third + PAGE, Access::Read),
        FaultOutcome::Done
    );
    let last = Some((REGISTERS + 3 * PAGE, RW, MemType::Device));
    assert_eq!(seen(&space, third + PAGE), last);
    let (addr, len) = (BASE, 4 * PAGE);
    run(&space, Verb::Unmap { addr, len }).unwrap();
    assert_eq!(seen(&space, third + PAGE), None);
    drop(space);
    world.assert_nothing_lost();
}

#[test]
fn what_is_for_pages_is_refused() {
    let world = world();
    let space = world.space();
    map(&space, 512);
    assert_eq!(touch(&space, BASE, Access::Write), FaultOutcome::Done);
    let (addr, len) = (BASE, 512 * PAGE);
    assert_eq!(
        run(&space, Verb::DontNeed { addr, len }),
        Err(MmError::Invalid)
    );
    assert_eq!(
        run(&space, Verb::Collapse { addr, len }),
        Err(MmError::Invalid)
    );
    for modes in [
        VmaFlags::UFFD_MISSING,
        VmaFlags::UFFD_WP,
        VmaFlags::UFFD_MINOR,
    ] {
        assert_eq!(space.arm(addr, len, modes), Err(MmError::Invalid));
    }
    assert!(space.piece_to_remove(addr, addr + len).is_err());
    assert!(seen(&space, BASE).is_some());
    drop(space);
    world.assert_nothing_lost();
}
