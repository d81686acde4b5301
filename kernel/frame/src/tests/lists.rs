//! The per-CPU lists: exact counts, draining, several CPUs at once.

use crate::percpu::{BATCH, CAPACITY};
use crate::{Class, Frames, arena};
use arm64::addr::Pfn;
use std::sync::Barrier;
use std::vec::Vec;

#[test]
fn frames_in_a_cpu_list_are_counted_as_free() {
    let frames = arena::frames(256);
    let one = frames.alloc_fresh(0, false).unwrap();
    let stats = frames.stats();
    assert_eq!(
        (stats.free, stats.of(Class::Free), stats.of(Class::User)),
        (255, 255, 1)
    );
    let in_lists: u64 = stats
        .free_blocks
        .iter()
        .zip(0..)
        .map(|(blocks, order)| blocks << order)
        .sum();
    assert_eq!(255 - in_lists, BATCH as u64 - 1);
    drop(one);
    assert_eq!(frames.stats().free, 256);
    frames.drain_cpu_lists();
    assert_eq!(
        frames.stats().free_blocks[8],
        1,
        "everything has joined again"
    );
}

#[test]
fn single_frames_ascend_within_a_batch() {
    let frames = arena::frames(256);
    let batch: Vec<_> = (0..BATCH)
        .map(|_| frames.alloc_fresh(0, false).unwrap())
        .collect();
    assert!(
        batch
            .windows(2)
            .all(|pair| pair[1].pfn() == pair[0].pfn().add(1))
    );
}

#[test]
fn a_long_list_spills_and_nothing_is_lost() {
    let frames = arena::frames(1024);
    let all: Vec<_> = (0..1024)
        .map(|_| frames.alloc_fresh(0, false).unwrap())
        .collect();
    assert!(frames.alloc_fresh(0, false).is_err());
    assert_eq!(frames.stats().free, 0);
    drop(all);
    let stats = frames.stats();
    assert_eq!(stats.free, 1024);
    let in_buddy: u64 = stats
        .free_blocks
        .iter()
        .zip(0..)
        .map(|(blocks, order)| blocks << order)
        .sum();
    assert!(1024 - in_buddy <= CAPACITY as u64);
    assert_eq!((stats.allocs, stats.frees), (1024, 1024));
}

#[test]
fn a_large_block_is_made_from_this_cpus_list_if_need_be() {
    let frames = arena::frames(32);
    drop(frames.alloc_fresh(0, false).unwrap());
    assert_eq!(
        frames.stats().free_blocks,
        [0; 11],
        "all 32 are in the list"
    );
    let whole = frames.alloc_fresh(5, false).unwrap();
    assert_eq!(whole.pfn(), arena::BASE.pfn());
}

#[test]
fn an_allocation_failure_fetches_the_frames_of_other_cpus_when_they_answer() {
    let frames = arena::frames(32);
    let (taken, failed, answered) = (Barrier::new(2), Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            drop(frames.alloc_fresh(0, false).unwrap());
            frames.answer_drain();
            assert_eq!(frames.stats().free_blocks, [0; 11], "nobody has asked yet");
            taken.wait();
            failed.wait();
            frames.answer_drain();
            answered.wait();
        });
        taken.wait();
        assert!(frames.alloc_fresh(0, false).is_err());
        assert_eq!(frames.drain_wanted().count_ones(), 1);
        failed.wait();
        answered.wait();
        assert_eq!(frames.drain_wanted(), 0);
        assert!(frames.alloc_fresh(0, false).is_ok());
    });
}

/// Allocates and frees at random, writing a mark of its own into every frame it holds.
fn churn(frames: &'static Frames, seed: u64, rounds: u32) {
    let mut state = seed | 1;
    let mut held = Vec::new();
    for _ in 0..rounds {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let choice = (state >> 33) as usize;
        if choice % 5 < 3 && held.len() < 80 {
            let order = [0, 0, 0, 1, 3][choice / 5 % 5];
            if let Ok(mut frame) = frames.alloc_fresh(order, false) {
                frame.bytes_mut()[..8].copy_from_slice(&state.to_le_bytes());
                held.push((frame, state));
            }
        } else if !held.is_empty() {
            let (mut frame, mark) = held.swap_remove(choice % held.len());
            assert_eq!(
                frame.bytes_mut()[..8],
                mark.to_le_bytes(),
                "two holders of one frame"
            );
        }
    }
}

#[test]
fn no_frame_has_two_holders_on_four_cpus_and_the_counts_are_exact_afterwards() {
    let frames = arena::frames(512);
    let rounds = if cfg!(miri) { 60 } else { 50_000 };
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            scope.spawn(move || {
                churn(frames, seed * 0x9e37_79b9, rounds);
                frames.drain_cpu_lists();
            });
        }
    });
    let stats = frames.stats();
    assert_eq!((stats.free, stats.free_blocks[9]), (512, 1), "{stats:?}");
    assert_eq!(stats.allocs, stats.frees);
    assert_eq!(stats.by_class.iter().sum::<u64>(), stats.of(Class::Free));
}

#[test]
fn references_are_dropped_on_any_cpu() {
    // Large enough for what the lists of all those CPUs may keep.
    let (rounds, pages) = if cfg!(miri) {
        (10, 1024)
    } else {
        (2_000, 8192)
    };
    let frames = arena::frames(pages);
    for _ in 0..rounds {
        let frame = frames.alloc_fresh(0, false).unwrap().into_user();
        let (other, pfn) = (frame.clone(), frame.pfn());
        std::thread::scope(|scope| {
            scope.spawn(move || drop(other));
            scope.spawn(move || drop(frames.try_pin_user(pfn)));
            drop(frame);
        });
        assert_eq!(frames.stats().of(Class::User), 0);
    }
    assert_eq!(frames.stats().free, pages);
}

/// How many times a frame is no neighbour of the one before.
fn breaks(frames: &[Pfn]) -> usize {
    let is_break = |pair: &&[Pfn]| pair[0].raw().abs_diff(pair[1].raw()) != 1;
    frames.windows(2).filter(is_break).count()
}

#[test]
fn what_is_freed_together_comes_again_together() {
    let frames = arena::frames(8192);
    for _ in 0..4 {
        let take = || frames.alloc_fresh(0, false).unwrap().into_user();
        let held: Vec<_> = (0..4096).map(|_| take().into_entry()).collect();
        assert!(breaks(&held) < 64, "{} breaks", breaks(&held));
        for some in held.chunks(80) {
            // SAFETY: these references were given up for entries that there are not.
            unsafe { frames.drop_all_entries(some.iter().map(|pfn| (*pfn, 1))) };
        }
    }
    frames.drain_cpu_lists();
    assert_eq!(frames.stats().free_blocks[10], 8, "all has joined again");
}

#[test]
fn of_many_references_to_one_frame_the_last_frees_it() {
    let frames = arena::frames(256);
    let frame = frames.alloc_fresh(0, false).unwrap().into_user();
    let kept = frame.clone();
    let pfn = frame.into_entry();
    // SAFETY: the reference was given up for an entry that there is not.
    unsafe { frames.drop_all_entries([(pfn, 1)].into_iter()) };
    assert_eq!((kept.references(), frames.stats().free), (1, 255));
    drop(kept);
    let stats = frames.stats();
    assert_eq!((stats.free, stats.allocs, stats.frees), (256, 1, 1));
}
