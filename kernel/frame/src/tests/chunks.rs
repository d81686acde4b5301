//! Chunks of tables: adopted ones, refused ones, and what is said of them.

use crate::{ChunkError, Class, Frames, PageOps, TableChunks, TableFrame, arena};
use arm64::addr::Pfn;
use std::sync::Barrier;
use std::vec::Vec;

const RULES: TableChunks = TableChunks {
    order: 3,
    begin: |_| true,
    end: |_| {},
    zero_page: PageOps::PORTABLE.zero_page,
};
const FIRST: Pfn = arena::BASE.pfn();

fn chunked(pages: u64) -> &'static Frames {
    let frames = arena::frames(pages);
    frames.set_aside_tables(RULES);
    frames
}

fn tables(frames: &'static Frames, count: usize) -> Vec<TableFrame> {
    (0..count).map(|_| frames.alloc_table().unwrap()).collect()
}

#[test]
fn tables_share_chunks_and_nothing_else_does() {
    let frames = chunked(32);
    let held = tables(frames, 9);
    assert!(
        held.windows(2)
            .take(7)
            .all(|pair| pair[1].pfn() == pair[0].pfn().add(1))
    );
    assert_eq!(frames.chunks(), 2);
    let stats = frames.stats();
    assert_eq!((stats.of(Class::Table), stats.of(Class::Spare)), (9, 7));
    assert_eq!((stats.free, stats.unused()), (16, 23));
    let others: Vec<_> = core::iter::from_fn(|| frames.alloc_fresh(0, false).ok()).collect();
    assert_eq!(others.len(), 16, "spare frames are for tables only");
    held.into_iter().for_each(|table| frames.free_table(table));
    assert_eq!(frames.stats().unused(), 16);
}

#[test]
fn one_chunk_is_kept_until_memory_is_short() {
    let frames = chunked(32);
    let held = tables(frames, 24);
    held.into_iter().for_each(|table| frames.free_table(table));
    assert_eq!(frames.chunks(), 1);
    let table = frames.alloc_table().unwrap();
    assert_eq!(frames.chunks(), 1, "the kept one is used first");
    frames.free_table(table);
    let all: Vec<_> = core::iter::from_fn(|| frames.alloc_fresh(0, false).ok()).collect();
    assert_eq!((all.len(), frames.chunks()), (32, 0));
    assert!(frames.alloc_table().is_err());
}

#[test]
fn without_a_whole_chunk_there_is_no_table() {
    let frames = chunked(16);
    let mut all: Vec<_> = (0..16)
        .map(|_| frames.alloc_fresh(0, false).unwrap())
        .collect();
    all.remove(12);
    all.remove(3);
    frames.drain_cpu_lists();
    assert_eq!(frames.stats().free, 2);
    assert!(frames.alloc_table().is_err());
    all.truncate(7);
    assert!(frames.alloc_table().is_ok_and(|table| {
        frames.free_table(table);
        true
    }));
}

#[test]
fn a_refused_block_stays_free() {
    let frames = arena::frames(32);
    frames.set_aside_tables(TableChunks {
        begin: |_| false,
        ..RULES
    });
    assert!(frames.alloc_table().is_err());
    let stats = frames.stats();
    assert_eq!(
        (stats.free, stats.free_blocks[5], frames.chunks()),
        (32, 1, 0)
    );
}

#[test]
fn a_block_with_adopted_tables_is_a_chunk_that_never_ends() {
    let frames = arena::offline(32);
    // SAFETY: an arena's records exist, and nothing uses its memory.
    unsafe {
        frames.add_bank(arena::range(32)).unwrap();
        frames.release(FIRST.add(8)..FIRST.add(32));
    }
    frames.set_class(FIRST..FIRST.add(8), Class::Image);
    let boot: Vec<_> = [0, 1]
        // SAFETY: a page of the arena stands for a table here.
        .map(|n| unsafe { frames.adopt_table(FIRST.add(n)) })
        .map(TableFrame::into_entry)
        .into();
    // SAFETY: nobody uses the arena's memory.
    let adopt = |first| unsafe { frames.adopt_chunk(first) };
    assert_eq!(adopt(FIRST), Err(ChunkError::NoChunks));
    frames.set_aside_tables(RULES);
    assert_eq!(adopt(FIRST.add(4)), Err(ChunkError::BadBlock));
    assert_eq!(adopt(FIRST.add(32)), Err(ChunkError::BadBlock));
    assert_eq!(adopt(FIRST), Ok(()));
    let count = |class| frames.stats().of(class);
    let now = [Class::Image, Class::Table, Class::Spare].map(count);
    assert_eq!((now, frames.stats().free), ([0, 2, 6], 24));
    let held = tables(frames, 7);
    assert_eq!(held[0].pfn(), boot[1].add(1));
    assert_eq!((frames.chunks(), count(Class::Spare)), (2, 7));
    held.into_iter().for_each(|table| frames.free_table(table));
    assert_eq!((frames.chunks(), count(Class::Spare)), (2, 14));
    assert_eq!(frames.meta(FIRST).unwrap().class(), Class::Table);
}

#[test]
#[should_panic(expected = "allocated outside of chunks")]
fn chunks_come_before_the_first_table() {
    let frames = arena::frames(32);
    let _kept = frames.alloc_table().unwrap().into_entry();
    frames.set_aside_tables(RULES);
}

#[test]
#[should_panic(expected = "a frame freed as a table")]
fn a_table_freed_twice_is_found_out() {
    let frames = chunked(32);
    let table = frames.alloc_table().unwrap();
    let pfn = table.pfn();
    frames.free_table(table);
    frames.give_back_spare(&RULES, pfn);
}

#[test]
fn no_table_has_two_holders_on_four_cpus() {
    let frames = chunked(512);
    let rounds = if cfg!(miri) { 20 } else { 5_000 };
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for seed in 1..=4u64 {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                let mut held = Vec::new();
                for round in 0..rounds {
                    let wanted = (round as u64 * seed * 7919) % 40;
                    while (held.len() as u64) < wanted {
                        let mut table = frames.alloc_table().unwrap();
                        table.set_owner(seed as u32, crate::SpaceKind::User);
                        held.push(table);
                    }
                    held.drain(wanted as usize..).for_each(|table| {
                        assert_eq!(table.meta().owner(), seed as u32);
                        frames.free_table(table);
                    });
                }
                held.into_iter().for_each(|table| frames.free_table(table));
            });
        }
    });
    let stats = frames.stats();
    assert_eq!((stats.unused(), stats.of(Class::Table)), (512, 0));
    assert!(frames.chunks() <= 1);
    assert_eq!(stats.of(Class::Spare), 8 * frames.chunks());
}
