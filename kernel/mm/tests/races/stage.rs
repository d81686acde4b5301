//! A space, an object, and short names for what programs do with them.

use std::sync::mpsc;
use std::thread;

use arm64::attrs::Prot;
use arm64::pte::Format;
use frame::slab::Ref;
use mm::object::{Punch, Resize};
use mm::{
    Access, Backing, Change, CopyStop, FaultInput, FaultOutcome, MapFlags, MapRequest, MemObject,
    MmError, Mode, Verb,
};
use model::HostMachine;
use pgtable::{Look, Machine, Pause};

use crate::common::{Space, World};

pub const PAGE: u64 = 4096;
pub const BASE: u64 = 0x1000_0000;
pub const RW: Prot = Prot::READ.union(Prot::WRITE);

pub struct Stage {
    pub world: World,
    pub machine: &'static HostMachine,
    pub space: Space,
}

impl Stage {
    pub fn new() -> Self {
        let world = World::new(2048, Format::NORMAL);
        let (machine, space) = (world.machine, world.space());
        Self {
            world,
            machine,
            space,
        }
    }

    /// An object of `pages` pages, each there and full of its number and one.
    pub fn object(&self, pages: u64) -> Ref<MemObject> {
        let object = self.world.context.objects().create(pages * PAGE).unwrap();
        for index in 0..pages {
            let mut frame = self.machine.frames().alloc_fresh(0, true).unwrap();
            frame.bytes_mut().fill(1 + index as u8);
            drop(object.supply(index, frame).unwrap());
        }
        object
    }

    /// Nothing is lost when all is over.
    pub fn end(self) {
        assert_eq!(self.machine.script_left(), 0, "a step was never come to");
        drop(self.space);
        self.world.context.objects().reap(u32::MAX);
        self.world.assert_nothing_lost();
    }
}

pub fn finish(space: &Space, mut change: Change) -> Result<u64, MmError> {
    loop {
        if let Some(result) = change.step(space, 1000) {
            return result;
        }
    }
}

pub fn run(space: &Space, verb: Verb) -> Result<u64, MmError> {
    finish(space, space.begin(verb)?)
}

pub fn map(space: &Space, addr: u64, pages: u64, backing: Backing, flags: MapFlags) {
    let request = MapRequest {
        addr,
        len: pages * PAGE,
        prot: RW,
        flags: flags | MapFlags::FIXED,
        backing,
        refusal: None,
    };
    run(space, Verb::Map(request)).unwrap();
}

pub fn map_shared(space: &Space, addr: u64, pages: u64, object: &Ref<MemObject>) {
    let backing = Backing::object(object.clone(), 0);
    map(space, addr, pages, backing, MapFlags::SHARED);
}

pub fn map_private(space: &Space, addr: u64, pages: u64, object: &Ref<MemObject>) {
    let backing = Backing::object(object.clone(), 0);
    map(space, addr, pages, backing, MapFlags::empty());
}

/// Maps a page in the same table, which is not about the one at `addr` and not around it.
pub fn map_beside(space: &Space, addr: u64) {
    let beside = addr + 64 * PAGE;
    map(space, beside, 1, Backing::ANON, MapFlags::empty());
    assert_eq!(write(space, beside), FaultOutcome::Done);
}

pub fn unmap(space: &Space, addr: u64, pages: u64) {
    let len = pages * PAGE;
    run(space, Verb::Unmap { addr, len }).unwrap();
}

pub fn protect(space: &Space, addr: u64, pages: u64, prot: Prot) {
    let len = pages * PAGE;
    run(space, Verb::Protect { addr, len, prot }).unwrap();
}

pub fn discard(space: &Space, addr: u64, pages: u64) {
    let len = pages * PAGE;
    run(space, Verb::DontNeed { addr, len }).unwrap();
}

pub fn resize(object: &Ref<MemObject>, pages: u64) {
    let mut resize = Resize::begin(object, pages * PAGE).unwrap();
    while !resize.step(100) {}
}

pub fn punch(object: &Ref<MemObject>, first: u64, pages: u64) {
    let mut punch = Punch::begin(object, first * PAGE, pages * PAGE).unwrap();
    while !punch.step(100) {}
}

pub fn touch(space: &Space, va: u64, access: Access) -> FaultOutcome {
    space.fault(FaultInput {
        va,
        access,
        mode: Mode::User,
    })
}

pub fn read(space: &Space, va: u64) -> FaultOutcome {
    touch(space, va, Access::Read)
}

pub fn write(space: &Space, va: u64) -> FaultOutcome {
    touch(space, va, Access::Write)
}

pub fn put(space: &Space, va: u64, byte: u8) -> Result<usize, CopyStop> {
    space.copy_out(va, &[byte])
}

pub fn get(space: &Space, va: u64) -> Result<u8, CopyStop> {
    let mut byte = [0];
    space.copy_in(va, &mut byte).map(|_| byte[0])
}

/// The entry of `va`, as it is.
pub fn entry<R>(space: &Space, va: u64, see: impl FnOnce(&Look<'_>) -> R) -> R {
    let stay = ();
    let side = space.table().machine().read_side(&stay);
    see(&space.table().look(va, &side))
}

/// Whether a page is mapped at `va`.
pub fn is_mapped(space: &Space, va: u64) -> bool {
    entry(space, va, |look| look.value.is_leaf(look.level()))
}

/// Whether the entry of `va`, of a page or none, carries a mark.
pub fn is_marked(space: &Space, va: u64) -> bool {
    entry(space, va, |look| look.value.uffd_wp())
}

/// Runs `first` on a CPU of its own until it comes to `at`, then `meanwhile` up to the place where
/// that calls what it is given: there the first goes on to its end. Then the rest.
pub fn between<R: Send>(
    machine: &'static HostMachine,
    at: Pause,
    first: impl FnOnce() -> R + Send,
    meanwhile: impl FnOnce(Box<dyn FnOnce() + Send>),
) -> R {
    let (arrived, arrives) = mpsc::channel();
    let (let_on, may_go) = mpsc::channel::<()>();
    let (ended, ends) = mpsc::channel();
    machine.script(at, move || {
        arrived.send(()).unwrap();
        may_go.recv().unwrap();
    });
    thread::scope(|scope| {
        let first = scope.spawn(move || {
            let result = first();
            machine.frames().answer_drain();
            ended.send(()).unwrap();
            result
        });
        arrives.recv().unwrap();
        meanwhile(Box::new(move || {
            let_on.send(()).unwrap();
            ends.recv().unwrap();
        }));
        first.join().unwrap()
    })
}
