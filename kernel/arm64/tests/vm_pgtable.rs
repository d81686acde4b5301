//! What must hold of entries and their changes, whatever protection they were born with: the
//! properties that Linux's boot-time page-table check looks at, over every `Prot` value, memory
//! type, level and format.

use arm64::addr::PhysAddr;
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::geometry::Level;
use arm64::pte::{Entry, Format, Invalid, MAX_SWAP_KINDS, MarkerBits, Pte, SWAP_OFFSET_BITS};

const FORMATS: [Format; 2] = [Format::NORMAL, Format::LPA2];
const LEVELS: [Level; 3] = [Level::L1, Level::L2, Level::L3];

/// A fresh user and a fresh kernel entry for every protection.
fn fresh() -> impl Iterator<Item = (Format, Level, Prot, Pte)> {
    FORMATS.into_iter().flat_map(|format| {
        LEVELS.into_iter().flat_map(move |level| {
            let step = if cfg!(miri) { 5 } else { 1 };
            (0..16).step_by(step).flat_map(move |bits| {
                let prot = Prot::from_bits_truncate(bits);
                let pa = PhysAddr::new(0x40_4000_0000);
                MemType::ALL.map(|mem| {
                    let attrs = Attrs::user(prot).with_prot(prot).with_mem(mem);
                    (format, level, prot, format.leaf(pa, attrs, level))
                })
            })
        })
    })
}

/// The same entries in each state of young and dirty.
fn aged() -> impl Iterator<Item = (Format, Level, Prot, Pte)> {
    fresh().flat_map(|(format, level, prot, pte)| {
        [pte, pte.mkyoung(), pte.mkdirty(), pte.mkyoung().mkdirty()]
            .map(|pte| (format, level, prot, pte))
    })
}

fn is_sound(format: Format, level: Level, pte: Pte) -> bool {
    matches!(
        format.decode(pte, level),
        Entry::Leaf { .. } | Entry::PresentInvalid { .. }
    )
}

#[test]
fn a_fresh_entry_is_clean_and_write_protecting_it_does_not_make_it_dirty() {
    for (_, _, prot, pte) in fresh() {
        assert!(!pte.dirty() && !pte.young());
        assert_eq!(pte.writable(), prot.contains(Prot::WRITE));
        assert!(!pte.wrprotect().dirty());
        assert!(
            !pte.hw_writable(),
            "born clean means that the first write is noticed"
        );
    }
}

#[test]
fn every_single_change_does_what_it_says_and_nothing_else() {
    for (format, level, _, pte) in aged() {
        let (young, dirty) = (pte.young(), pte.dirty());
        let changes = [
            (pte.mkyoung(), true, dirty, pte.writable()),
            (pte.mkold(), false, dirty, pte.writable()),
            (pte.mkdirty(), young, true, pte.writable()),
            (pte.mkclean(), young, false, pte.writable()),
            (pte.wrprotect(), young, dirty, false),
            (pte.mkwrite(), young, dirty, true),
            (pte.without_ad(), false, false, pte.writable()),
        ];
        for (changed, young, dirty, writable) in changes {
            assert_eq!(
                (changed.young(), changed.dirty()),
                (young, dirty),
                "{pte:?} {changed:?}"
            );
            assert_eq!(changed.writable(), writable);
            assert_eq!(changed.prot() - Prot::WRITE, pte.prot() - Prot::WRITE);
            assert_eq!(format.pa(changed, level), format.pa(pte, level));
            assert_eq!(changed.mem_type(), pte.mem_type());
            // mkwrite of a page without access makes no sense; all else stays well formed.
            let no_access = pte.prot().is_no_access();
            assert!(is_sound(format, level, changed) || no_access && writable);
        }
    }
}

#[test]
fn changes_compose() {
    for (_, _, _, pte) in aged() {
        assert!(pte.wrprotect().mkwrite().writable());
        assert!(!pte.mkwrite().wrprotect().writable());
        assert!(pte.mkold().mkyoung().young() && !pte.mkyoung().mkold().young());
        assert!(pte.mkclean().mkdirty().dirty() && !pte.mkdirty().mkclean().dirty());
        assert!(
            !pte.mkclean().wrprotect().dirty(),
            "clean, then protected: clean"
        );
        assert!(
            pte.mkdirty().wrprotect().dirty(),
            "dirty, then protected: dirty"
        );
        assert!(
            pte.mkwrite().mkdirty().wrprotect().dirty(),
            "hardware's dirty is not lost"
        );
        assert_eq!(
            pte.mkwrite().mkdirty().wrprotect().mkwrite(),
            pte.mkwrite().mkdirty()
        );
        assert_eq!(pte.mkyoung().without_ad(), pte.without_ad());
        assert_eq!(pte.mkdirty().without_ad(), pte.without_ad());
        assert!(pte.with_special(true).special() && !pte.with_special(false).special());
        assert!(pte.with_uffd_wp(true).uffd_wp() && !pte.with_uffd_wp(false).uffd_wp());
        // Access flags set on a clean read-only entry make it writable and dirty.
        assert!(pte.mkclean().wrprotect().mkwrite().mkdirty().hw_dirty());
    }
}

#[test]
fn a_leaf_is_never_mistaken_for_a_table() {
    for (format, level, _, pte) in aged() {
        assert!(!pte.is_table(level));
        assert!(pte.maps_frame(level));
        assert!(!matches!(format.decode(pte, level), Entry::Table(_)));
        let table = format.table(PhysAddr::new(0x1000));
        assert_eq!(table.is_leaf(level), level == Level::L3);
    }
}

#[test]
fn no_access_is_invalid_for_the_hardware_and_present_for_software() {
    for (format, level, prot, pte) in aged() {
        let none = pte.with_prot(prot & Prot::USER);
        assert!(!none.is_valid() && !none.is_leaf(level) && !none.user_readable());
        assert!(none.is_present() && none.maps_frame(level));
        assert_eq!(none.invalid_reason(), Some(Invalid::ProtNone));
        assert_eq!((none.young(), none.dirty()), (pte.young(), pte.dirty()));
        assert!(is_sound(format, level, none));
    }
}

#[test]
fn changing_protection_keeps_everything_else_and_can_be_undone() {
    for (format, level, prot, pte) in aged() {
        let pte = pte.with_uffd_wp(true).with_special(true);
        for bits in 0..16 {
            let other = Prot::from_bits_truncate(bits);
            let changed = pte.with_prot(other);
            let implied = if other.is_no_access() {
                other
            } else {
                other | Prot::READ
            };
            assert_eq!(changed.prot(), implied);
            assert!(is_sound(format, level, changed));
            assert_eq!(
                (changed.young(), changed.dirty()),
                (pte.young(), pte.dirty())
            );
            assert!(changed.uffd_wp() && changed.special());
            assert_eq!(format.pa(changed, level), format.pa(pte, level));
            assert_eq!(changed.is_valid(), !other.is_no_access());
            let user = prot.contains(Prot::USER) || !other.contains(Prot::USER);
            if user {
                assert_eq!(changed.with_prot(prot), pte);
            }
        }
        assert!(
            !pte.with_contiguous(true)
                .with_prot(Prot::empty())
                .attrs()
                .contiguous
        );
    }
}

#[test]
fn an_entry_without_tag_storage_stays_present_and_a_leaf_of_its_size() {
    for (format, level, prot, pte) in aged() {
        let waiting = pte.with_tag_storage(false);
        assert!(!waiting.is_valid() && waiting.is_present() && waiting.maps_frame(level));
        assert_eq!(waiting.invalid_reason(), Some(Invalid::NoTagStorage));
        assert_eq!(
            (waiting.young(), waiting.dirty()),
            (pte.young(), pte.dirty())
        );
        assert_eq!(waiting.prot(), pte.prot());
        assert!(is_sound(format, level, waiting));
        assert_eq!(waiting.with_tag_storage(true), pte);
        // Taking all access away and giving it back does not forget that storage is missing.
        let and_back = waiting
            .with_prot(Prot::USER)
            .with_prot(Prot::RW | Prot::USER);
        assert_eq!(and_back.invalid_reason(), Some(Invalid::NoTagStorage));
        assert!(is_sound(
            format,
            level,
            waiting.with_prot(prot & Prot::USER)
        ));
        assert!(
            !waiting
                .with_prot(Prot::USER)
                .with_tag_storage(true)
                .is_valid()
        );
    }
}

#[test]
fn swap_entries_keep_every_bit_and_their_flags_apart() {
    let offset = (1 << SWAP_OFFSET_BITS) - 1;
    for format in FORMATS {
        for level in LEVELS {
            for kind in 0..MAX_SWAP_KINDS {
                let swap = |exclusive, uffd_wp| Entry::Swap {
                    kind,
                    offset,
                    exclusive,
                    uffd_wp,
                };
                let plain = format.encode(swap(false, false), level).unwrap();
                assert_eq!(format.decode(plain, level), swap(false, false));
                assert!(!plain.is_present() && !plain.uffd_wp());
                let exclusive = format.encode(swap(true, false), level).unwrap();
                assert!(!exclusive.is_present() && !exclusive.uffd_wp());
                let marked = plain.with_uffd_wp(true);
                assert_eq!(format.decode(marked, level), swap(false, true));
                assert_eq!(marked.with_uffd_wp(false), plain);
            }
        }
    }
}

/// Entries that refer to no frame, with the mark of a userfaultfd or without.
fn absent(uffd_wp: bool) -> Vec<Entry> {
    let swap = Entry::Swap {
        kind: 3,
        offset: 0x1234_5678,
        exclusive: true,
        uffd_wp,
    };
    let migration = Entry::Migration {
        pa: PhysAddr::new(1 << 30),
        writable: !uffd_wp,
        exclusive: true,
        young: true,
        dirty: true,
        uffd_wp,
    };
    vec![swap, migration]
}

fn marker(uffd_wp: bool, poison: bool) -> Entry {
    match uffd_wp || poison {
        true => Entry::Marker(MarkerBits { uffd_wp, poison }),
        false => Entry::None,
    }
}

#[test]
fn what_remains_of_an_entry_is_its_mark_and_its_poison() {
    const CHOICES: [bool; 2] = [false, true];
    for (format, level, _, fresh) in fresh() {
        for (mark, poison) in CHOICES
            .into_iter()
            .flat_map(|on| CHOICES.map(|of| (on, of)))
        {
            let decode = |pte: Pte| format.decode(pte.remains(mark, poison), level);
            // Of a frame, valid or not, and of what stands for one: the mark alone.
            assert_eq!(decode(fresh), Entry::None);
            assert_eq!(decode(fresh.with_uffd_wp(true)), marker(mark, false));
            for on in CHOICES {
                for entry in absent(on) {
                    let pte = format.encode(entry, level).unwrap();
                    assert_eq!(decode(pte), marker(mark && on, false), "{entry}");
                }
                for poisoned in CHOICES.into_iter().filter(|poisoned| on || *poisoned) {
                    let pte = format.encode(marker(on, poisoned), level).unwrap();
                    assert_eq!(decode(pte), marker(mark && on, poison && poisoned));
                }
            }
            let broken = format.encode(Entry::Poison, level).unwrap();
            let want = if poison { Entry::Poison } else { Entry::None };
            assert_eq!((decode(broken), decode(Pte::NONE)), (want, Entry::None));
        }
    }
}

#[test]
fn marking_what_is_absent_changes_its_mark_alone() {
    for format in FORMATS {
        for level in LEVELS {
            let encode = |entry| format.encode(entry, level).unwrap();
            let marked = |pte: Pte, on, fill| format.decode(pte.mark_absent(on, fill), level);
            for fill in [false, true] {
                assert_eq!(marked(Pte::NONE, true, fill), marker(fill, false));
                assert_eq!(marked(Pte::NONE, false, fill), Entry::None);
                for entry in absent(false) {
                    let plain = encode(entry);
                    let with = plain.with_uffd_wp(true);
                    for pte in [plain, with] {
                        assert_eq!(pte.mark_absent(false, fill), plain, "{entry}");
                        assert_eq!(pte.mark_absent(true, fill), with, "{entry}");
                    }
                }
                for poison in [false, true] {
                    let pte = encode(marker(true, poison));
                    assert_eq!(marked(pte, true, fill), marker(true, poison));
                    assert_eq!(marked(pte, false, fill), marker(false, poison));
                }
                let poisoned = encode(marker(false, true));
                assert_eq!(marked(poisoned, true, fill), marker(true, true));
                let broken = encode(Entry::Poison);
                assert_eq!(marked(broken, true, fill), Entry::Poison);
                assert_eq!(marked(broken, false, fill), Entry::Poison);
            }
        }
    }
}

#[test]
fn migration_entries_tell_writable_from_readable() {
    for format in FORMATS {
        for level in LEVELS {
            let pa = PhysAddr::new((1 << format.pa_bits()) - level.size());
            let entry = |writable| Entry::Migration {
                pa,
                writable,
                exclusive: true,
                young: true,
                dirty: true,
                uffd_wp: false,
            };
            let [yes, no] = [true, false].map(|w| format.encode(entry(w), level).unwrap());
            assert_eq!(format.decode(yes, level), entry(true));
            assert_eq!(format.decode(no, level), entry(false));
            assert!(!yes.is_present() && !no.is_present() && yes != no);
        }
    }
}

#[test]
fn cleared_entries_read_none() {
    assert!(Pte::NONE.is_none() && !Pte::NONE.is_present() && !Pte::NONE.uffd_wp());
    assert_eq!(Pte::default(), Pte::NONE);
    for (format, level, _, pte) in aged() {
        assert!(!pte.is_none());
        assert_eq!(format.decode(Pte::NONE, level), Entry::None);
    }
}
