//! Tag storage between data and tags under loom: the shipped words, pool and claims (law 13).
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p frame --release --test loom_tags`
#![cfg(loom)]

use arm64::addr::Pfn;
use frame::arena::tags::BLOCK;
use frame::{Frames, Reservation, Unreserved, arena};
use loom::thread;

/// Pages of an arena; the last is the block of storage for all others.
const PAGES: u64 = 4;

/// As in `loom.rs`: few switches, many steps. `check` gets the first page, whose tags are wanted.
fn model(check: impl Fn(&'static Frames, Pfn) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(move || {
        let frames = arena::frames_with_tag_storage(PAGES, 1);
        check(frames, arena::range(PAGES).start);
        assert_all_is_back(frames);
    });
}

/// Whatever happened, the storage is free for data in the end: all of it, and once.
fn assert_all_is_back(frames: &'static Frames) {
    let stats = frames.tag_stats();
    assert_eq!((stats.blocks, stats.tags, stats.data), (0, 0, 0));
    let data = frames.alloc_untaggable(false);
    let data = data.expect("storage was lost");
    assert!(frames.alloc_untaggable(false).is_err());
    assert_eq!(frames.tag_stats().data, 1);
    drop(data);
}

/// Storage for the tags of `page`, which are then used. In the wrong variant (`patient` is false) who
/// finds the block in other hands uses it all the same.
fn reserve(frames: &'static Frames, page: Pfn, patient: bool) -> Option<Reservation> {
    let reserved = match frames.reserve_tags(page, 1) {
        Ok(reserved) => Some(reserved),
        Err(Unreserved::Claimed(claim)) => claim.complete().ok().map(|block| {
            let reserved = frames.reserve_tags(page, 1);
            drop(block);
            reserved.ok().expect("the block was held")
        }),
        Err(Unreserved::Busy) => None,
        Err(Unreserved::Untaggable) => panic!("no region serves the page"),
    };
    if reserved.is_some() || !patient {
        BLOCK.read();
    }
    reserved
}

/// A page of data in the storage, if it is to be had, for as long as it takes to write it.
fn use_for_data(frames: &'static Frames) {
    if let Ok(data) = frames.alloc_untaggable(false) {
        BLOCK.write();
        drop(data);
    }
}

fn two_reserve(patient: bool) {
    model(move |frames, page| {
        let other = thread::spawn(move || reserve(frames, page.add(1), patient).is_some());
        let mine = reserve(frames, page, patient).is_some();
        let other = other.join().unwrap();
        assert!(mine || other, "each waits for the other");
    });
}

#[test]
fn storage_is_taken_by_one_and_shared_when_it_is_ready() {
    two_reserve(true);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_sees_storage_used_before_it_is_ready() {
    two_reserve(false);
}

/// Data that is freed while its frame is wanted for tags: the claim finds it free or there, and the
/// frame is lost for neither.
#[test]
fn data_is_freed_while_its_frame_is_taken() {
    model(|frames, page| {
        let data = frames.alloc_untaggable(false).expect("storage");
        let owner = thread::spawn(move || {
            BLOCK.write();
            drop(data);
        });
        drop(reserve(frames, page, true));
        owner.join().unwrap();
    });
}

/// Data that comes while the frame is wanted for tags: one of the two gets it.
#[test]
fn data_comes_while_its_frame_is_taken() {
    model(|frames, page| {
        let other = thread::spawn(move || use_for_data(frames));
        drop(reserve(frames, page, true));
        other.join().unwrap();
    });
}

/// Two that reserve, and one that frees the data in their way.
#[test]
fn two_reserve_while_data_is_freed() {
    model(|frames, page| {
        let data = frames.alloc_untaggable(false).expect("storage");
        let owner = thread::spawn(move || {
            BLOCK.write();
            drop(data);
        });
        let other = thread::spawn(move || drop(reserve(frames, page.add(1), true)));
        drop(reserve(frames, page, true));
        owner.join().unwrap();
        other.join().unwrap();
    });
}

/// The last reference goes while another page asks for one, and while somebody looks for memory.
#[test]
fn storage_goes_back_while_it_is_wanted() {
    model(|frames, page| {
        let reserved = reserve(frames, page, true).expect("nobody else is there");
        let other = thread::spawn(move || drop(reserve(frames, page.add(1), true)));
        let third = thread::spawn(move || use_for_data(frames));
        drop(reserved);
        other.join().unwrap();
        third.join().unwrap();
    });
}
