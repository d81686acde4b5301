//! A walk as the hardware makes it, over the arena's memory: plain reads, own decoding, no line of
//! the engine.

use arm64::addr::PhysAddr;
use arm64::geometry::Level;
use frame::Frames;
use sync::atomic::{AtomicU64, Ordering};

use crate::descriptor::{Desc, Leaf};

/// Memory with tables in it.
#[derive(Clone, Copy)]
pub struct Tables {
    frames: &'static Frames,
    lpa2: bool,
}

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Physical address of the entry.
    pub at: u64,
    /// Its level.
    pub level: Level,
    /// Its value.
    pub word: u64,
    /// What it says.
    pub desc: Desc,
}

impl Tables {
    /// The tables in the memory of `frames`.
    pub fn new(frames: &'static Frames, lpa2: bool) -> Self {
        Self { frames, lpa2 }
    }

    /// The entry at physical address `at`.
    pub(crate) fn entry(&self, at: u64) -> &'static AtomicU64 {
        let memory = self.frames.window().virt(PhysAddr::new(at));
        // SAFETY: law 8: `at` is an aligned entry of a table page of the arena, which is never
        // given back, and all who use tables use atomics.
        unsafe { memory.cast::<AtomicU64>().as_ref() }
    }

    /// Reads the entry at `at` of a table of `level`.
    pub fn read(&self, at: u64, level: Level) -> Found {
        let word = self.entry(at).load(Ordering::Acquire);
        let desc = Desc::new(word, level, self.lpa2);
        Found {
            at,
            level,
            word,
            desc,
        }
    }

    /// What the entry would map, if it keeps a frame although it is invalid.
    pub fn withheld(&self, found: &Found) -> Option<Leaf> {
        Desc::withheld(found.word, found.level, self.lpa2)
    }

    /// Where the walk of `va` from a root of `level` ends.
    pub fn walk(&self, root: PhysAddr, level: Level, va: u64) -> Found {
        let (mut table, mut level) = (root.raw(), level);
        loop {
            let index = va >> level.shift() & 511;
            let found = self.read(table + 8 * index, level);
            match (found.desc, level.finer()) {
                (Desc::Table(next), Some(finer)) => (table, level) = (next, finer),
                _ => return found,
            }
        }
    }

    /// The leaf that was found, with the access flag and dirty state that the hardware goes by: of
    /// a contiguous block, those of any of its entries.
    pub fn gathered(&self, found: &Found) -> Option<Leaf> {
        let mut leaf = found.desc.as_leaf()?;
        if leaf.contiguous {
            let first = found.at & !(16 * 8 - 1);
            for entry in 0..16 {
                if leaf.young && leaf.dirty {
                    break;
                }
                let other = self.read(first + 8 * entry, found.level).desc.as_leaf();
                leaf.young |= other.is_some_and(|other| other.young);
                leaf.dirty |= other.is_some_and(|other| other.dirty);
            }
        }
        Some(leaf)
    }

    /// Every entry that is not zero, of every table under the root: tables before what they hold.
    pub fn each(&self, root: PhysAddr, level: Level, see: &mut dyn FnMut(u64, Found)) {
        self.each_under(root.raw(), level, 0, see);
    }

    fn each_under(&self, table: u64, level: Level, va: u64, see: &mut dyn FnMut(u64, Found)) {
        let cells = self.frames.cells(PhysAddr::new(table).pfn());
        for index in 0..512 {
            // SAFETY: law 8: a table is a page of 512 entries, which only atomics touch.
            let cell = unsafe { cells.add(index as usize).as_ref() };
            if cell.load(Ordering::Acquire) == 0 {
                continue;
            }
            let found = self.read(table + 8 * index, level);
            let va = va + (index << level.shift());
            see(va, found);
            if let (Desc::Table(next), Some(finer)) = (found.desc, level.finer()) {
                self.each_under(next, finer, va, see);
            }
        }
    }
}
