//! The codec over all combinations of attributes, at every level, with and without LPA2.

mod common;

use std::collections::HashMap;

use arm64::addr::PhysAddr;
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::Level;
use arm64::pte::{EncodeError, Entry, Format, Invalid, MarkerBits, Pte};
use common::{FORMATS, all_attrs};

fn leaf_levels(format: Format) -> &'static [Level] {
    if format.lpa2 {
        &Level::ALL[1..]
    } else {
        &Level::ALL[2..]
    }
}

/// Frames at the edges of what the format and the level can express.
fn frames(format: Format, level: Level) -> Vec<PhysAddr> {
    let last = (1u64 << format.pa_bits()) - level.size();
    let mut frames = vec![0, last, (0x5_a5a5_a5a5_a5a5 & last) & !(level.size() - 1)];
    frames.dedup();
    frames.into_iter().map(PhysAddr::new).collect()
}

/// Every leaf and every entry that is present but invalid, whether it can be encoded or not.
fn frame_entries(format: Format, level: Level) -> impl Iterator<Item = Entry> {
    frames(format, level).into_iter().flat_map(|pa| {
        all_attrs().flat_map(move |attrs| {
            let invalid = |reason| Entry::PresentInvalid { reason, pa, attrs };
            let leaf = Entry::Leaf { pa, attrs };
            [
                leaf,
                invalid(Invalid::ProtNone),
                invalid(Invalid::NoTagStorage),
            ]
        })
    })
}

/// Every entry that maps nothing, with offsets at the edges.
fn absent_entries(format: Format, level: Level) -> Vec<Entry> {
    let bits = |n: u32| move |i: u32| n >> i & 1 != 0;
    let mut entries = vec![Entry::None, Entry::Poison];
    for n in 1..4 {
        entries.push(Entry::Marker(MarkerBits {
            uffd_wp: bits(n)(0),
            poison: bits(n)(1),
        }));
    }
    for kind in 0..32 {
        for offset in [0, 1, 0x5a5a_a5a5_0ff0, (1 << 48) - 1] {
            for n in 0..4 {
                let (exclusive, uffd_wp) = (bits(n)(0), bits(n)(1));
                entries.push(Entry::Swap {
                    kind,
                    offset,
                    exclusive,
                    uffd_wp,
                });
            }
        }
    }
    for pa in frames(format, level) {
        for b in (0..32).map(bits) {
            let (writable, exclusive, young, dirty, uffd_wp) = (b(0), b(1), b(2), b(3), b(4));
            entries.push(Entry::Migration {
                pa,
                writable,
                exclusive,
                young,
                dirty,
                uffd_wp,
            });
        }
    }
    entries
}

/// What the encoder is to say about an entry that maps a frame, in the words of its documentation.
fn verdict(entry: Entry, level: Level) -> Result<(), EncodeError> {
    let (Entry::Leaf { attrs, .. } | Entry::PresentInvalid { attrs, .. }) = entry else {
        unreachable!()
    };
    let p = attrs.prot;
    let accessible = p.intersects(Prot::READ | Prot::WRITE | Prot::EXEC);
    if attrs.global && p.contains(Prot::USER) {
        return Err(EncodeError::GlobalUser);
    }
    if accessible && !p.contains(Prot::READ) {
        return Err(EncodeError::WithoutRead);
    }
    match entry {
        Entry::Leaf { .. } if !accessible => Err(EncodeError::NoAccess),
        Entry::Leaf { .. } if attrs.contiguous && level == Level::L0 => {
            Err(EncodeError::Contiguous)
        }
        Entry::PresentInvalid { .. } if attrs.contiguous => Err(EncodeError::Contiguous),
        Entry::PresentInvalid {
            reason: Invalid::ProtNone,
            ..
        } if accessible => Err(EncodeError::AccessAllowed),
        _ => Ok(()),
    }
}

fn check_accessors(
    format: Format,
    level: Level,
    pte: Pte,
    pa: PhysAddr,
    attrs: Attrs,
    valid: bool,
) {
    assert_eq!((pte.is_valid(), pte.is_leaf(level)), (valid, valid));
    assert!(pte.is_present() && pte.maps_frame(level) && !pte.is_table(level) && !pte.is_none());
    assert_eq!(pte.attrs(), attrs);
    assert_eq!((pte.prot(), pte.mem_type()), (attrs.prot, attrs.mem));
    assert_eq!((pte.young(), pte.dirty()), (attrs.young, attrs.dirty));
    assert_eq!(
        (pte.uffd_wp(), pte.special()),
        (attrs.uffd_wp, attrs.special)
    );
    assert_eq!(
        (pte.global(), pte.is_contiguous()),
        (attrs.global, attrs.contiguous && valid)
    );
    let (user, write) = (
        attrs.prot.contains(Prot::USER),
        attrs.prot.contains(Prot::WRITE),
    );
    assert_eq!((pte.user(), pte.writable()), (user, write));
    assert_eq!(pte.hw_dirty(), write && attrs.dirty);
    assert_eq!(pte.hw_writable(), valid && write && attrs.dirty);
    assert_eq!(pte.user_readable(), valid && user);
    assert_eq!(pte.user_writable(), valid && user && write && attrs.dirty);
    assert_eq!(
        pte.user_exec(),
        valid && user && attrs.prot.contains(Prot::EXEC)
    );
    assert_eq!(format.pa(pte, level), pa);
}

#[test]
fn every_encodable_mapping_survives_the_round_trip_and_no_two_share_a_word() {
    for format in FORMATS {
        for &level in leaf_levels(format) {
            let mut words = HashMap::new();
            for entry in frame_entries(format, level) {
                let pte = match (format.encode(entry, level), verdict(entry, level)) {
                    (Ok(pte), Ok(())) => pte,
                    (got, expected) => {
                        assert_eq!(got.map(|_| ()), expected, "{entry:?} at {level:?}");
                        continue;
                    }
                };
                assert_eq!(format.decode(pte, level), entry, "{pte:?} at {level:?}");
                assert_eq!(words.insert(pte, entry), None, "{pte:?} has two meanings");
                match entry {
                    Entry::Leaf { pa, attrs } => {
                        assert_eq!(pte.invalid_reason(), None);
                        assert_eq!(format.leaf(pa, attrs, level), pte);
                        check_accessors(format, level, pte, pa, attrs, true);
                    }
                    Entry::PresentInvalid { reason, pa, attrs } => {
                        assert_eq!(pte.invalid_reason(), Some(reason));
                        check_accessors(format, level, pte, pa, attrs, false);
                    }
                    _ => unreachable!(),
                }
            }
            for entry in absent_entries(format, level) {
                let pte = format.encode(entry, level).unwrap();
                assert_eq!(format.decode(pte, level), entry);
                assert!(!pte.is_present() && !pte.is_valid() && !pte.is_table(level));
                assert_eq!(words.insert(pte, entry), None, "{pte:?} has two meanings");
            }
        }
    }
}

#[test]
fn the_infallible_encoder_only_makes_words_that_decode_to_a_mapping() {
    for format in FORMATS {
        for level in Level::ALL {
            for attrs in all_attrs() {
                // Every address bit set: what does not fit must be dropped.
                let pte = format.leaf(PhysAddr::new(u64::MAX), attrs, level);
                let last = (1u64 << format.pa_bits()) - level.size();
                match format.decode(pte, level) {
                    Entry::None => assert!(!leaf_levels(format).contains(&level)),
                    Entry::Leaf { pa, attrs: got } => {
                        assert_eq!(pa.raw(), last);
                        assert_eq!(got.prot, attrs.prot | Prot::READ);
                        assert_eq!(
                            (got.young, got.dirty, got.mem),
                            (attrs.young, attrs.dirty, attrs.mem)
                        );
                    }
                    Entry::PresentInvalid {
                        reason,
                        pa,
                        attrs: got,
                    } => {
                        assert_eq!((reason, pa.raw()), (Invalid::ProtNone, last));
                        assert!(got.prot == attrs.prot && attrs.prot.is_no_access());
                    }
                    other => panic!("{attrs:?} at {level:?} became {other:?}"),
                }
                let untagged = format.leaf_without_tag_storage(PhysAddr::new(0), attrs, level);
                if format.has_leaf(level) {
                    assert_eq!(untagged.invalid_reason(), Some(Invalid::NoTagStorage));
                    assert!(!matches!(format.decode(untagged, level), Entry::Corrupt(_)));
                }
            }
        }
    }
}

#[test]
fn tables_exist_above_level_3_and_pages_and_blocks_where_the_format_has_them() {
    for format in FORMATS {
        let pa = PhysAddr::new((1 << format.pa_bits()) - 0x1000);
        for level in Level::ALL {
            let table = format.encode(Entry::Table(pa), level);
            if level == Level::L3 {
                assert_eq!(table, Err(EncodeError::Level));
                assert!(!format.table(pa).is_table(level));
            } else {
                let pte = table.unwrap();
                assert_eq!(pte, format.table(pa));
                assert_eq!(
                    (format.decode(pte, level), format.table_pa(pte)),
                    (Entry::Table(pa), pa)
                );
                assert!(pte.is_table(level) && pte.is_present() && !pte.is_leaf(level));
                assert!(!pte.maps_frame(level));
            }
            assert_eq!(format.has_leaf(level), leaf_levels(format).contains(&level));
        }
    }
    // A block where there is none is corrupt: level -1 always, level 0 without LPA2.
    let block = Format::LPA2.leaf(PhysAddr::new(0), Attrs::user(Prot::RW), Level::L0);
    assert!(block.is_leaf(Level::L0) && !block.is_leaf(Level::Lm1));
    assert_eq!(
        Format::LPA2.decode(block, Level::Lm1),
        Entry::Corrupt(block.raw())
    );
    let plain = Pte::from_raw(
        Format::NORMAL
            .leaf(PhysAddr::new(0), Attrs::user(Prot::RW), Level::L1)
            .raw(),
    );
    assert_eq!(
        Format::NORMAL.decode(plain, Level::L0),
        Entry::Corrupt(plain.raw())
    );
}

#[test]
fn what_cannot_be_expressed_is_refused() {
    let f = Format::NORMAL;
    let attrs = Attrs::user(Prot::RW);
    let leaf = |pa| Entry::Leaf {
        pa: PhysAddr::new(pa),
        attrs,
    };
    assert_eq!(
        f.encode(leaf(0x1000), Level::L2),
        Err(EncodeError::Misaligned)
    );
    assert_eq!(
        f.encode(leaf(0x1001), Level::L3),
        Err(EncodeError::Misaligned)
    );
    assert_eq!(
        f.encode(leaf(1 << 48), Level::L3),
        Err(EncodeError::AddressTooLarge)
    );
    assert_eq!(
        Format::LPA2.encode(leaf(1 << 52), Level::L3),
        Err(EncodeError::AddressTooLarge)
    );
    assert_eq!(f.encode(leaf(0), Level::L0), Err(EncodeError::Level));
    assert_eq!(
        f.encode(Entry::Table(PhysAddr::new(0x800)), Level::L1),
        Err(EncodeError::Misaligned)
    );
    assert_eq!(
        f.encode(Entry::Corrupt(3), Level::L1),
        Err(EncodeError::Corrupt)
    );
    assert_eq!(
        f.encode(Entry::Marker(MarkerBits::default()), Level::L3),
        Err(EncodeError::EmptyMarker)
    );
    let swap = |kind, offset| Entry::Swap {
        kind,
        offset,
        exclusive: false,
        uffd_wp: false,
    };
    assert_eq!(
        f.encode(swap(32, 0), Level::L3),
        Err(EncodeError::SwapOutOfRange)
    );
    assert_eq!(
        f.encode(swap(0, 1 << 48), Level::L3),
        Err(EncodeError::SwapOutOfRange)
    );
    for entry in [
        swap(0, 0),
        Entry::Poison,
        Entry::Marker(MarkerBits {
            uffd_wp: true,
            poison: false,
        }),
    ] {
        assert_eq!(f.encode(entry, Level::L0), Err(EncodeError::Level));
    }
}

/// Words written down by hand from the architecture's figures, not computed by the codec.
#[test]
fn known_mappings_have_known_words() {
    let pa = PhysAddr::new;
    let normal = [
        (
            pa(0x1234_5000),
            Attrs::user(Prot::RW).with_young(true),
            Level::L3,
            0x0068_0000_1234_5fc7,
        ),
        (
            pa(0x1234_5000),
            Attrs::user(Prot::RW).with_dirty(true),
            Level::L3,
            0x0068_0000_1234_5b47,
        ),
        (
            pa(0x1234_5000),
            Attrs::user(Prot::RX),
            Level::L3,
            0x0020_0000_1234_5bc7,
        ),
        (
            pa(0x4020_0000),
            Attrs::kernel(Prot::RW, MemType::Normal),
            Level::L2,
            0x0068_0000_4020_0705,
        ),
        (
            pa(0x4020_0000),
            Attrs::kernel(Prot::RX, MemType::Normal),
            Level::L3,
            0x0040_0000_4020_0787,
        ),
        (
            pa(0x4000_0000),
            Attrs::kernel(Prot::RW, MemType::Tagged),
            Level::L1,
            0x0068_0000_4000_0709,
        ),
        (
            pa(0x0900_0000),
            Attrs::kernel(Prot::RW, MemType::Device),
            Level::L3,
            0x0068_0000_0900_0603,
        ),
        (
            pa(0),
            Attrs::user(Prot::empty()),
            Level::L3,
            0x0460_0000_0000_0bc6,
        ),
    ];
    for (pa, attrs, level, word) in normal {
        let pte = Format::NORMAL.leaf(pa, attrs, level);
        assert_eq!(pte.raw(), word, "{pa:?} {attrs} at {level:?}: {pte:?}");
    }
    let high = pa(0xd_2345_6789_a000);
    let ro = Attrs::user(Prot::READ).with_young(true);
    assert_eq!(
        Format::LPA2.leaf(high, ro, Level::L3).raw(),
        0x0061_2345_6789_afc7
    );
    assert_eq!(Format::LPA2.table(high).raw(), 0x0001_2345_6789_a303);
    assert_eq!(Format::NORMAL.table(pa(0x4010_1000)).raw(), 0x4010_1003);
    let contiguous = ro
        .with_contiguous(true)
        .with_uffd_wp(true)
        .with_special(true)
        .with_dirty(true);
    assert_eq!(
        Format::LPA2.leaf(pa(0), contiguous, Level::L3).raw(),
        0x03f0_0000_0000_0cc7
    );
}
