//! Addresses and ranges: arithmetic holds at the edges of the 64-bit space.

use arm64::addr::{PAGE_SIZE, Pfn, PhysAddr, VaRange, VirtAddr};
use proptest::prelude::*;

const TOP: u64 = u64::MAX;

fn range(start: u64, end: u64) -> Option<VaRange> {
    VaRange::new(VirtAddr::new(start), VirtAddr::new(end))
}

/// The addresses of a range as a closed interval of 128-bit numbers, or nothing.
fn model(r: VaRange) -> (u128, u128) {
    let start = u128::from(r.start().raw());
    let end = match r.end().raw() {
        0 if start > 0 => 1 << 64,
        end => u128::from(end),
    };
    (start, end)
}

#[test]
fn alignment_never_wraps() {
    assert_eq!(PhysAddr::new(TOP).align_up(PAGE_SIZE), None);
    assert_eq!(
        PhysAddr::new(TOP - 0xfff).align_up(PAGE_SIZE),
        Some(PhysAddr::new(TOP - 0xfff))
    );
    assert_eq!(
        PhysAddr::new(1).align_up(PAGE_SIZE),
        Some(PhysAddr::new(0x1000))
    );
    assert_eq!(PhysAddr::new(0).align_up(PAGE_SIZE), Some(PhysAddr::new(0)));
    assert_eq!(
        PhysAddr::new(0x1fff).align_down(PAGE_SIZE),
        PhysAddr::new(0x1000)
    );
    assert!(VirtAddr::new(0x20_0000).is_aligned(0x20_0000));
    assert!(!VirtAddr::new(0x20_1000).is_aligned(0x20_0000));
    assert_eq!(VirtAddr::new(0x1abc).offset_in_page(), 0xabc);
    assert_eq!(VirtAddr::new(TOP).checked_add(1), None);
    assert_eq!(VirtAddr::new(0).checked_sub(1), None);
}

#[test]
fn frames_and_addresses_convert_both_ways() {
    assert_eq!(PhysAddr::new(0x4020_1fff).pfn(), Pfn::new(0x40201));
    assert_eq!(Pfn::new(0x40201).start(), PhysAddr::new(0x4020_1000));
    assert_eq!(Pfn::new(5).add(3), Pfn::new(8));
    assert!(Pfn::new(512).is_aligned(512) && !Pfn::new(513).is_aligned(512));
}

#[test]
fn tags_are_removed_by_copying_bit_55() {
    assert_eq!(
        VirtAddr::new(0x4200_0012_3456_7000).untagged().raw(),
        0x0000_0012_3456_7000
    );
    assert_eq!(
        VirtAddr::new(0x42ff_8000_0000_0000).untagged().raw(),
        0xffff_8000_0000_0000
    );
    assert!(VirtAddr::new(0x42ff_8000_0000_0000).is_upper());
    assert!(!VirtAddr::new(0xff00_0000_0000_0000).is_upper());
}

#[test]
fn a_range_may_end_at_the_top_of_the_space() {
    let last_page = range(0xffff_ffff_ffff_f000, 0).unwrap();
    assert_eq!(last_page.len(), PAGE_SIZE);
    assert!(last_page.contains(VirtAddr::new(TOP)));
    assert!(!last_page.contains(VirtAddr::new(0)));
    assert_eq!(
        VaRange::from_len(VirtAddr::new(0xffff_ffff_ffff_f000), PAGE_SIZE),
        Some(last_page)
    );
    assert_eq!(
        VaRange::from_len(VirtAddr::new(0xffff_ffff_ffff_f000), PAGE_SIZE + 1),
        None
    );
    let kernel = range(0xffff_0000_0000_0000, 0).unwrap();
    assert!(kernel.contains_range(last_page) && !last_page.contains_range(kernel));
    assert_eq!(kernel.intersection(last_page), Some(last_page));
    assert_eq!(range(2, 1), None);
}

#[test]
fn a_range_rounds_out_to_pages() {
    let pages = |start, end| range(start, end).unwrap().to_pages();
    assert_eq!(pages(0x1001, 0x1002), range(0x1000, 0x2000));
    assert_eq!(pages(0x1000, 0x2000), range(0x1000, 0x2000));
    assert_eq!(pages(0x1800, 0x1800), range(0x1000, 0x1000));
    assert_eq!(pages(TOP - 5, 0), range(0xffff_ffff_ffff_f000, 0));
    assert_eq!(pages(0, TOP), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 10 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn questions_about_ranges_agree_with_wide_arithmetic(a: u64, b: u64, c: u64, d: u64, va: u64) {
        // Small numbers make the ranges meet.
        for bits in [0, 32, 60, 62] {
            let (a, b, c, d, va) = (a >> bits, b >> bits, c >> bits, d >> bits, va >> bits);
            for (c, d) in [(c, d), (c, 0), (0u64.wrapping_sub(c), 0u64.wrapping_sub(d))] {
                let (Some(x), Some(y)) = (range(a.min(b), a.max(b)), range(c, d)) else { continue };
                let ((xs, xe), (ys, ye)) = (model(x), model(y));
                prop_assert_eq!(u128::from(y.len()), ye - ys);
                let va = u128::from(va);
                prop_assert_eq!(y.contains(VirtAddr::new(va as u64)), ys <= va && va < ye);
                let (s, e) = (xs.max(ys), xe.min(ye));
                prop_assert_eq!(x.overlaps(y), s < e);
                prop_assert_eq!(x.intersection(y).map(model), (s < e).then_some((s, e)));
                if xs < xe && ys < ye {
                    prop_assert_eq!(x.contains_range(y), xs <= ys && ye <= xe);
                }
            }
        }
    }

    #[test]
    fn a_checked_range_has_the_length_asked_for(start: u64, len: u64) {
        match VaRange::from_len(VirtAddr::new(start), len) {
            Some(r) => prop_assert_eq!(r.len(), len),
            None => prop_assert!(u128::from(start) + u128::from(len) > 1 << 64),
        }
    }
}
