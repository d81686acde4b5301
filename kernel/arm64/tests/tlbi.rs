//! TLB invalidation operands: the pieces of a range cover it exactly.

use arm64::addr::VirtAddr;
use arm64::geometry::Level;
use arm64::tlbi::{self, Abilities, Op, Pieces, RANGE_MAX_PAGES};
use proptest::prelude::*;

const ALL: Abilities = Abilities {
    ranges: true,
    hints: true,
    lpa2: false,
};

/// What an operation invalidates, by the architecture's figures: (first byte, bytes, ASID).
fn meaning(op: Op, entry: Level, lpa2: bool) -> (u64, u64, u64) {
    match op {
        Op::Page(x) => {
            let va = ((x << 20) as i64 >> 8) as u64;
            (va & !(entry.size() - 1), entry.size(), x >> 48)
        }
        Op::Range(x) => {
            assert_eq!(x >> 46 & 3, 1, "TG names the 4 KiB granule");
            let (scale, num) = (x >> 44 & 3, x >> 39 & 31);
            let unit = if lpa2 { 16 } else { 12 };
            let base = ((x << 27) as i64 >> 27 << unit) as u64;
            (base, ((num + 1) << (5 * scale + 1)) << 12, x >> 48)
        }
    }
}

fn hint(op: Op) -> u64 {
    match op {
        Op::Page(x) => x >> 44 & 15,
        Op::Range(x) => x >> 37 & 3,
    }
}

#[test]
fn operands_have_the_fields_of_the_architecture() {
    let va = VirtAddr::new(0x4200_0012_3456_7abc);
    assert_eq!(tlbi::asid(0xabcd), 0xabcd_0000_0000_0000);
    assert_eq!(tlbi::va(0xabcd, va, None), 0xabcd_0000_0123_4567);
    assert_eq!(tlbi::va(1, va, Some(Level::L3)), 0x0001_7000_0123_4567);
    assert_eq!(tlbi::va(1, va, Some(Level::L1)), 0x0001_5000_0123_4567);
    assert_eq!(
        tlbi::va(1, va, Some(Level::L0)),
        tlbi::va(1, va, None),
        "no hint above level 1"
    );
    let kernel = VirtAddr::new(0xffff_8000_0000_1000);
    assert_eq!(tlbi::va(0, kernel, None), 0x0000_0ff8_0000_0001);
    let start = VirtAddr::new(0x1_0000);
    assert_eq!(
        tlbi::range(1, start, 31, 2, Some(Level::L3), false),
        0x0001_6fe0_0000_0010
    );
    assert_eq!(
        tlbi::range(1, start, 31, 2, Some(Level::L3), true),
        0x0001_6fe0_0000_0001
    );
    assert_eq!(tlbi::range_pages(31, 3), RANGE_MAX_PAGES);
    assert_eq!(tlbi::range_pages(0, 0), 2);
    let largest = Pieces::new(1, start, RANGE_MAX_PAGES, Level::L3, true, ALL);
    assert_eq!(largest.count(), 1, "one operation covers as much as it can");
}

#[test]
fn a_level_is_hinted_only_where_it_is_true_and_understood() {
    let start = VirtAddr::new(0x20_0000);
    let hints = |leaf_only, abilities| -> Vec<u64> {
        Pieces::new(7, start, 513, Level::L3, leaf_only, abilities)
            .map(hint)
            .collect()
    };
    assert_eq!(hints(true, ALL), [3, 7]);
    assert_eq!(hints(false, ALL), [0, 0]);
    assert_eq!(
        hints(
            true,
            Abilities {
                hints: false,
                ..ALL
            }
        ),
        [0, 0]
    );
}

#[test]
fn without_range_operations_blocks_go_one_by_one() {
    let plain = Abilities {
        ranges: false,
        hints: false,
        lpa2: false,
    };
    let start = VirtAddr::new(0x4000_0000);
    assert_eq!(
        Pieces::new(1, start, 4 * 512, Level::L2, true, plain).count(),
        4
    );
    assert_eq!(
        Pieces::new(1, start, 100, Level::L3, true, plain).count(),
        100
    );
    // A range that begins and ends inside blocks reaches each of them.
    let inside = VirtAddr::new(0x401f_f000);
    assert_eq!(
        Pieces::new(1, inside, 514, Level::L2, true, plain).count(),
        3
    );
}

#[test]
fn a_contiguous_block_takes_one_operation() {
    for lpa2 in [false, true] {
        let start = VirtAddr::new(0x7f_0001_0000);
        let ops: Vec<_> =
            Pieces::new(1, start, 16, Level::L3, true, Abilities { lpa2, ..ALL }).collect();
        assert_eq!(ops.len(), 1);
        assert_eq!(
            meaning(ops[0], Level::L3, lpa2),
            (0x7f_0001_0000, 0x1_0000, 1)
        );
    }
}

#[test]
fn a_range_may_end_with_the_address_space() {
    for (pages, lpa2) in [(1, false), (3, true), (513, false), (1 << 20, true)] {
        let start = VirtAddr::new(0u64.wrapping_sub(pages << 12));
        let abilities = Abilities { lpa2, ..ALL };
        let pieces = Pieces::new(1, start, pages, Level::L3, true, abilities);
        let bytes = pieces.map(|op| meaning(op, Level::L3, lpa2).1).sum::<u64>();
        assert_eq!(bytes, pages << 12);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 20 } else { 2000 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_cover_exactly_the_pages_asked_for(
        page in 0u64..1 << 35, shift in 0u32..24, count: u64, upper: bool, lpa2: bool, asid: u16,
    ) {
        let start = if upper { 0xffff_8000_0000_0000 | page << 12 } else { page << 12 };
        // Nothing is above the last page of the upper half, and a range may end there.
        let room = if upper { start.wrapping_neg() >> 12 } else { u64::MAX };
        let pages = (count & ((2 << shift) - 1)).min(room);
        let abilities = Abilities { lpa2, ..ALL };
        let pieces = Pieces::new(asid, VirtAddr::new(start), pages, Level::L3, true, abilities);
        let (mut at, mut ops) = (start, 0);
        for op in pieces {
            let (first, bytes, of) = meaning(op, Level::L3, lpa2);
            prop_assert_eq!((first, of), (at, u64::from(asid)));
            at = at.wrapping_add(bytes);
            ops += 1;
        }
        prop_assert_eq!(at.wrapping_sub(start), pages << 12);
        // At most one operation for each scale, one page at the end, the largest ones repeated, and
        // with LPA2 the pages up to the first multiple of 64 KiB.
        let lead = if lpa2 { 15 } else { 0 };
        prop_assert!(ops <= 5 + pages / RANGE_MAX_PAGES + lead, "{} operations", ops);
    }
}
