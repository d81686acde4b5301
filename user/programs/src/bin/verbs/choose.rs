//! Random arguments: mostly sensible, in few enough pages that ranges meet, and some of each kind of
//! wrong ones.

use crate::arena::{PAGES, START};
use programs::random::Random;
use programs::sys::{PAGE, map};

pub const GROWSDOWN: usize = 0x100;
pub const STACK: usize = 0x2_0000;
pub const NONBLOCK: usize = 0x1_0000;
pub const HUGETLB: usize = 0x4_0000;

/// Rights that both kernels give in full. Not among them: writing and executing at once, which
/// Tessera never lets the CPU do, and executing without reading, which depends on the CPU.
pub const PROTS: [usize; 10] = [
    map::RW,
    map::RW,
    map::RW,
    map::RW,
    map::RW,
    map::PROT_READ,
    map::PROT_READ,
    map::PROT_NONE,
    map::RX,
    map::PROT_WRITE,
];

pub struct Choose(Random);

impl Choose {
    pub const fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// One of these.
    pub const fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.index(all.len())]
    }

    /// True `share` times of 256.
    pub const fn chance(&mut self, share: u64) -> bool {
        self.0.chance(share)
    }

    pub const fn below(&mut self, bound: usize) -> usize {
        self.0.index(bound)
    }

    /// A page of the arena.
    pub const fn page(&mut self) -> usize {
        let dense = !self.0.chance(20);
        START + PAGE * self.0.index(if dense { 32 } else { PAGES })
    }

    /// Where a range begins: a page, or something odd that hurts nobody but the arena.
    pub const fn place(&mut self) -> usize {
        match self.0.below(64) {
            0 => 0,
            1 => PAGE * (1 + self.0.index(15)),
            2 => usize::MAX - (PAGE - 1) - self.0.index(64) * PAGE,
            3 => self.page() + 1 + self.0.index(PAGE - 1),
            _ => self.page(),
        }
    }

    /// As [`Self::place`], or a page behind a tag in the top byte.
    pub const fn tagged(&mut self) -> usize {
        match self.0.chance(6) {
            true => self.page() | (1 + self.0.index(255)) << 56,
            false => self.place(),
        }
    }

    /// A length of at most 24 pages.
    pub const fn short(&mut self) -> usize {
        let pages = match self.0.below(8) {
            0 => 1 + self.0.index(24),
            1 | 2 => 1 + self.0.index(8),
            _ => 1 + self.0.index(4),
        };
        match self.0.below(48) {
            0 => 0,
            1..4 => pages * PAGE - self.0.index(PAGE),
            _ => pages * PAGE,
        }
    }

    /// A length of at most 24 pages, or one that no kernel can meet.
    pub const fn len(&mut self) -> usize {
        match self.0.chance(6) {
            true => self.hopeless(),
            false => self.short(),
        }
    }

    /// A length for a new mapping: longer than those of other calls, so that these meet something.
    pub const fn mapping(&mut self) -> usize {
        match self.0.chance(6) {
            true => self.hopeless(),
            false => self.short() + self.0.index(12) * PAGE,
        }
    }

    /// A length beyond every address space.
    const fn hopeless(&mut self) -> usize {
        match self.0.below(3) {
            0 => usize::MAX - self.0.index(2 * PAGE),
            1 => 1 << 63,
            _ => 1 << 56,
        }
    }

    /// A length with which a range wraps around.
    pub const fn wrapping(&mut self) -> usize {
        match self.0.chance(6) {
            true => usize::MAX - self.0.index(4 * PAGE),
            false => self.short(),
        }
    }

    /// A position in a file.
    pub const fn offset(&mut self) -> usize {
        match self.0.below(24) {
            0 => usize::MAX - (PAGE - 1),
            1 => self.0.index(64 * PAGE),
            2..=9 => 0,
            _ => PAGE * self.0.index(32),
        }
    }

    pub const fn byte(&mut self) -> u8 {
        self.0.next_u64() as u8
    }
}
