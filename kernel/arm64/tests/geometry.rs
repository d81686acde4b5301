//! Geometry: the index of every address, ends that do not wrap, and growing by a level.

use arm64::geometry::{Geometry, Level};
use proptest::prelude::*;

fn shapes() -> Vec<Geometry> {
    let mut shapes: Vec<_> = (16..=52).map(Geometry::for_va_bits).collect();
    let own: [&[u8]; 5] = [
        &[11, 11, 11, 8],
        &[1, 1],
        &[1, 1, 1, 1, 1],
        &[3],
        &[2, 5, 4],
    ];
    shapes.extend(own.map(|bits| Geometry::from_index_bits(bits).unwrap()));
    shapes
}

#[test]
fn the_hardware_starts_at_the_level_the_architecture_says() {
    // [ARM "Determining the initial lookup level"] and measured on the emulated machine.
    let known = [
        (16, Level::L3, 16),
        (21, Level::L3, 512),
        (22, Level::L2, 2),
        (30, Level::L2, 512),
        (31, Level::L1, 2),
        (38, Level::L1, 256),
        (39, Level::L1, 512),
        (40, Level::L0, 2),
        (48, Level::L0, 512),
        (49, Level::Lm1, 2),
        (52, Level::Lm1, 16),
    ];
    for (bits, root, entries) in known {
        let g = Geometry::for_va_bits(bits);
        assert_eq!(
            (g.root_level(), g.entries(root)),
            (root, entries),
            "{bits} bits"
        );
        assert_eq!(g.txsz(), 64 - bits);
        assert_eq!(g.walk().count(), g.levels());
        for level in g.walk().skip(1) {
            assert_eq!(g.entries(level), 512);
        }
    }
    let levels: Vec<_> = (0..7)
        .map(|n| Geometry::for_levels(n).map(|g| g.levels()))
        .collect();
    assert_eq!(
        levels,
        [None, Some(1), Some(2), Some(3), Some(4), Some(5), None]
    );
}

#[test]
fn levels_know_their_numbers_and_sizes() {
    let sizes = Level::ALL.map(|l| (l.number(), l.size()));
    let expected = [
        (-1, 1 << 48),
        (0, 1 << 39),
        (1, 1 << 30),
        (2, 2 << 20),
        (3, 4096),
    ];
    assert_eq!(sizes, expected);
    for level in Level::ALL {
        assert_eq!(Level::from_number(level.number()), Some(level));
        assert_eq!(
            level.finer().and_then(Level::coarser),
            level.finer().map(|_| level)
        );
        assert_eq!(
            level.coarser().and_then(Level::finer),
            level.coarser().map(|_| level)
        );
        assert_eq!(Geometry::for_va_bits(52).span(level), level.size());
    }
    assert_eq!(Level::from_number(4), None);
}

#[test]
fn known_addresses_have_known_indices() {
    let kernel = Geometry::for_va_bits(48);
    let indices = |g: &Geometry, va| g.walk().map(|l| g.index(va, l)).collect::<Vec<_>>();
    assert_eq!(indices(&kernel, 0xffff_8000_0000_0000), [256, 0, 0, 0]);
    assert_eq!(indices(&kernel, 0xffff_7000_0000_1000), [224, 0, 0, 1]);
    assert_eq!(indices(&kernel, u64::MAX), [511; 4]);
    let user = Geometry::for_va_bits(39);
    assert_eq!(indices(&user, 0x7f_ffff_f000), [511; 3]);
    // A tag does not change the walk.
    assert_eq!(indices(&user, 0x4200_0000_0020_3000), [0, 1, 3]);
    // Levels above the root have one entry.
    assert_eq!(
        (user.entries(Level::L0), user.index(u64::MAX, Level::Lm1)),
        (1, 0)
    );
}

#[test]
fn impossible_shapes_are_refused() {
    for bits in [&[][..], &[9; 6], &[0, 9], &[17], &[16, 16, 16, 16], &[255]] {
        assert_eq!(Geometry::from_index_bits(bits), None, "{bits:?}");
    }
    assert!(
        Geometry::from_index_bits(&[3, 16, 16, 16]).is_some(),
        "63 bits are possible"
    );
}

#[test]
fn a_grown_space_translates_the_old_range_through_entry_0() {
    for old in shapes() {
        let Some(new) = old.grown() else {
            let full = old.root_level() == Level::Lm1;
            assert!(full || old.va_bits() == 63, "{old:?} can grow");
            continue;
        };
        assert_eq!(new.levels(), old.levels() + 1);
        assert!(new.va_bits() > old.va_bits());
        for va in [0, 0x1234_5678_9abc_def0, u64::MAX].map(|va| va & ((1 << old.va_bits()) - 1)) {
            assert_eq!(new.index(va, new.root_level()), 0);
            for level in old.walk() {
                assert_eq!(
                    new.index(va, level),
                    old.index(va, level),
                    "{old:?} {va:#x}"
                );
            }
        }
    }
    let grown = |bits| Geometry::for_va_bits(bits).grown().map(|g| g.va_bits());
    assert_eq!(
        [30, 36, 39, 48, 52].map(grown),
        [Some(39), Some(48), Some(48), Some(52), None]
    );
    let toy = Geometry::from_index_bits(&[1, 1])
        .unwrap()
        .with_cont_entries(2);
    assert_eq!(
        toy.grown().unwrap(),
        Geometry::from_index_bits(&[1, 1, 1])
            .unwrap()
            .with_cont_entries(2)
    );
}

#[test]
fn stepping_to_the_top_of_the_space_ends() {
    let g = Geometry::for_va_bits(48);
    let (mut addr, mut steps) = (0xffff_ffff_ff80_0000, 0);
    loop {
        addr = g.addr_end(addr, 0, Level::L2);
        steps += 1;
        if addr == 0 {
            break;
        }
    }
    assert_eq!(steps, 4);
    assert_eq!(g.addr_end(0xffff_ffff_ffff_f000, 0, Level::L0), 0);
    assert_eq!(g.addr_end(0x1000, 0x3000, Level::L3), 0x2000);
    assert_eq!(g.addr_end(0x1000, 0x3000, Level::L2), 0x3000);
    assert_eq!(g.addr_end(0x1ff000, 0x201000, Level::L2), 0x200000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 10 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn indices_and_offset_rebuild_the_address(va: u64, shape in 0usize..42) {
        let g = shapes()[shape];
        let rebuilt = g.walk().map(|l| (g.index(va, l) as u64) << g.shift(l)).sum::<u64>();
        let in_range = va & ((1 << g.va_bits()) - 1);
        prop_assert_eq!(rebuilt | va & 0xfff, in_range);
        for level in g.walk() {
            prop_assert!(g.index(va, level) < g.entries(level));
        }
        for va in [va, in_range, in_range.wrapping_sub(1 << g.va_bits())] {
            prop_assert_eq!(g.contains(va), va < 1 << g.va_bits());
            let above = !0 << g.va_bits();
            prop_assert_eq!(g.contains_upper(va), va >= above);
        }
    }

    #[test]
    fn entry_by_entry_covers_a_range_once(start: u64, pages in 1u64..3000, shape in 0usize..42) {
        let g = shapes()[shape];
        // Ranges that end at the top of the space as well as ordinary ones.
        for start in [start & !0xfff, 0u64.wrapping_sub(pages << 12)] {
            let end = start.wrapping_add(pages << 12);
            if end != 0 && end < start {
                continue;
            }
            for level in [Level::L3, g.root_level()] {
                let mut at = start;
                while at != end {
                    let next = g.addr_end(at, end, level);
                    let len = next.wrapping_sub(at);
                    prop_assert!(len != 0 && len <= g.span(level));
                    prop_assert_eq!(at / g.span(level), next.wrapping_sub(1) / g.span(level));
                    at = next;
                }
            }
        }
    }
}
