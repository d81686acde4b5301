//! The allocator against the simplest thing that could be right: one entry per frame.
//!
//! Random sequences of allocations, frees, clones and drains, over two banks with a hole between
//! them. After every step each record agrees with the model, and an allocation fails only if the
//! model has no such block either.
#![cfg(not(loom))]

use arm64::addr::Pfn;
use core::ops::Range;
use frame::{Class, Frames, FreshFrame, KernelFrame, MAX_ORDER, TableFrame, UserFrame, arena};
use proptest::prelude::*;

const PAGES: u64 = 300;
/// Odd edges on purpose.
const BANKS: [Range<u64>; 2] = [3..140, 161..299];

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
}

impl World {
    fn new() -> Self {
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
        Self {
            frames,
            held: Vec::new(),
            model,
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
        self.frames.drain_cpu_lists();
        self.compare();
        let fresh = Self::new();
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
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.compare();
        }
        world.end();
    }
}
