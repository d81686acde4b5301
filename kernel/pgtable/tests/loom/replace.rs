//! A page that is replaced by another one, as copy-on-write does it, against walks and pins.

use arm64::attrs::{Attrs, Prot};
use frame::UserFrame;
use loom::sync::Arc;
use loom::thread;
use pgtable::{Gather, Graveyard, Machine, Walked};

use crate::machine::{
    PAGE, Space, alone, attrs, end, finish, map, map_block, pages, space, unmap, walk,
};
use crate::pin::{Contents, pin, reuse};
use crate::run::{explore, explore_bounded};

const FRAMES: u64 = 4;

/// Replaces page number `page` by `frame`, if that is still what it was before the lock was taken.
pub fn replace(space: &Space, graves: &Graveyard, page: u64, frame: UserFrame) -> bool {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let look = space.look(page * PAGE, &section);
    let leaf = space.lock_seen(page * PAGE, &look, || true);
    let leaf = leaf.expect("a leaf table");
    let mut gather = Gather::new();
    let done = leaf.replace(page * PAGE, look.value, frame, attrs(), &mut gather);
    drop(leaf);
    finish(space, graves, &mut gather);
    done.is_ok()
}

fn read_only() -> Attrs {
    Attrs::user(Prot::READ).with_young(true)
}

/// A walk finds the old page, the new one, or, in between, none.
fn replace_against_walk() {
    explore(FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, &[1])), Graveyard::new());
        let (old, new) = (machine.page(), machine.page());
        let legal = [&old, &new].map(|page| (page.pfn().start(), page.pfn() == new.pfn()));
        map(&space, 0, old, read_only());
        let theirs = space.clone();
        let walker = thread::spawn(move || {
            let seen = walk(&theirs, 0);
            if let Walked::Seen { value, .. } = seen {
                let at = seen.address(0, theirs.machine().format()).expect("a page");
                let found = (at, value.writable());
                assert!(legal.contains(&found), "a walk found {found:?}");
            }
        });
        assert!(replace(&space, &graves, 0, new), "nobody else changes it");
        walker.join().expect("a walk ends");
        unmap(&space, &graves, pages(0, 1));
        end(alone(space), &graves, FRAMES, 1);
    });
}

/// The pin has the old page, which nobody else gets before it is dropped, or the new one.
fn replace_against_pin() {
    explore(FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, &[1])), Graveyard::new());
        let (old, new) = (machine.page(), machine.page());
        let contents = Arc::new(Contents::new(old.pfn(), 1));
        map(&space, 0, old, read_only());
        let (theirs, seen) = (space.clone(), contents.clone());
        let pinner = thread::spawn(move || pin(&theirs, 0, &seen));
        assert!(replace(&space, &graves, 0, new), "nobody else changes it");
        reuse(machine, 0, &contents);
        pinner.join().expect("a pin ends");
        unmap(&space, &graves, pages(0, 1));
        end(alone(space), &graves, FRAMES, 1);
    });
}

/// The same in a contiguous block, which comes apart.
fn replace_in_a_block_against_pin() {
    explore_bounded(2, 8, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, &[1])), Graveyard::new());
        let (folio, new) = (machine.folio(1), machine.page());
        let contents = Arc::new(Contents::new(folio.pfn(), 2));
        map_block(&space, 0, folio, read_only());
        let (theirs, seen) = (space.clone(), contents.clone());
        let pinner = thread::spawn(move || pin(&theirs, 1, &seen));
        assert!(replace(&space, &graves, 1, new), "nobody else changes it");
        unmap(&space, &graves, pages(0, 1));
        reuse(machine, 1, &contents);
        pinner.join().expect("a pin ends");
        unmap(&space, &graves, pages(0, 2));
        end(alone(space), &graves, 8, 1);
    });
}

/// Two faults copy one page: one of the copies is mapped, and no frame is lost or freed twice.
fn replace_against_replace() {
    explore(2 * FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, &[1])), Graveyard::new());
        map(&space, 0, machine.page(), read_only());
        let theirs = space.clone();
        let other = thread::spawn(move || {
            let frame = theirs.machine().page();
            replace(&theirs, &Graveyard::new(), 0, frame)
        });
        // Either it saw what the other one had mapped, or only one of them is done.
        let frame = machine.page();
        let mine = replace(&space, &graves, 0, frame);
        assert!(other.join().expect("a fault ends") || mine, "neither");
        unmap(&space, &graves, pages(0, 1));
        end(alone(space), &graves, 2 * FRAMES, 1);
    });
}

/// A page that was unmapped since is not brought back.
fn replace_against_unmap() {
    explore(FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, &[1])), Graveyard::new());
        map(&space, 0, machine.page(), read_only());
        let theirs = space.clone();
        let other = thread::spawn(move || {
            let stay = ();
            let section = theirs.machine().read_side(&stay);
            let look = theirs.look(0, &section);
            if look.value.is_none() {
                return;
            }
            let leaf = theirs.lock_seen(0, &look, || true);
            let leaf = leaf.expect("a leaf table");
            let (frame, mut gather) = (theirs.machine().page(), Gather::new());
            let done = leaf.replace(0, look.value, frame, attrs(), &mut gather);
            drop(leaf);
            finish(&theirs, &Graveyard::new(), &mut gather);
            assert!(done.is_err() || gather.is_empty());
        });
        unmap(&space, &graves, pages(0, 1));
        other.join().expect("a fault ends");
        let seen = walk(&space, 0);
        let brought_back = matches!(seen, Walked::Seen { value, .. } if value.writable());
        assert!(!brought_back, "an unmapped page is mapped again");
        end(alone(space), &graves, FRAMES, 1);
    });
}

sync::models! {
    replace_against_walk {}
    replace_against_pin { PinWithoutRecheck: "somebody else's" }
    replace_in_a_block_against_pin { PinWithoutRecheck: "somebody else's" }
    replace_against_replace {}
    replace_against_unmap { ReplaceUnchecked: "is mapped again" }
}
