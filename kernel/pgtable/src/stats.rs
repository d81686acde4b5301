//! Counters of table pages by level, and of what happened to entries.

use arm64::geometry::Level;
use core::sync::atomic::Ordering;
use sync::atomic::AtomicU64;

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

macro_rules! by_level {
    () => {
        [
            AtomicU64::new(0),
            AtomicU64::new(0),
            AtomicU64::new(0),
            AtomicU64::new(0),
            AtomicU64::new(0),
        ]
    };
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $count:ident),+ $(,)?) => {
        /// What happened to the entries of a space, or of all spaces that have ended.
        #[derive(Debug)]
        pub struct Events { $($(#[$doc])* pub $name: AtomicU64,)+ }

        impl Events {
            sync::const_fn! {
                const fn new() -> Self {
                    Self { $($name: AtomicU64::new(0),)+ }
                }
            }

            /// Calls `see` with the name and value of each counter.
            pub fn each(&self, mut see: impl FnMut(&'static str, u64)) {
                $(see(stringify!($name), self.$name.load(Ordering::Relaxed));)+
            }

            /// As [`Self::each`], with what `more` has counted added.
            pub fn each_with(&self, more: Option<&Self>, mut see: impl FnMut(&'static str, u64)) {
                $(
                    let further = more.map_or(0, |more| more.$name.load(Ordering::Relaxed));
                    see(stringify!($name), self.$name.load(Ordering::Relaxed) + further);
                )+
            }

            /// Adds what `other` has counted.
            pub(crate) fn absorb(&self, other: &Self) {
                $(self.$name.fetch_add(other.$name.load(Ordering::Relaxed), Ordering::Relaxed);)+
            }
        }

        impl TableStats {
            $(#[inline]
            pub(crate) fn $count(&self) {
                self.events.$name.fetch_add(1, Ordering::Relaxed);
            })+
        }
    };
}

events! {
    /// Contiguous blocks made, by folding or by mapping a folio at once.
    folds = count_fold,
    /// Contiguous blocks taken apart because a part of them changed.
    unfolds = count_unfold,
    /// Blocks of level 1 or 2 replaced by a table.
    splits = count_split,
    /// Tables replaced by a block.
    collapses = count_collapse,
    /// Empty tables unlinked while the space lived on.
    reclaimed = count_reclaimed,
    /// Marks of userfaultfd and poison that outlived the entries they stood in.
    marks_kept = count_mark_kept,
    /// Levels added above a root.
    levels_grown = count_grown,
    /// Invalidations of ranges.
    flushes_range = count_flush_range,
    /// Invalidations of a whole identifier.
    flushes_asid = count_flush_asid,
}

/// Table counters of one space or of the whole machine. Relaxed: exact once operations are over.
#[derive(Debug)]
pub struct TableStats {
    made: [AtomicU64; 5],
    freed: [AtomicU64; 5],
    adopted: [AtomicU64; 5],
    events: Events,
}

impl TableStats {
    sync::const_fn! {
        /// All zero.
        pub const fn new() -> Self {
            Self {
                made: by_level!(),
                freed: by_level!(),
                adopted: by_level!(),
                events: Events::new(),
            }
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

    pub(crate) fn count_flush(&self, whole: bool) {
        match whole {
            true => self.count_flush_asid(),
            false => self.count_flush_range(),
        }
    }

    /// What happened to entries. For a machine: in spaces that have ended.
    pub fn events(&self) -> &Events {
        &self.events
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
