//! Growing by a level against walkers and against growing (D12).

use loom::sync::Arc;
use loom::thread;
use pgtable::{Graveyard, Machine, Walked};

use crate::machine::{Space, alone, attrs, end, map, pages, space, unmap, walk};
use crate::run::explore;

const FRAMES: u64 = 8;
const SHAPE: &[u8] = &[1];

/// Where page number 0 of the space is; it has to be somewhere.
fn address(space: &Space) -> u64 {
    let seen = walk(space, 0);
    let pa = match seen {
        Walked::Seen { .. } => seen.address(0, space.machine().format()),
        Walked::Miss { .. } => None,
    };
    pa.expect("the lower range does not translate").raw()
}

/// A walker with either word finds the same page.
fn grow_against_walk() {
    explore(FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, SHAPE)), Graveyard::new());
        let page = machine.page();
        let pa = page.pfn().start().raw();
        map(&space, 0, page, attrs());
        let theirs = space.clone();
        let walker = thread::spawn(move || assert_eq!(address(&theirs), pa));
        let word = space.grow().expect("a level");
        assert_eq!((word, word.levels()), (space.root_word(), 2));
        walker.join().expect("a walk ends");
        assert_eq!(address(&space), pa);
        unmap(&space, &graves, pages(0, 4));
        end(alone(space), &graves, FRAMES, 2);
    });
}

/// Two grow at once: each has a level more than it saw, both roots hang together, and the loser's
/// new root is given back.
fn grow_against_grow() {
    explore(FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, SHAPE)), Graveyard::new());
        let page = machine.page();
        let pa = page.pfn().start().raw();
        map(&space, 0, page, attrs());
        let theirs = space.clone();
        let other = thread::spawn(move || {
            let before = theirs.root_word().levels();
            let after = theirs.grow().expect("a level").levels();
            assert!(after > before, "no level more than before");
            assert_eq!(address(&theirs), pa);
        });
        assert!(
            space.grow().expect("a level").levels() > 1,
            "no level more than before"
        );
        assert_eq!(address(&space), pa);
        other.join().expect("growing ends");
        let levels = u64::from(space.root_word().levels());
        assert_eq!(address(&space), pa);
        unmap(&space, &graves, pages(0, 1 << levels));
        end(alone(space), &graves, FRAMES, levels);
    });
}

/// A page mapped in the lower range with the old word is there with the new one, and the other way
/// round.
fn grow_against_fault() {
    explore(FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, SHAPE)), Graveyard::new());
        let (low, theirs) = (machine.page(), space.clone());
        let pa = low.pfn().start().raw();
        let fault = thread::spawn(move || map(&theirs, 0, low, attrs()));
        space.grow().expect("a level");
        map(&space, 2, machine.page(), attrs());
        fault.join().expect("a fault ends");
        assert_eq!(address(&space), pa);
        assert!(matches!(walk(&space, 2), Walked::Seen { .. }));
        unmap(&space, &graves, pages(0, 4));
        end(alone(space), &graves, FRAMES, 2);
    });
}

/// Emptying the lower range, with the word from before or after growing: the former root stays.
fn grow_against_unmap() {
    explore(2 * FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, &[1, 1])), Graveyard::new());
        map(&space, 0, machine.page(), attrs());
        let theirs = space.clone();
        let grower = thread::spawn(move || theirs.grow().expect("a level").levels());
        unmap(&space, &graves, pages(0, 4));
        assert_eq!(grower.join().expect("growing ends"), 3);
        assert!(matches!(walk(&space, 0), Walked::Miss { .. }));
        end(alone(space), &graves, 2 * FRAMES, 2);
    });
}

sync::models! {
    grow_against_walk {
        GrowBeforeLink: "does not translate",
        FreeFormerRoot: "in an empty space",
    }
    grow_against_grow { GrowBeforeLink: "does not translate" }
    grow_against_fault {}
    grow_against_unmap { FreeFormerRoot: "in an empty space" }
}
