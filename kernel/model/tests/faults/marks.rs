//! Userfaultfd marks: what outlives an unmapping, and what they keep from becoming writable.

use std::sync::atomic::Ordering;

use arm64::attrs::{Attrs, Prot};
use model::descriptor::right;
use pgtable::{Marking, Zap, ZapReason};

use crate::stage::{BASE, PAGE, Stage};

fn is_marker(stage: &Stage, va: u64) -> bool {
    let value = stage.look(va);
    value.uffd_wp() && !value.is_none() && stage.leaf(va).is_none()
}

#[test]
fn a_mark_outlives_what_its_reason_says() {
    let kept = [
        (ZapReason::RegionGone, [false, false]),
        (ZapReason::Exit, [false, false]),
        (ZapReason::DontNeed, [false, true]),
        (ZapReason::ObjectTruncated, [true, true]),
        (ZapReason::Punch, [true, true]),
        (ZapReason::Reclaim, [true, true]),
        (ZapReason::Migrate, [true, true]),
    ];
    for (reason, stays) in kept {
        for (object_backed, stays) in [false, true].into_iter().zip(stays) {
            let case = format!("{reason:?}, of an object: {object_backed}");
            let stage = Stage::new();
            // Of each kind: a block, a page, a marker, a page without access, one without a mark.
            stage.fill_block(BASE, Prot::RW);
            stage.fill(BASE + 16 * PAGE, Prot::RW);
            stage.fill(BASE + 18 * PAGE, Prot::RW);
            stage.protect(BASE + 18 * PAGE, 1, Prot::empty());
            stage.mark(BASE, 19, Marking::Every);
            stage.fill(BASE + 19 * PAGE, Prot::RW);
            let whole = stage.leaf(BASE).expect("mapped").contiguous;
            assert!(whole, "a block that is marked as a whole stays folded");
            let zap = Zap {
                reason,
                object_backed,
                records_writes: false,
            };
            stage.zap_for(BASE, 20, zap);
            let counted = &stage.space.stats().events().marks_kept;
            // One of the nineteen was a marker already.
            let kept = if stays { 18 } else { 0 };
            assert_eq!(counted.load(Ordering::Relaxed), kept, "{case}");
            for page in 0..19 {
                assert_eq!(
                    is_marker(&stage, BASE + page * PAGE),
                    stays,
                    "{case}: {page}"
                );
            }
            assert!(stage.look(BASE + 19 * PAGE).is_none(), "{case}: no mark");
            // A table with markers is not reclaimed, whatever its neighbours do.
            assert_eq!(stage.space.stats().live() == 1, !stays, "{case}: tables");
            stage.right();
            stage.zap(BASE, 20);
            assert_eq!(stage.space.stats().live(), 1, "{case}: the region is gone");
        }
    }
}

#[test]
fn what_is_marked_or_special_does_not_become_writable() {
    let stage = Stage::new();
    stage.fill_block(BASE, Prot::RW);
    stage.mark(BASE + 7 * PAGE, 1, Marking::Present);
    let zeros = stage.folio(0);
    stage.with_leaf(BASE, |leaf, _| {
        let attrs = Attrs::user(Prot::RW);
        let put = leaf.install_special(BASE + 16 * PAGE, zeros.pfn(), attrs);
        assert_eq!(put, Ok(()));
        let again = leaf.install_special(BASE + 16 * PAGE, zeros.pfn(), attrs);
        assert!(again.is_err(), "there is something");
    });
    for prot in [Prot::RW, Prot::READ, Prot::empty(), Prot::RW] {
        stage.protect(BASE, 17, prot);
        for page in 0..17 {
            let writable = stage
                .leaf(BASE + page * PAGE)
                .is_some_and(|leaf| leaf.rights & right::WRITE != 0);
            let wanted = prot == Prot::RW && ![7, 16].contains(&page);
            assert_eq!(writable, wanted, "page {page} with {prot}");
        }
        assert!(stage.leaf(BASE).is_none_or(|leaf| !leaf.contiguous));
        stage.right();
    }
    stage.zap(BASE, 17);
    stage.right();
}

#[test]
fn the_end_of_the_marks_ends_the_markers() {
    let stage = Stage::new();
    stage.with_leaf(BASE, |_, _| ());
    stage.mark(BASE, 8, Marking::Present);
    assert!(stage.look(BASE).is_none(), "nothing is there to be marked");
    stage.mark(BASE + PAGE, 2, Marking::Every);
    let markers = |page: u64| is_marker(&stage, BASE + page * PAGE);
    let found: Vec<_> = (0..4).map(markers).collect();
    assert_eq!(found, [false, true, true, false]);
    stage.with_leaf(BASE, |leaf, _| assert_eq!(leaf.mapped(), 2));
    stage.mark(BASE, 2, Marking::Clear);
    assert!(stage.look(BASE + PAGE).is_none() && markers(2));
    stage.with_leaf(BASE, |leaf, _| assert_eq!(leaf.mapped(), 1));
    stage.fill(BASE, Prot::RW);
    stage.mark(BASE, 8, Marking::Clear);
    let leaf = stage.leaf(BASE).expect("mapped");
    assert!(!leaf.mark && leaf.rights & right::WRITE != 0);
    stage.right();
}
