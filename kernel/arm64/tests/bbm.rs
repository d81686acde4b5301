//! Break before make: which changes of a live entry need a break, which a flush, and which neither.

use arm64::addr::PhysAddr;
use arm64::attrs::{Attrs, MemType, Prot};
use arm64::bbm::{Change, change};
use arm64::geometry::Level;
use arm64::pte::{Entry, Format, Pte};
use proptest::prelude::*;

const L: Level = Level::L3;
const F: Format = Format::NORMAL;
const PA: PhysAddr = PhysAddr::new(0x4123_4000);
const LAZY: Change = Change::InPlace { flush: false };
const FLUSHED: Change = Change::InPlace { flush: true };

fn user(prot: Prot) -> Pte {
    F.leaf(PA, Attrs::user(prot).with_young(true), L)
}

fn kernel(prot: Prot) -> Pte {
    F.leaf(PA, Attrs::kernel(prot, MemType::Normal), L)
}

fn ask(old: Pte, new: Pte) -> Change {
    change(old, new, L, F)
}

#[test]
fn the_same_word_is_nothing_to_do() {
    assert_eq!(ask(user(Prot::RW), user(Prot::RW)), Change::Nothing);
    assert_eq!(ask(Pte::NONE, Pte::NONE), Change::Nothing);
}

#[test]
fn an_invalid_entry_becomes_anything_without_a_flush_and_a_valid_one_invalid_with_one() {
    let swap = Entry::Swap {
        kind: 1,
        offset: 2,
        exclusive: false,
        uffd_wp: false,
    };
    let swap = F.encode(swap, L).unwrap();
    let waiting = user(Prot::RW).with_tag_storage(false);
    for invalid in [
        Pte::NONE,
        swap,
        waiting,
        user(Prot::RW).with_prot(Prot::USER),
    ] {
        assert_eq!(ask(invalid, user(Prot::RW)), LAZY);
        assert_eq!(ask(user(Prot::RW), invalid), FLUSHED);
    }
    assert_eq!(ask(swap, Pte::NONE), LAZY);
    assert_eq!(change(F.table(PA), Pte::NONE, Level::L2, F), FLUSHED);
}

#[test]
fn address_contiguity_type_and_memory_type_break() {
    let pte = user(Prot::RW);
    let elsewhere = F.with_pa(pte, PhysAddr::new(0x5000_0000), L);
    assert_eq!(ask(pte, elsewhere), Change::Break);
    assert_eq!(ask(pte, pte.with_contiguous(true)), Change::Break);
    assert_eq!(ask(pte.with_contiguous(true), pte), Change::Break);
    for (old, new) in [
        (MemType::Normal, MemType::Device),
        (MemType::NonCacheable, MemType::Normal),
    ] {
        let [old, new] = [old, new].map(|mem| F.with_mem(pte, mem));
        assert_eq!(ask(old, new), Change::Break);
    }
    let block = F.leaf(PhysAddr::new(0x4000_0000), Attrs::user(Prot::RW), Level::L2);
    let (table, other) = (F.table(PA), F.table(PhysAddr::new(0x5000)));
    for (old, new) in [(block, table), (table, block), (table, other)] {
        assert_eq!(change(old, new, Level::L2, F), Change::Break);
    }
}

#[test]
fn becoming_global_breaks_and_becoming_private_is_flushed() {
    let global = kernel(Prot::RW);
    let private = global.mk_not_global();
    assert_eq!(ask(private, global), Change::Break);
    assert_eq!(ask(global, private), FLUSHED);
}

#[test]
fn taking_away_is_flushed_and_giving_to_user_space_is_not() {
    for (more, less) in [(Prot::RW, Prot::READ), (Prot::RX, Prot::READ)] {
        assert_eq!(ask(user(more), user(less)), FLUSHED);
        assert_eq!(ask(user(less), user(more)), LAZY);
    }
    assert_eq!(
        ask(user(Prot::RX), user(Prot::RW)),
        FLUSHED,
        "gains one and loses another"
    );
    let clean = user(Prot::RW);
    assert_eq!(ask(clean, clean.mkdirty()), LAZY);
    assert_eq!(ask(clean.mkdirty(), clean), FLUSHED);
    assert_eq!(ask(clean.mkdirty(), clean.mkdirty().wrprotect()), FLUSHED);
    assert_eq!(ask(clean.mkold(), clean), LAZY);
    assert_eq!(ask(clean, clean.mkold()), FLUSHED);
}

#[test]
fn a_kernel_mapping_is_flushed_whatever_permission_changes() {
    for (old, new) in [
        (Prot::RW, Prot::READ),
        (Prot::READ, Prot::RW),
        (Prot::READ, Prot::RX),
    ] {
        assert_eq!(ask(kernel(old), kernel(new)), FLUSHED);
    }
    assert_eq!(ask(kernel(Prot::READ).mkold(), kernel(Prot::READ)), LAZY);
    assert_eq!(ask(kernel(Prot::RW), user(Prot::RW).mkdirty()), FLUSHED);
}

#[test]
fn tags_come_and_go_with_a_flush() {
    for format in [Format::NORMAL, Format::LPA2] {
        let normal = format.leaf(PA, Attrs::user(Prot::RW), L);
        let tagged = format.with_mem(normal, MemType::Tagged);
        assert_eq!(change(normal, tagged, L, format), FLUSHED);
        assert_eq!(change(tagged, normal, L, format), FLUSHED);
    }
}

#[test]
fn marks_of_software_concern_no_tlb() {
    let pte = user(Prot::READ);
    for new in [
        pte.with_uffd_wp(true),
        pte.with_special(true),
        pte.mkdirty(),
    ] {
        assert_eq!(ask(pte, new), LAZY);
        assert_eq!(ask(new, pte), LAZY);
    }
    assert_eq!(
        ask(kernel(Prot::READ), kernel(Prot::READ).with_special(true)),
        LAZY
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 20 } else { 4000 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing but the listed bits may change in place between two valid words.
    #[test]
    fn in_place_changes_stay_within_the_bits_that_allow_it(a in 0usize..4096, flip: u64, lpa2: bool) {
        let format = Format { lpa2 };
        let attrs = Attrs::user(Prot::from_bits_truncate(a as u8 & 15)).with_global(a & 16 != 0);
        let attrs = attrs.with_prot(Prot::from_bits_truncate(a as u8 & 15)).with_young(a & 32 != 0)
            .with_dirty(a & 64 != 0).with_contiguous(a & 128 != 0);
        let old = format.leaf(PA, attrs, L);
        for word in [old.raw() ^ flip, old.raw() ^ (1 << (flip % 64))] {
            let new = Pte::from_raw(word);
            if old.is_valid() && new.is_valid() && matches!(change(old, new, L, format), Change::InPlace { .. }) {
                // AttrIndx between 1 and 2, AP, AF, nG, DBM, PXN, UXN, software 57:55.
                let allowed = 3 << 2 | 3 << 6 | 3 << 10 | 1 << 51 | 3 << 53 | 7 << 55;
                prop_assert_eq!((old.raw() ^ word) & !allowed, 0);
                let is_leaf = matches!(format.decode(new, L), Entry::Leaf { .. });
                prop_assert!(is_leaf);
            }
        }
    }
}
