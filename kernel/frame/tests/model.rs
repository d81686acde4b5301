//! The allocator against the simplest thing that could be right: one entry per frame.
//!
//! Random sequences of allocations, frees, clones and drains, over two banks with a hole between
//! them. After every step each record agrees with the model, and an allocation fails only if the
//! model has no such block either. Once with tables from anywhere, once with tables from chunks.
#![cfg(not(loom))]

use arm64::addr::Pfn;
use core::ops::Range;
use frame::{
    Class, Frames, FreshFrame, KernelFrame, MAX_ORDER, PageOps, TableChunks, TableFrame, UserFrame,
    arena,
};
use proptest::prelude::*;

const PAGES: u64 = 300;
/// Odd edges on purpose.
const BANKS: [Range<u64>; 2] = [3..140, 161..299];
/// Chunks of eight frames, so that they come and go.
const CHUNK: u8 = 3;

std::thread_local! {
    /// First frames of the blocks that have begun to hold tables and have not ended.
    static CHUNKS: std::cell::RefCell<Vec<Pfn>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn begin(first: Pfn) -> bool {
    CHUNKS.with_borrow_mut(|chunks| {
        assert!(first.is_aligned(1 << CHUNK) && !chunks.contains(&first));
        chunks.push(first);
    });
    true
}

fn end(first: Pfn) {
    CHUNKS.with_borrow_mut(|chunks| {
        let at = chunks.iter().position(|&chunk| chunk == first);
        chunks.swap_remove(at.expect("a chunk ended twice"));
    });
}

const RULES: TableChunks = TableChunks {
    order: CHUNK,
    begin,
    end,
    zero_page: PageOps::PORTABLE.zero_page,
};

#[derive(Clone, Debug)]
enum Step {
    Fresh(u8),
    User(u8),
    Table,
    Kernel(u8),
    Clone(usize),
    Free(usize),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    let order = || prop_oneof![6 => Just(0u8), 3 => 1..4u8, 1 => 4..=MAX_ORDER];
    prop_oneof![
        3 => order().prop_map(Step::Fresh),
        3 => order().prop_map(Step::User),
        3 => Just(Step::Table),
        2 => order().prop_map(Step::Kernel),
        2 => any::<usize>().prop_map(Step::Clone),
        10 => any::<usize>().prop_map(Step::Free),
        1 => Just(Step::Drain),
    ]
}

enum Held {
    Fresh(FreshFrame),
    User(UserFrame),
    Table(TableFrame),
    Kernel(KernelFrame),
}

impl Held {
    fn block(&self) -> (Pfn, u8, Class) {
        match self {
            Self::Fresh(f) => (f.pfn(), f.order(), Class::User),
            Self::User(f) => (f.pfn(), f.order(), Class::User),
            Self::Table(f) => (f.pfn(), 0, Class::Table),
            Self::Kernel(f) => (f.pfn(), f.order(), Class::Stack),
        }
    }
}

struct World {
    frames: &'static Frames,
    held: Vec<Held>,
    /// The class of each frame of the arena; `None` in the holes.
    model: Vec<Option<Class>>,
    /// Whether tables come from chunks.
    chunks: bool,
}

impl World {
    fn new(chunks: bool) -> Self {
        let frames = arena::offline(PAGES);
        let mut model = vec![None; PAGES as usize];
        for bank in BANKS {
            let base = arena::BASE.pfn();
            let range = base.add(bank.start)..base.add(bank.end);
            // SAFETY: an arena's records exist, and nothing uses its memory.
            unsafe {
                frames.add_bank(range.clone()).unwrap();
                frames.release(range);
            }
            model[bank.start as usize..bank.end as usize].fill(Some(Class::Free));
        }
        if chunks {
            CHUNKS.take();
            frames.set_aside_tables(RULES);
        }
        Self {
            frames,
            held: Vec::new(),
            model,
            chunks,
        }
    }

    fn span(pfn: Pfn, order: u8) -> Range<usize> {
        let first = (pfn.raw() - arena::BASE.pfn().raw()) as usize;
        first..first + (1 << order)
    }

    fn has_free_block(&self, order: u8) -> bool {
        // The arena's base is aligned to the largest block.
        let mut blocks = self.model.chunks_exact(1 << order);
        blocks.any(|block| block.iter().all(|class| *class == Some(Class::Free)))
    }

    /// Brings the model's spare frames up to date: those of the chunks that there are.
    fn follow_chunks(&mut self) {
        let was = |class: &Option<Class>| *class == Some(Class::Spare);
        let old: Vec<usize> = (0..self.model.len())
            .filter(|&at| was(&self.model[at]))
            .collect();
        for at in old {
            self.model[at] = Some(Class::Free);
        }
        CHUNKS.with_borrow(|chunks| {
            assert_eq!(self.frames.chunks(), chunks.len() as u64);
            for &first in chunks {
                for slot in &mut self.model[Self::span(first, CHUNK)] {
                    match *slot {
                        Some(Class::Table) => {}
                        Some(Class::Free) => *slot = Some(Class::Spare),
                        other => panic!("{other:?} in a chunk"),
                    }
                }
            }
        });
    }

    /// A table comes out of a chunk whatever that chunk was made of, or there is no chunk to have.
    fn enter_table(&mut self) {
        let spare = self.model.contains(&Some(Class::Spare));
        let Ok(table) = self.frames.alloc_table() else {
            assert!(!spare, "refused though a frame is spare");
            assert!(
                !self.has_free_block(CHUNK),
                "refused though a chunk is free"
            );
            return;
        };
        // SAFETY: the table is this test's, and nothing else touches its page meanwhile.
        let bytes = unsafe { core::slice::from_raw_parts_mut(table.bytes().as_ptr(), 4096) };
        assert!(bytes.iter().all(|&byte| byte == 0), "a table is not clear");
        bytes.fill(0xa5);
        let slot = &mut self.model[Self::span(table.pfn(), 0)][0];
        assert!(matches!(slot, Some(Class::Free | Class::Spare)));
        *slot = Some(Class::Table);
        self.held.push(Held::Table(table));
    }

    fn enter<T>(&mut self, order: u8, got: Result<T, frame::OutOfMemory>, held: fn(T) -> Held) {
        let Ok(frame) = got else {
            assert!(
                !self.has_free_block(order),
                "order {order} refused though a block is free"
            );
            return;
        };
        let held = held(frame);
        let (pfn, order, class) = held.block();
        assert!(pfn.is_aligned(1 << order));
        for slot in &mut self.model[Self::span(pfn, order)] {
            assert_eq!(*slot, Some(Class::Free), "{pfn:?} handed out twice");
            *slot = Some(class);
        }
        self.held.push(held);
    }

    fn free(&mut self, which: usize) {
        if self.held.is_empty() {
            return;
        }
        let gone = self.held.swap_remove(which % self.held.len());
        let (pfn, order, _) = gone.block();
        let shared = self.held.iter().any(|other| other.block().0 == pfn);
        if !shared {
            self.model[Self::span(pfn, order)].fill(Some(Class::Free));
        }
        match gone {
            Held::Table(table) => self.frames.free_table(table),
            other => drop(other),
        }
    }

    fn clone_user(&mut self, which: usize) {
        let users: Vec<_> = self
            .held
            .iter()
            .filter(|h| matches!(h, Held::User(_)))
            .collect();
        if let Some(Held::User(user)) = users.get(which % users.len().max(1)) {
            let copy = user.clone();
            self.held.push(Held::User(copy));
        }
    }

    fn take(&mut self, step: Step) {
        let frames = self.frames;
        match step {
            Step::Fresh(order) => self.enter(order, frames.alloc_fresh(order, false), Held::Fresh),
            Step::User(order) => {
                let user = frames.alloc_fresh(order, false).map(FreshFrame::into_user);
                self.enter(order, user, Held::User);
            }
            Step::Table if self.chunks => self.enter_table(),
            Step::Table => self.enter(0, frames.alloc_table(), Held::Table),
            Step::Kernel(order) => {
                self.enter(
                    order,
                    frames.alloc_kernel(order, Class::Stack),
                    Held::Kernel,
                );
            }
            Step::Clone(which) => self.clone_user(which),
            Step::Free(which) => self.free(which),
            Step::Drain => frames.drain_cpu_lists(),
        }
        if self.chunks {
            self.follow_chunks();
        }
    }

    fn compare(&self) {
        let stats = self.frames.stats();
        for class in Class::ALL {
            let expected = self
                .model
                .iter()
                .filter(|slot| **slot == Some(class))
                .count();
            assert_eq!(stats.of(class), expected as u64, "{}", class.name());
        }
        for (offset, expected) in (0..).zip(&self.model) {
            let found = self.frames.meta(arena::BASE.pfn().add(offset));
            assert_eq!(found.map(|meta| meta.class()), *expected, "frame {offset}");
        }
    }

    /// With everything freed and drained, memory is the fewest aligned blocks that cover it.
    fn end(mut self) {
        while !self.held.is_empty() {
            self.free(0);
        }
        if self.chunks {
            // The one chunk that is kept for the next table goes back when memory is short.
            assert!(self.frames.chunks() <= 1);
            assert!(self.frames.alloc_kernel(MAX_ORDER, Class::Stack).is_err());
            assert_eq!(self.frames.chunks(), 0);
            self.follow_chunks();
        }
        self.frames.drain_cpu_lists();
        self.compare();
        let fresh = Self::new(false);
        assert_eq!(
            self.frames.stats().free_blocks,
            fresh.frames.stats().free_blocks
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 96 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_allocator_agrees_with_one_entry_per_frame(
        steps in proptest::collection::vec(step(), 1..if cfg!(miri) { 30 } else { 400 })
    ) {
        let mut world = World::new(false);
        for step in steps {
            world.take(step);
            world.compare();
        }
        world.end();
    }

    #[test]
    fn with_chunks_it_does_so_too(
        steps in proptest::collection::vec(step(), 1..if cfg!(miri) { 30 } else { 400 })
    ) {
        let mut world = World::new(true);
        for step in steps {
            world.take(step);
            world.compare();
        }
        world.end();
    }
}
