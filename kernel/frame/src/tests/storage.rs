//! Tag storage: blocks between data and tags.

use std::collections::BTreeMap;
use std::vec::Vec;

use arm64::addr::Pfn;
use proptest::prelude::*;

use crate::arena::{self, BASE, tags};
use crate::{
    BlockClaim, Class, Frames, FreshFrame, Reservation, TAG_BYTES, TagBacked, TagInit, Unreserved,
    UserFrame,
};

const PAGES: u64 = 1024;

fn claim(frames: &'static Frames, pfn: Pfn) -> BlockClaim {
    match frames.reserve_tags(pfn, 1) {
        Err(Unreserved::Claimed(claim)) => claim,
        Ok(_) => panic!("the block holds tags already"),
        Err(_) => panic!("the block is not to be had"),
    }
}

/// Storage for `count` pages from `first` on, where no data is in the way.
fn reserve(frames: &'static Frames, first: Pfn, count: u64) -> Reservation {
    let mut kept = Vec::new();
    loop {
        match frames.reserve_tags(first, count) {
            Ok(reservation) => return reservation,
            Err(Unreserved::Claimed(claim)) => kept.push(claim.complete().ok().expect("no data")),
            Err(_) => panic!("the block is not to be had"),
        }
    }
}

fn tagged(frames: &'static Frames) -> TagBacked<UserFrame> {
    let mut page = frames.alloc_for_tags(0).unwrap();
    let reserved = reserve(frames, page.pfn(), 1);
    page.zero_tagged_pages(0, 1);
    page.into_tagged(reserved).into_user()
}

#[test]
fn a_tag_page_serves_thirty_two_pages() {
    let frames = arena::frames_with_tag_storage(PAGES, 1);
    let pages: Vec<_> = (0..33).map(|_| tagged(frames)).collect();
    assert_eq!(frames.tag_stats().blocks, 2);
    assert_eq!(frames.tag_stats().tags, 2);
    drop(pages);
    assert_eq!((frames.tag_stats().blocks, frames.tag_stats().tags), (0, 0));
    frames.drain_cpu_lists();
    assert_eq!(frames.stats().unused(), PAGES);
}

#[test]
fn pages_with_tags_are_put_where_storage_is_reserved() {
    let frames = arena::frames_with_tag_storage(PAGES, 1);
    let (mut kept, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..64 {
        kept.push(tagged(frames));
        plain.push(frames.alloc_fresh(0, false).unwrap());
    }
    assert_eq!(frames.tag_stats().blocks_peak, 2);
}

#[test]
fn a_folio_refers_to_its_storage_once_for_each_page() {
    let frames = arena::frames_with_tag_storage(PAGES, 1);
    let mut folio = frames.alloc_for_tags(4).unwrap();
    let reserved = reserve(frames, folio.pfn(), 16);
    folio.zero_tagged_pages(0, 16);
    let folio = folio.into_tagged(reserved).into_user().into_inner();
    assert_eq!(frames.tag_stats().blocks, 1);
    let (one, other) = (folio.page(3), folio.page(15));
    drop(folio);
    assert!(one.is_tagged() && other.is_tagged());
    drop(one);
    assert_eq!(frames.tag_stats().blocks, 1);
    drop(other);
    assert_eq!(frames.tag_stats().blocks, 0);
}

#[test]
fn a_block_with_data_cannot_be_completed_until_the_data_is_gone() {
    let frames = arena::frames_with_tag_storage(PAGES, 2);
    let data: Vec<_> = (0..32)
        .map(|_| frames.alloc_untaggable(true).unwrap())
        .collect();
    assert!(frames.alloc_untaggable(false).is_err(), "there is no more");
    let claim = claim(frames, BASE.pfn());
    assert_eq!(claim.data().count(), 2);
    let claim = claim.complete().err().expect("data is in it");
    let (held, rest): (Vec<_>, Vec<_>) = data
        .into_iter()
        .partition(|page| claim.data().any(|pfn| pfn == page.pfn()));
    drop(held);
    // What was freed is not given to anybody else.
    assert!(frames.alloc_untaggable(false).is_err());
    let block = claim.complete().ok().expect("empty by now");
    assert_eq!((frames.tag_stats().tags, frames.tag_stats().data), (2, 30));
    drop(block);
    assert!(frames.alloc_untaggable(false).is_ok());
    drop(rest);
    assert_eq!(frames.stats().unused(), PAGES);
}

#[test]
fn a_claim_that_is_given_up_leaves_data_as_it_is() {
    let frames = arena::frames_with_tag_storage(PAGES, 4);
    let data: Vec<_> = (0..3)
        .map(|_| frames.alloc_untaggable(true).unwrap())
        .collect();
    let claim = claim(frames, BASE.pfn());
    assert!(matches!(
        frames.reserve_tags(BASE.pfn(), 1),
        Err(Unreserved::Busy)
    ));
    drop(claim.complete().err().expect("data is in it"));
    let stats = frames.tag_stats();
    assert_eq!((stats.tags, stats.data, stats.blocks), (0, 3, 0));
    drop(data);
    assert_eq!(frames.stats().unused(), PAGES);
}

#[test]
fn storage_has_no_tags_itself() {
    let frames = arena::frames_with_tag_storage(PAGES, 1);
    let page = frames.alloc_untaggable(true).unwrap();
    assert_eq!(frames.meta(page.pfn()).unwrap().class(), Class::Untaggable);
    assert!(matches!(
        frames.reserve_tags(page.pfn(), 1),
        Err(Unreserved::Untaggable)
    ));
    let user = page.into_user();
    assert_eq!(
        user.peek_tags(),
        [0; TAG_BYTES],
        "nobody else's are shown (TAG-30)"
    );
    assert_eq!(frames.tag_stats().blocks, 0);
}

#[test]
fn without_regions_every_page_has_storage() {
    let frames = arena::frames(64);
    let page = tagged(frames);
    assert_eq!(page.frame().peek_tags(), [0; TAG_BYTES]);
    assert_eq!(frames.tag_stats(), crate::TagStats::default());
}

/// TAG-07: one of two who want a page's tags makes them; nobody clears what the program has written.
#[test]
fn tags_are_made_once() {
    let frames = arena::frames_with_tag_storage(PAGES, 1);
    let page = frames.alloc_fresh(0, true).unwrap().into_user();
    let TagInit::Ours(ours) = page.init_tags() else {
        panic!("nobody else has it")
    };
    assert!(matches!(page.init_tags(), TagInit::Busy));
    assert!(
        !page.is_tagged(),
        "published before they are written (TAG-27)"
    );
    let proof = ours.clear(reserve(frames, page.pfn(), 1));
    assert_eq!(proof.frame().peek_tags(), [0; TAG_BYTES]);
    assert!(matches!(page.init_tags(), TagInit::Done(_)));
}

/// TAG-26: tags that were put aside with a page come back with it.
#[test]
fn parked_tags_are_restored() {
    let frames = arena::frames_with_tag_storage(PAGES, 1);
    let page = frames.alloc_fresh(0, true).unwrap().into_user();
    let mut parked = [0; TAG_BYTES];
    parked
        .iter_mut()
        .enumerate()
        .for_each(|(i, byte)| *byte = i as u8);
    let TagInit::Ours(ours) = page.init_tags() else {
        panic!("nobody else has it")
    };
    drop(ours.restore(&parked, reserve(frames, page.pfn(), 1)));
    assert_eq!(page.peek_tags(), parked);
    let mut copy = frames.alloc_for_tags(0).unwrap();
    let reserved = reserve(frames, copy.pfn(), 1);
    copy.copy_tagged_page(0, &page);
    assert_eq!(
        copy.into_tagged(reserved).into_user().frame().peek_tags(),
        parked
    );
}

#[test]
fn a_page_given_up_while_its_tags_are_made_has_none() {
    let frames = arena::frames_with_tag_storage(PAGES, 1);
    let page = frames.alloc_fresh(0, true).unwrap().into_user();
    match page.init_tags() {
        TagInit::Ours(ours) => drop(ours),
        _ => panic!("nobody else has it"),
    }
    assert!(matches!(page.init_tags(), TagInit::Ours(_)));
    drop(page);
    assert_eq!(frames.tag_stats().blocks, 0);
}

#[test]
fn comparing_ends_at_the_first_granule_that_differs() {
    let frames = arena::frames(64);
    let page = tagged(frames).into_inner();
    assert_eq!(page.match_tags(5, 4000, 0), 4000);
    assert_eq!(page.match_tags(5, 4000, 1), 0);
    let _stale = tags::STALE;
    let plain = frames.alloc_fresh(0, true).unwrap().into_user();
    assert_eq!(plain.match_tags(0, 100, 5), 16, "0xa5: 5, then 10");
    assert_eq!(plain.match_tags(20, 100, 10), 12);
}

#[derive(Clone, Debug)]
enum Op {
    Tag,
    TagFolio,
    Untag(usize),
    Data,
    DropData(usize),
    Plain,
    DropPlain(usize),
    Claim(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Tag),
        1 => Just(Op::TagFolio),
        3 => any::<usize>().prop_map(Op::Untag),
        3 => Just(Op::Data),
        2 => any::<usize>().prop_map(Op::DropData),
        1 => Just(Op::Plain),
        1 => any::<usize>().prop_map(Op::DropPlain),
        2 => (0..PAGES).prop_map(Op::Claim),
    ]
}

/// What a test holds, against which the allocator is judged.
#[derive(Default)]
struct Held {
    tagged: Vec<UserFrame>,
    data: Vec<FreshFrame>,
    plain: Vec<FreshFrame>,
}

impl Held {
    fn blocks(&self, block_pages: u64) -> BTreeMap<u64, u64> {
        let mut blocks = BTreeMap::new();
        for page in &self.tagged {
            let into = page.pfn().raw() - BASE.pfn().raw();
            *blocks.entry(into / 32 / block_pages).or_insert(0) += 1;
        }
        blocks
    }
}

/// Empties the block by dropping what the test holds of it.
fn empty(claim: &BlockClaim, held: &mut Held) {
    let wanted: Vec<_> = claim.data().collect();
    held.data.retain(|page| !wanted.contains(&page.pfn()));
}

fn storage_for(
    frames: &'static Frames,
    first: Pfn,
    count: u64,
    held: &mut Held,
) -> Option<Reservation> {
    let mut kept = Vec::new();
    loop {
        match frames.reserve_tags(first, count) {
            Ok(reservation) => return Some(reservation),
            Err(Unreserved::Claimed(claim)) => {
                empty(&claim, held);
                kept.push(claim.complete().ok().expect("its data is gone"));
            }
            Err(Unreserved::Untaggable) => return None,
            Err(Unreserved::Busy) => panic!("nobody else is there"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 64 }, ..ProptestConfig::default() })]

    /// Law 13 for every history: no block is data and tags, and everything comes back.
    #[test]
    fn storage_is_data_or_tags(
        ops in proptest::collection::vec(op(), 0..300),
        block_pages in prop_oneof![Just(1u32), Just(2), Just(4)],
    ) {
        let frames = arena::frames_with_tag_storage(PAGES, block_pages);
        let mut held = Held::default();
        for op in ops {
            match op {
                Op::Tag | Op::TagFolio => {
                    let order = if matches!(op, Op::Tag) { 0 } else { 4 };
                    let Ok(mut block) = frames.alloc_for_tags(order) else { continue };
                    let (first, count) = (block.pfn(), 1u64 << order);
                    let Some(reserved) = storage_for(frames, first, count, &mut held) else { continue };
                    block.zero_tagged_pages(0, count as usize);
                    let user = block.into_tagged(reserved).into_user().into_inner();
                    let pages = (1..count).map(|page| user.page(page));
                    held.tagged.extend(pages.collect::<Vec<_>>());
                    held.tagged.push(user);
                }
                Op::Untag(at) if !held.tagged.is_empty() => {
                    let at = at % held.tagged.len();
                    // A folio goes as a whole.
                    let block = held.tagged[at].block();
                    held.tagged.retain(|page| page.block() != block);
                }
                Op::Data => held.data.extend(frames.alloc_untaggable(true).ok()),
                Op::DropData(at) if !held.data.is_empty() => {
                    let at = at % held.data.len();
                    drop(held.data.swap_remove(at));
                }
                Op::Plain => held.plain.extend(frames.alloc_fresh(0, false).ok()),
                Op::DropPlain(at) if !held.plain.is_empty() => {
                    let at = at % held.plain.len();
                    drop(held.plain.swap_remove(at));
                }
                Op::Claim(page) => match frames.reserve_tags(BASE.pfn().add(page), 1) {
                    Err(Unreserved::Claimed(claim)) => {
                        let data = claim.data().count();
                        prop_assert_eq!(claim.complete().is_ok(), data == 0);
                    }
                    Ok(reservation) => drop(reservation),
                    Err(_) => {}
                },
                _ => {}
            }
            let (stats, blocks) = (frames.tag_stats(), held.blocks(block_pages.into()));
            prop_assert_eq!(stats.blocks, blocks.len() as u64);
            prop_assert_eq!(stats.tags, blocks.len() as u64 * u64::from(block_pages));
            prop_assert_eq!(stats.data, held.data.len() as u64);
            for page in &held.data {
                prop_assert_eq!(frames.meta(page.pfn()).unwrap().class(), Class::Untaggable);
            }
        }
        drop(held);
        let stats = frames.tag_stats();
        prop_assert_eq!((stats.blocks, stats.tags, stats.data), (0, 0, 0));
        prop_assert_eq!(frames.stats().unused(), PAGES);
    }
}
