//! One entry for another, and what other CPUs may do meanwhile.

use arm64::attrs::{Attrs, Prot};
use model::descriptor::right;
use pgtable::{Machine, Marking, Value};

use crate::stage::{BASE, PAGE, Stage};

/// Replaces the page of `va`, seen as `was`, by a new one; its frame, if that was done.
fn replace(stage: &Stage, va: u64, was: Value, prot: Prot) -> Option<u64> {
    let frame = stage.folio(0);
    let pa = frame.pfn().start().raw();
    stage.with_leaf(va, |leaf, gather| {
        let done = leaf.replace(va, was, frame, Attrs::user(prot), gather);
        done.is_ok().then_some(pa)
    })
}

#[test]
fn replacing_breaks_and_flushes_before_it_makes() {
    let stage = Stage::new();
    let free = stage.machine.host().free_frames();
    stage.fill(BASE, Prot::READ);
    stage.fill(BASE + PAGE, Prot::READ);
    stage.machine.touch(1, BASE, false, 0);
    let was = stage.look(BASE);
    // What the hardware records meanwhile is no other entry.
    stage.machine.touch(0, BASE, false, 0);
    let pa = replace(&stage, BASE, was, Prot::RW).expect("nothing else happened");
    stage.right();
    let leaf = stage.leaf(BASE).expect("mapped");
    assert_eq!((leaf.pa, leaf.rights & right::WRITE != 0), (pa, true));
    stage.zap(BASE, 2);
    stage.settle();
    stage.right();
    assert_eq!(stage.machine.host().free_frames(), free, "a frame is lost");
}

#[test]
fn an_entry_that_is_another_by_now_is_not_replaced() {
    let stage = Stage::new();
    let empty = stage.look(BASE);
    stage.fill(BASE, Prot::READ);
    let was = stage.look(BASE);
    assert_eq!(replace(&stage, BASE, empty, Prot::RW), None, "was none");
    stage.zap(BASE, 1);
    stage.fill(BASE + PAGE, Prot::READ);
    assert_eq!(replace(&stage, BASE, was, Prot::RW), None, "is none");
    stage.fill(BASE, Prot::READ);
    let now = stage.leaf(BASE);
    assert_eq!(replace(&stage, BASE, was, Prot::RW), None, "another frame");
    let rights = stage.look(BASE);
    stage.protect(BASE, 1, Prot::RX);
    assert_eq!(
        replace(&stage, BASE, rights, Prot::RW),
        None,
        "other rights"
    );
    assert_eq!(
        stage.leaf(BASE).map(|leaf| leaf.pa),
        now.map(|leaf| leaf.pa)
    );
    stage.right();
}

#[test]
fn a_page_of_a_block_is_replaced_alone() {
    let stage = Stage::new();
    stage.fill_block(BASE, Prot::READ);
    let before: Vec<_> = (0..16).map(|i| stage.leaf(BASE + i * PAGE)).collect();
    let pa = replace(
        &stage,
        BASE + 3 * PAGE,
        stage.look(BASE + 3 * PAGE),
        Prot::RW,
    );
    assert!(pa.is_some());
    for (i, old) in before.iter().enumerate() {
        let leaf = stage.leaf(BASE + i as u64 * PAGE).expect("mapped");
        let stays = i != 3;
        assert_eq!(Some(leaf.pa) == old.map(|old| old.pa), stays, "page {i}");
        assert!(!leaf.contiguous, "page {i}");
    }
    stage.right();
}

#[test]
fn a_page_for_nothing_zeros_or_a_marker() {
    let stage = Stage::new();
    let zeros = stage.folio(0);
    let references = || {
        let meta = stage.machine.frames().meta(zeros.pfn());
        meta.expect("a frame").references()
    };
    stage.with_leaf(BASE, |leaf, _| {
        let put = leaf.install_special(BASE, zeros.pfn(), Attrs::user(Prot::READ));
        assert_eq!(put, Ok(()));
    });
    stage.mark(BASE + PAGE, 1, Marking::Every);
    for page in 0..3 {
        let va = BASE + page * PAGE;
        let was = stage.look(va);
        assert!(replace(&stage, va, was, Prot::RW).is_some(), "page {page}");
        let leaf = stage.leaf(va).expect("mapped");
        // The mark is the monitor's: it stays, and with it the protection (law 10).
        let (marked, writable) = (leaf.mark, leaf.rights & right::WRITE != 0);
        assert_eq!((marked, writable), (page == 1, page != 1), "page {page}");
        assert!(!leaf.special, "page {page}");
    }
    assert_eq!(references(), 1, "zeros are not counted");
    stage.with_leaf(BASE, |leaf, _| assert_eq!(leaf.mapped(), 3));
    stage.right();
}

#[test]
fn replaced_pages_that_became_alike_are_folded() {
    let stage = Stage::new();
    let folio = stage.folio(4);
    for i in 0..16 {
        if i != 5 {
            let done = stage.install(BASE + i * PAGE, folio.page(i), Prot::RW);
            done.expect("a table");
        }
    }
    stage.mark(BASE + 5 * PAGE, 1, Marking::Every);
    stage.mark(BASE + 5 * PAGE, 1, Marking::Clear);
    stage.with_leaf(BASE, |leaf, gather| {
        let (va, was) = (BASE + 5 * PAGE, leaf.get(BASE + 5 * PAGE));
        let done = leaf.replace(va, was, folio.page(5), Attrs::user(Prot::RW), gather);
        assert!(done.is_ok());
    });
    assert!(stage.leaf(BASE).expect("mapped").contiguous);
    stage.right();
}
