//! The lock order of the kernel (DESIGN D15), as types, and the record that checks it.
//!
//! A CPU may take a lock only if its rank is greater than that of every lock it holds. Two locks of
//! one rank may be held together only when both were taken with an order key and the keys ascend
//! (`lock_nested`): two futex buckets or objects by address, tables by level and physical address.
//!
//! With debug assertions each CPU keeps a record of what it holds, and a wrong order panics at the
//! acquisition that could deadlock, on the first run that takes the path, whatever the other CPUs
//! do. Without them the record does not exist and costs nothing.

mod sealed {
    pub trait Sealed {}
}

/// A place in the lock order. Implemented by the types of this module only: the order is one list.
pub trait Rank: sealed::Sealed + 'static {
    /// Position in the order; greater is taken later.
    const LEVEL: u8;
    /// The rank's name in a report.
    const NAME: &'static str;
}

macro_rules! ranks {
    ($($level:literal $name:ident: $doc:literal)*) => {$(
        #[doc = $doc]
        #[derive(Debug)]
        pub enum $name {}
        impl sealed::Sealed for $name {}
        impl Rank for $name {
            const LEVEL: u8 = $level;
            const NAME: &'static str = stringify!($name);
        }
    )*

        /// The name of the rank at `level`.
        #[cfg(all(debug_assertions, not(loom)))]
        fn name_of(level: u8) -> &'static str {
            match level {
                $($level => stringify!($name),)*
                _ => "unknown",
            }
        }
    };
}

ranks! {
    1 MapOwner: "Short locks around the ownership of a map (the ownership itself is no spin lock)."
    2 Endpoint: "Endpoint and userfaultfd queues."
    3 FutexBucket: "Futex buckets; two by address."
    4 Object: "Memory objects; two by address."
    5 Table: "Page tables: parent before child, the same level by physical address."
    6 TagRegion: "Tag-storage bookkeeping."
    7 TableChunk: "The chunks that tables come from, and their protection."
    8 FrameList: "The free lists of the frame allocator."
    9 Slab: "Slab caches."
    10 RunQueue: "Run queues."
    11 Leaf: "VMA index, handle tables and everything else under which nothing but the next is taken."
    12 Rights: "Rights to receive, counted also where a handle is copied under the lock of its table."
    13 Console: "The console: messages are allowed under any other lock."
}

/// The key of a lock taken without one: no second lock of its rank may follow.
pub(crate) const NO_KEY: u64 = u64::MAX;

#[cfg(not(all(debug_assertions, not(loom))))]
mod record {
    use super::Rank;

    /// Without debug assertions nothing is recorded.
    pub(crate) struct Held;

    impl Held {
        #[inline(always)]
        pub(crate) fn ordered<R: Rank>(_key: u64) -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn tried<R: Rank>() -> Self {
            Self
        }
    }
}

#[cfg(all(debug_assertions, not(loom)))]
mod record {
    use super::{NO_KEY, Rank, name_of};
    use crate::{CachePadded, MAX_CPUS, cpu_index};
    use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

    /// More locks than this at once is a bug in itself: the order has thirteen ranks.
    const DEPTH: usize = 16;

    /// What one CPU holds. Only that CPU touches it; atomics make that safe to say in a static.
    struct Record {
        depth: AtomicUsize,
        levels: [AtomicU64; DEPTH],
        keys: [AtomicU64; DEPTH],
    }

    impl Record {
        const fn new() -> Self {
            Self {
                depth: AtomicUsize::new(0),
                levels: [const { AtomicU64::new(0) }; DEPTH],
                keys: [const { AtomicU64::new(0) }; DEPTH],
            }
        }

        fn entries(&self) -> impl DoubleEndedIterator<Item = (usize, u8, u64)> + '_ {
            (0..self.depth.load(Relaxed)).map(|i| {
                (
                    i,
                    self.levels[i].load(Relaxed) as u8,
                    self.keys[i].load(Relaxed),
                )
            })
        }

        fn check<R: Rank>(&self, key: u64) {
            for (_, level, held_key) in self.entries() {
                assert!(
                    level <= R::LEVEL,
                    "lock order (D15): {} wanted while {} is held",
                    R::NAME,
                    name_of(level),
                );
                assert!(
                    level < R::LEVEL || (held_key < key && key != NO_KEY),
                    "lock order (D15): second {} lock, key {key:#x} after {held_key:#x}",
                    R::NAME,
                );
            }
        }

        fn push(&self, level: u8, key: u64) {
            let depth = self.depth.load(Relaxed);
            assert!(depth < DEPTH, "a CPU holds {DEPTH} spin locks");
            self.levels[depth].store(level.into(), Relaxed);
            self.keys[depth].store(key, Relaxed);
            self.depth.store(depth + 1, Relaxed);
        }

        /// Guards may be dropped in any order, so the entry need not be the last.
        fn remove(&self, level: u8, key: u64) {
            let found = self
                .entries()
                .rev()
                .find(|&(_, l, k)| (l, k) == (level, key));
            let Some((at, ..)) = found else {
                panic!(
                    "lock order (D15): a {} lock released that this CPU does not hold",
                    name_of(level)
                );
            };
            let last = self.depth.load(Relaxed) - 1;
            for i in at..last {
                self.levels[i].store(self.levels[i + 1].load(Relaxed), Relaxed);
                self.keys[i].store(self.keys[i + 1].load(Relaxed), Relaxed);
            }
            self.depth.store(last, Relaxed);
        }
    }

    static RECORDS: [CachePadded<Record>; MAX_CPUS] =
        [const { CachePadded::new(Record::new()) }; MAX_CPUS];

    /// One entry in the record of the CPU that made it.
    pub(crate) struct Held {
        level: u8,
        key: u64,
    }

    impl Held {
        /// Checks the order, before the wait, then records.
        pub(crate) fn ordered<R: Rank>(key: u64) -> Self {
            RECORDS[cpu_index()].check::<R>(key);
            Self::record::<R>(key)
        }

        /// Records a lock got without waiting: that cannot deadlock, whatever is held.
        pub(crate) fn tried<R: Rank>() -> Self {
            Self::record::<R>(NO_KEY)
        }

        fn record<R: Rank>(key: u64) -> Self {
            RECORDS[cpu_index()].push(R::LEVEL, key);
            Self {
                level: R::LEVEL,
                key,
            }
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            RECORDS[cpu_index()].remove(self.level, self.key);
        }
    }
}

pub(crate) use record::Held;
