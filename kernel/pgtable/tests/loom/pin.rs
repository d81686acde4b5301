//! Pinning a page by a lockless walk against its unmapping and reuse (GUP-13).

use std::collections::BTreeMap;

use arm64::addr::Pfn;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use pgtable::{Graveyard, Machine};

use crate::machine::{
    LoomMachine, PAGE, Space, alone, attrs, end, map, map_block, pages, space, unmap,
};
use crate::run::{explore, explore_bounded};

const FRAMES: u64 = 4;

/// What is in the frames: 0 while they are mapped, 1 after somebody else has got them.
pub struct Contents(BTreeMap<u64, UnsafeCell<u32>>);

impl Contents {
    pub fn new(pfn: Pfn, count: u64) -> Self {
        let numbers = pfn.raw()..pfn.raw() + count;
        Self(numbers.map(|n| (n, UnsafeCell::new(0))).collect())
    }

    /// By a holder of a reference.
    pub fn read(&self, pfn: Pfn) {
        // Another frame than these is never given to anybody else.
        let Some(cell) = self.0.get(&pfn.raw()) else {
            return;
        };
        // SAFETY: loom checks that no write is concurrent.
        let value = cell.with(|value| unsafe { *value });
        assert_eq!(value, 0, "pinned after it was somebody else's");
    }

    /// By the next owner, who has no reference out yet.
    fn overwrite(&self, pfn: Pfn) {
        if let Some(cell) = self.0.get(&pfn.raw()) {
            // SAFETY: loom checks that no other access is concurrent.
            cell.with_mut(|value| unsafe { *value = 1 });
        }
    }
}

pub fn pin(space: &Space, page: u64, contents: &Contents) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    if let Ok(frame) = space.pin(page * PAGE, &section) {
        contents.read(frame.pfn());
        drop(frame);
    }
}

/// Gives every free frame to another owner, who writes before he lets anybody have it.
pub fn reuse(machine: &'static LoomMachine, order: u8, contents: &Contents) {
    if let Ok(fresh) = machine.frames().alloc_fresh(order, false) {
        (0..1 << order).for_each(|page| contents.overwrite(fresh.pfn().add(page)));
        drop(fresh.into_user());
    }
}

fn pin_against_unmap() {
    explore(FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, &[1])), Graveyard::new());
        let page = machine.page();
        let contents = Arc::new(Contents::new(page.pfn(), 1));
        map(&space, 0, page, attrs());
        let (theirs, seen) = (space.clone(), contents.clone());
        let pinner = thread::spawn(move || pin(&theirs, 0, &seen));
        unmap(&space, &graves, pages(0, 1));
        reuse(machine, 0, &contents);
        pinner.join().expect("a pin ends");
        end(alone(space), &graves, FRAMES, 1);
    });
}

/// A page of a contiguous block: the pin keeps the folio while first the other page, which unfolds
/// the block, and then its own is unmapped.
fn pin_in_a_block_against_unmap() {
    explore_bounded(3, FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, &[1])), Graveyard::new());
        let folio = machine.folio(1);
        let contents = Arc::new(Contents::new(folio.pfn(), 2));
        map_block(&space, 0, folio, attrs());
        let (theirs, seen) = (space.clone(), contents.clone());
        let pinner = thread::spawn(move || pin(&theirs, 1, &seen));
        unmap(&space, &graves, pages(0, 1));
        reuse(machine, 1, &contents);
        unmap(&space, &graves, pages(1, 2));
        reuse(machine, 1, &contents);
        pinner.join().expect("a pin ends");
        end(alone(space), &graves, FRAMES, 1);
    });
}

sync::models! {
    pin_against_unmap { PinWithoutRecheck: "somebody else's" }
    pin_in_a_block_against_unmap {
        PinWithoutRecheck: "somebody else's",
        OneReferencePerBlock: "an entry owned a",
    }
}
