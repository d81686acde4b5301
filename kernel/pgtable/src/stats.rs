//! Counters of table pages by level.

use arm64::geometry::Level;
use core::sync::atomic::Ordering;
use sync::atomic::AtomicU64;
use sync::const_fn;

/// Tables made and freed at one level, and how many of those made were boot tables taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelCounts {
    /// Constructed, adopted ones included.
    pub made: u64,
    /// Destructed.
    pub freed: u64,
    /// Boot tables constructed in place (CTOR-11).
    pub adopted: u64,
}

/// Table counters of one space or of the whole machine. Relaxed: exact once operations are over.
#[derive(Debug)]
pub struct TableStats {
    made: [AtomicU64; 5],
    freed: [AtomicU64; 5],
    adopted: [AtomicU64; 5],
}

const_fn! {
    const fn zeros() -> [AtomicU64; 5] {
        #[cfg(not(loom))]
        return [const { AtomicU64::new(0) }; 5];
        #[cfg(loom)]
        return core::array::from_fn(|_| AtomicU64::new(0));
    }
}

impl TableStats {
    const_fn! {
        /// All zero.
        pub const fn new() -> Self {
            Self { made: zeros(), freed: zeros(), adopted: zeros() }
        }
    }

    pub(crate) fn count_made(&self, level: Level) {
        self.made[level.position()].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_freed(&self, level: Level) {
        self.freed[level.position()].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_adopted(&self, level: Level) {
        self.adopted[level.position()].fetch_add(1, Ordering::Relaxed);
    }

    /// The counters of `level`.
    pub fn at(&self, level: Level) -> LevelCounts {
        let i = level.position();
        LevelCounts {
            made: self.made[i].load(Ordering::Relaxed),
            freed: self.freed[i].load(Ordering::Relaxed),
            adopted: self.adopted[i].load(Ordering::Relaxed),
        }
    }

    /// Tables alive: made less freed, all levels.
    pub fn live(&self) -> u64 {
        Level::ALL
            .iter()
            .map(|&l| self.at(l))
            .map(|c| c.made - c.freed)
            .sum()
    }
}

impl Default for TableStats {
    fn default() -> Self {
        Self::new()
    }
}
