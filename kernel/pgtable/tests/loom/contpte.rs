//! Contiguous blocks of two in a space that is one table of two entries: folding and unfolding
//! against the hardware's records and lockless readers (law 6, XC-02, XC-04).

use arm64::attrs::{Attrs, Prot};
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;
use pgtable::{Accessed, Gather, Graveyard, Machine, Value, Walked};

use crate::machine::{
    LoomMachine, PAGE, Space, alone, attrs, end, finish, hardware, map, map_block, pages, space,
    unmap, walk,
};
use crate::run::{explore, explore_bounded};

const FRAMES: u64 = 4;
const SHAPE: &[u8] = &[1];

/// The entry of page number `page`, by the getter under the lock.
fn get(space: &Space, page: u64) -> Value {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let leaf = space.lock_existing(page * PAGE, &section);
    leaf.expect("a leaf table").get(page * PAGE)
}

/// Gives the pages of the range other rights and flushes.
fn protect(space: &Space, from: u64, to: u64, prot: Prot) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let mut gather = Gather::new();
    let done = space.protect(pages(from, to), prot, &mut gather, &section);
    assert_eq!(done, to * PAGE);
    finish(space, &Graveyard::new(), &mut gather);
}

/// The hardware reads or writes page number `page` on another CPU while this one does `change`;
/// afterwards the entry must say so.
fn keeps(page: u64, write: bool, prepare: fn(&Space, &'static LoomMachine), change: fn(&Space)) {
    explore(FRAMES, 2, move |machine| {
        let (space, graves) = (space(machine, SHAPE), Graveyard::new());
        prepare(&space, machine);
        let root = space.root_word().root();
        let agent = thread::spawn(move || hardware(machine, root, SHAPE, page, write));
        change(&space);
        let recorded = agent.join().expect("the hardware walks");
        if recorded {
            let value = get(&space, page);
            assert!(value.dirty() || !write, "the dirty state is lost");
            assert!(value.young(), "the access flag is lost");
        }
        unmap(&space, &graves, pages(0, 2));
        end(space, &graves, FRAMES, 1);
    });
}

/// Two pages of a folio that differ in their rights, so that they do not fold.
fn two_pages(space: &Space, machine: &'static LoomMachine) {
    let (folio, old) = (machine.folio(1), attrs().with_young(false));
    let read_only = Attrs::user(Prot::READ);
    map(space, 0, folio.page(0), read_only);
    map(space, 1, folio.page(1), old);
    assert_eq!(folds(space), 0);
}

fn one_block(space: &Space, machine: &'static LoomMachine) {
    map_block(space, 0, machine.folio(1), attrs().with_young(false));
    assert_eq!(folds(space), 1);
}

fn folds(space: &Space) -> u64 {
    space.stats().events().folds.load(Ordering::Relaxed)
}

fn fold_all(space: &Space) {
    protect(space, 0, 2, Prot::RW);
    assert_eq!(folds(space), 1);
}

fn unfold(space: &Space) {
    protect(space, 0, 1, Prot::READ);
    let unfolds = space.stats().events().unfolds.load(Ordering::Relaxed);
    assert_eq!(unfolds, 1, "a part of a block changed in it");
}

fn fold_keeps_dirty() {
    keeps(1, true, two_pages, fold_all);
}

fn fold_keeps_young() {
    keeps(1, false, two_pages, fold_all);
}

fn unfold_keeps_dirty() {
    keeps(1, true, one_block, unfold);
}

fn unfold_keeps_young() {
    keeps(1, false, one_block, unfold);
}

/// The page that loses its rights keeps what was recorded before that.
fn protect_keeps_dirty() {
    keeps(0, true, one_block, unfold);
}

fn protect_of_a_block_keeps_dirty() {
    keeps(1, true, one_block, |space| protect(space, 0, 2, Prot::READ));
}

fn write_protect_keeps_dirty() {
    keeps(1, true, two_pages, |space| {
        let stay = ();
        let section = space.machine().read_side(&stay);
        let leaf = space.lock_existing(0, &section).expect("a leaf table");
        let mut gather = Gather::new();
        leaf.write_protect(&mut gather);
        drop(leaf);
        finish(space, &Graveyard::new(), &mut gather);
    });
}

/// A fault's read of one page against the hardware's write to the same, and to the other.
fn mark_accessed(space: &Space) {
    let stay = ();
    let section = space.machine().read_side(&stay);
    let leaf = space.lock_existing(0, &section).expect("a leaf table");
    assert_ne!(leaf.mark_accessed(PAGE, false), Accessed::NotAllowed);
}

fn marking_a_page_keeps_dirty() {
    keeps(1, true, two_pages, mark_accessed);
}

fn marking_a_block_keeps_dirty() {
    keeps(0, true, one_block, mark_accessed);
}

/// One pass of aging: it clears accessed flags, never dirty state.
fn aging_keeps_dirty() {
    explore(FRAMES, 2, |machine| {
        let (space, graves) = (space(machine, SHAPE), Graveyard::new());
        map_block(&space, 0, machine.folio(1), attrs());
        let root = space.root_word().root();
        let agent = thread::spawn(move || hardware(machine, root, SHAPE, 1, true));
        let stay = ();
        let section = machine.read_side(&stay);
        let mut gather = Gather::new();
        let leaf = space.lock_existing(0, &section).expect("a leaf table");
        assert!(leaf.clear_young(&mut gather));
        drop(leaf);
        finish(&space, &graves, &mut gather);
        assert!(agent.join().expect("the hardware walks"));
        assert!(
            get(&space, 0).dirty() && get(&space, 1).dirty(),
            "the dirty state is lost"
        );
        unmap(&space, &graves, pages(0, 2));
        end(space, &graves, FRAMES, 1);
    });
}

/// A reader without a lock meets page 0 while its neighbour is replaced by a written page of another
/// folio: it finds its page as it is, or for a moment nothing, and never the other's state.
fn reader_against_repaint() {
    explore(8, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, SHAPE)), Graveyard::new());
        let folio = machine.folio(1);
        let first = folio.pfn().start();
        map_block(&space, 0, folio, attrs());
        let theirs = space.clone();
        let reader = thread::spawn(move || {
            let seen = walk(&theirs, 0);
            match seen {
                Walked::Seen { value, span, .. } => {
                    let pa = seen.address(0, theirs.machine().format());
                    assert_eq!(pa, Some(first), "another page's frame");
                    assert!(!value.dirty(), "another page's state");
                    assert!(span == PAGE || span == 2 * PAGE);
                }
                Walked::Miss { value, .. } => assert!(value.is_none()),
            }
        });
        unmap(&space, &graves, pages(1, 2));
        map(&space, 1, machine.page(), attrs().with_dirty(true));
        reader.join().expect("a read ends");
        for page in 0..2 {
            let seen = matches!(walk(&space, page), Walked::Seen { span: PAGE, .. });
            assert!(seen, "page {page} is in half a block");
        }
        unmap(&space, &graves, pages(0, 2));
        end(alone(space), &graves, 8, 1);
    });
}

/// A reader meets a block that is being mapped, given other rights, and unmapped: it finds nothing, or
/// its page with what the block has as a whole.
fn reader_against_the_life_of_a_block() {
    explore(FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, SHAPE)), Graveyard::new());
        let folio = machine.folio(1);
        let second = folio.pfn().add(1).start();
        let theirs = space.clone();
        let reader = thread::spawn(move || {
            let seen = walk(&theirs, 1);
            match seen {
                Walked::Seen { value, span, .. } => {
                    let pa = seen.address(PAGE, theirs.machine().format());
                    assert_eq!((pa, span), (Some(second), 2 * PAGE), "half a block");
                    assert!(value.young());
                }
                Walked::Miss { value, .. } => assert!(value.is_none()),
            }
        });
        map_block(&space, 0, folio, attrs());
        protect(&space, 0, 2, Prot::READ);
        unmap(&space, &graves, pages(0, 2));
        reader.join().expect("a read ends");
        end(alone(space), &graves, FRAMES, 1);
    });
}

/// Fold, hardware and reader at once: a reader that sees the hardware's write never sees it
/// taken back.
fn reader_against_fold_and_hardware() {
    explore_bounded(3, FRAMES, 2, |machine| {
        let (space, graves) = (Arc::new(space(machine, SHAPE)), Graveyard::new());
        two_pages(&space, machine);
        let root = space.root_word().root();
        let agent = thread::spawn(move || hardware(machine, root, SHAPE, 1, true));
        let theirs = space.clone();
        let reader = thread::spawn(move || {
            let mut dirty = false;
            for _ in 0..2 {
                if let Walked::Seen { value, .. } = walk(&theirs, 1) {
                    assert!(value.dirty() || !dirty, "dirty state that was seen is gone");
                    dirty = value.dirty();
                }
            }
        });
        fold_all(&space);
        let recorded = agent.join().expect("the hardware walks");
        reader.join().expect("a read ends");
        assert!(
            get(&space, 1).dirty() || !recorded,
            "the dirty state is lost"
        );
        unmap(&space, &graves, pages(0, 2));
        end(alone(space), &graves, FRAMES, 1);
    });
}

sync::models! {
    fold_keeps_dirty {
        ConvertLosesDirty: "the dirty state is lost",
        MakeWithoutBreak: "the dirty state is lost",
    }
    fold_keeps_young { ConvertLosesYoung: "the access flag is lost" }
    unfold_keeps_dirty {
        ConvertLosesDirty: "the dirty state is lost",
        MakeWithoutBreak: "the dirty state is lost",
    }
    unfold_keeps_young { ConvertLosesYoung: "the access flag is lost" }
    protect_keeps_dirty {
        StoreOverLive: "the dirty state is lost",
        ProtectWithoutUnfold: "a part of a block changed in it",
    }
    protect_of_a_block_keeps_dirty { StoreOverLive: "the dirty state is lost" }
    write_protect_keeps_dirty { StoreOverLive: "the dirty state is lost" }
    marking_a_page_keeps_dirty { StoreOverLive: "the dirty state is lost" }
    marking_a_block_keeps_dirty { StoreOverLive: "the dirty state is lost" }
    aging_keeps_dirty {
        StoreOverLive: "the dirty state is lost",
        SkipGather: "the dirty state is lost",
    }
    reader_against_repaint {
        SkipConsistency: "another page's state",
        ZapWithoutUnfold: "is in half a block",
    }
    reader_against_the_life_of_a_block {}
    reader_against_fold_and_hardware { ConvertLosesDirty: "dirty state" }
}
