//! A space of four pages, and what is done to it over and over.

use std::sync::Arc;

use arm64::attrs::Prot;
use frame::slab::Ref;
use mm::{
    Access, Backing, Change, FaultInput, FaultOutcome, MapFlags, MapRequest, MemObject, MmContext,
    MmError, Mode, Verb,
};
use pgtable::{Graveyard, Machine};

use crate::machine::{LoomMachine, PAGE};

pub type Space = Arc<mm::Space<LoomMachine>>;

/// Frames of a machine.
pub const FRAMES: u64 = 24;
/// Entries of a table.
pub const ENTRIES: usize = 2;

/// What all spaces of a model share, and what has to be left when they have ended.
pub struct World {
    machine: &'static LoomMachine,
    graves: &'static Graveyard,
    pub context: &'static MmContext<LoomMachine>,
    free: u64,
}

impl World {
    pub fn new(machine: &'static LoomMachine) -> Self {
        let graves: &'static Graveyard = Box::leak(Box::new(Graveyard::new()));
        let context = Box::leak(Box::new(MmContext::new(machine, graves, 6, 1, || 0)));
        Self {
            machine,
            graves,
            context,
            free: machine.free_frames(),
        }
    }

    /// An object of `pages` pages that are all there.
    pub fn object(&self, pages: u64) -> Ref<MemObject> {
        let object = self.context.objects().create(pages * PAGE);
        let object = object.expect("an object");
        for index in 0..pages {
            let page = self.machine.frames().alloc_fresh(0, true);
            let page = page.expect("a model has the frames it needs");
            drop(object.supply(index, page).expect("an empty place"));
        }
        object
    }

    /// Nothing is lost when the last space is dropped.
    pub fn end(self, space: Space) {
        drop(space);
        self.context.objects().reap(1000);
        for _ in 0..3 {
            self.graves.reap(self.machine, 99);
        }
        assert!(self.graves.is_empty(), "a table is never destructed");
        assert_eq!(self.machine.stats().live(), 0, "a table is lost");
        assert_eq!(self.machine.free_frames(), self.free, "a frame is lost");
    }
}

/// A space with the pages from `first` on, anonymous, or all of an object.
pub fn space(
    context: &'static MmContext<LoomMachine>,
    first: u64,
    pages: u64,
    object: Option<&Ref<MemObject>>,
) -> Space {
    let space = mm::Space::new(context).expect("a space");
    map(&space, first, pages, object);
    space
}

pub fn map(space: &Space, first: u64, pages: u64, object: Option<&Ref<MemObject>>) {
    let (backing, shared) = match object {
        Some(object) => (Backing::object(object.clone(), 0), MapFlags::SHARED),
        None => (Backing::ANON, MapFlags::empty()),
    };
    let verb = Verb::Map(MapRequest {
        addr: first * PAGE,
        len: pages * PAGE,
        prot: Prot::RW,
        flags: MapFlags::FIXED | shared,
        backing,
        refusal: None,
    });
    run(space, verb).expect("a mapping");
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

pub fn fault(space: &Space, page: u64, access: Access) -> FaultOutcome {
    space.fault(FaultInput {
        va: page * PAGE,
        access,
        mode: Mode::Populate,
    })
}

/// The rights that the entry of a page gives, if one is mapped.
pub fn rights(space: &Space, page: u64) -> Option<Prot> {
    let stay = ();
    let section = space.table().machine().read_side(&stay);
    let look = space.table().look(page * PAGE, &section);
    look.value.is_leaf(look.level()).then(|| look.value.prot())
}
