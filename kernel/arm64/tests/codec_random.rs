//! The codec over arbitrary words: total, and the inverse of the encoder.

mod common;

use arm64::addr::PhysAddr;
use arm64::attrs::Attrs;
use arm64::geometry::Level;
use arm64::pte::{Entry, Format, Pte};
use common::{FORMATS, all_attrs};
use proptest::prelude::*;

/// A word has one meaning, and only a corrupt one is not written back.
fn has_one_meaning(format: Format, word: u64, level: Level) {
    let pte = Pte::from_raw(word);
    match format.decode(pte, level) {
        Entry::Corrupt(kept) => assert_eq!(kept, word),
        entry => {
            assert_eq!(
                format.encode(entry, level),
                Ok(pte),
                "{entry:?} at {level:?}"
            );
            assert_eq!(matches!(entry, Entry::Table(_)), pte.is_table(level));
            assert_eq!(matches!(entry, Entry::Leaf { .. }), pte.is_leaf(level));
            assert_eq!(entry == Entry::None, pte.is_none());
        }
    }
}

/// Every combination of the low 12 bits with none, one or two of the bits above the address.
#[test]
fn attribute_fields_have_one_meaning_each() {
    let step = if cfg!(miri) { 1000 } else { 1 };
    let high: Vec<u64> = (50..64)
        .flat_map(|a| (50..=a).map(move |b| 1 << a | 1 << b))
        .chain([0])
        .collect();
    for format in FORMATS {
        for level in Level::ALL {
            for &high in &high {
                for low in (0..4096).step_by(step) {
                    has_one_meaning(format, high | low, level);
                }
            }
        }
    }
}

#[test]
fn no_bit_of_a_mapping_can_change_unnoticed() {
    for format in FORMATS {
        for level in Level::ALL.into_iter().filter(|&l| format.has_leaf(l)) {
            for attrs in all_attrs() {
                let pte = format.leaf(PhysAddr::new(1 << 40), attrs, level);
                let entry = format.decode(pte, level);
                for bit in 0..64 {
                    let flipped = Pte::from_raw(pte.raw() ^ 1 << bit);
                    assert_ne!(format.decode(flipped, level), entry, "bit {bit} of {pte:?}");
                }
            }
        }
    }
}

/// The hardware sets AF, and clears AP[2] where DBM is set; both lead to a known entry that differs
/// only by that. [ARM "Hardware management of the Access flag and dirty state"]
#[test]
fn what_the_hardware_does_by_itself_is_understood() {
    const AF: u64 = 1 << 10;
    const AP2: u64 = 1 << 7;
    const DBM: u64 = 1 << 51;
    for format in FORMATS {
        for attrs in all_attrs() {
            let pte = format.leaf(PhysAddr::new(0x1000), attrs, Level::L3);
            let Entry::Leaf { pa, attrs } = format.decode(pte, Level::L3) else {
                continue;
            };
            let expect = |word: u64, attrs: Attrs| {
                let seen = format.decode(Pte::from_raw(word), Level::L3);
                assert_eq!(seen, Entry::Leaf { pa, attrs });
            };
            expect(pte.raw() | AF, attrs.with_young(true));
            if pte.raw() & DBM != 0 {
                expect(pte.raw() & !AP2, attrs.with_dirty(true));
                expect(
                    (pte.raw() | AF) & !AP2,
                    attrs.with_young(true).with_dirty(true),
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 20 } else { 20_000 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_word_has_one_meaning(word: u64) {
        for format in FORMATS {
            for level in Level::ALL {
                has_one_meaning(format, word, level);
                // Sparse words are more often well formed.
                has_one_meaning(format, word & word.rotate_left(17) & word.rotate_left(40), level);
                has_one_meaning(format, word & 0x7fff_ffff_ffff_fffc, level);
            }
        }
    }

    #[test]
    fn addresses_survive_in_every_entry(raw: u64, n in 0usize..4096) {
        let attrs = all_attrs().nth(n % all_attrs().count()).unwrap();
        for format in FORMATS {
            let raw = raw & ((1 << format.pa_bits()) - 1);
            let table = PhysAddr::new(raw).align_down(4096);
            prop_assert_eq!(format.decode(format.table(table), Level::L0), Entry::Table(table));
            for level in Level::ALL.into_iter().filter(|&l| format.has_leaf(l)) {
                let pa = PhysAddr::new(raw).align_down(level.size());
                let pte = format.leaf(pa, attrs, level);
                prop_assert_eq!(format.pa(pte, level), pa);
                let moved = format.with_pa(format.leaf(PhysAddr::new(0), attrs, level), pa, level);
                prop_assert_eq!(moved, pte);
                for mem in arm64::attrs::MemType::ALL {
                    let other = format.leaf(pa, attrs.with_mem(mem), level);
                    prop_assert_eq!(format.with_mem(pte, mem), other);
                }
            }
        }
    }
}
