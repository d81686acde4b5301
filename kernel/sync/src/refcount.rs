//! A reference count that can be taken without already holding a reference, and that cannot wrap.

use crate::atomic::{AtomicU32, Ordering, fence};
use crate::const_fn;

/// Counts beyond this are stuck: the object is never freed. Programs can make many references to
/// one frame (the zero page); a leak is harmless where a wrapped count would free a frame in use.
const LIMIT: u32 = 1 << 31;
const STUCK: u32 = LIMIT + (LIMIT >> 1);

/// A count of references; 0 means that nobody holds one and none can be got.
///
/// The protocol of a lockless walk (DESIGN §4): [`try_get`](Self::try_get) fails on 0, so a frame
/// that is free, or not published yet, cannot be revived by a walker that read a stale entry.
#[repr(transparent)]
pub struct RefCount {
    count: AtomicU32,
}

impl RefCount {
    const_fn! {
        /// A count that starts at `count`.
        pub const fn new(count: u32) -> Self {
            Self { count: AtomicU32::new(count) }
        }
    }

    /// The count at this moment.
    pub fn get(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Makes the first reference. What was written to the object before is visible to whoever
    /// gets a reference by [`try_get`](Self::try_get).
    ///
    /// # Panics
    /// If references exist: the object would have two first owners.
    #[inline]
    pub fn publish(&self) {
        self.publish_many(1);
    }

    /// As [`Self::publish`], for `count` first references.
    ///
    /// # Panics
    /// As there.
    #[inline]
    pub fn publish_many(&self, count: u32) {
        assert_eq!(self.count.load(Ordering::Relaxed), 0, "published twice");
        self.count.store(count, Ordering::Release);
    }

    /// One more reference, by a holder of one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// `more` references, by a holder of one.
    #[inline]
    pub fn add(&self, more: u32) {
        // Relaxed: the new references derive from one that already keeps the object alive.
        let old = self.count.fetch_add(more, Ordering::Relaxed);
        if old >= LIMIT {
            self.count.store(STUCK, Ordering::Relaxed);
        }
        debug_assert_ne!(old, 0, "reference taken from a dead object");
    }

    /// One more reference, unless there is none, or the count is stuck.
    #[inline]
    pub fn try_get(&self) -> bool {
        let mut old = self.count.load(Ordering::Relaxed);
        while old != 0 && old < LIMIT {
            match self.count.compare_exchange_weak(
                old,
                old + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => old = now,
            }
        }
        false
    }

    /// Gives one reference back. True for the last one: the caller then owns the object alone, and
    /// everything other holders did to it has happened before.
    ///
    /// # Panics
    /// If there was no reference to give back.
    #[inline]
    #[must_use = "the last holder has to free the object"]
    pub fn dec(&self) -> bool {
        self.sub(1)
    }

    /// Gives `less` references back at once, as [`Self::dec`].
    ///
    /// # Panics
    /// If there were not as many.
    #[inline]
    #[must_use = "the last holder has to free the object"]
    pub fn sub(&self, less: u32) -> bool {
        let old = self.count.fetch_sub(less, Ordering::Release);
        if old == less {
            fence(Ordering::Acquire);
            return true;
        }
        if old >= LIMIT {
            self.count.store(STUCK, Ordering::Relaxed);
        }
        assert!(old > less, "more references given back than taken");
        false
    }

    /// Ends `count` references, which the caller stands for, if there are no others: whether it did.
    /// None can be got any more then, and the caller owns the object alone. Who gets one
    /// after the object was published again finds whatever the caller had done before.
    #[inline]
    #[must_use = "without it others hold the object too"]
    pub fn end(&self, count: u32) -> bool {
        // An exchange, not a load: a walker that takes a reference either comes before it, and is
        // counted, or after it, and finds the entry gone that it came by.
        self.count
            .compare_exchange(count, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

impl core::fmt::Debug for RefCount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.get())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_reference_reports_the_end() {
        let count = RefCount::new(0);
        assert!(!count.try_get(), "an unpublished object gave a reference");
        count.publish();
        count.inc();
        assert!(count.try_get());
        assert!(!count.dec());
        assert!(!count.dec());
        assert!(count.dec());
        assert!(!count.try_get(), "a dead object gave a reference");
    }

    #[test]
    fn a_count_at_its_limit_sticks_instead_of_wrapping() {
        let count = RefCount::new(LIMIT);
        assert!(!count.try_get());
        count.inc();
        for _ in 0..10 {
            assert!(!count.dec());
        }
        assert_eq!(count.get(), STUCK);
    }

    #[test]
    fn many_references_come_and_go_at_once() {
        let count = RefCount::new(0);
        count.publish();
        count.add(15);
        assert!(!count.sub(7));
        assert!(count.sub(9));
        assert!(!count.try_get());
    }

    #[test]
    fn all_references_end_at_once_or_none() {
        let count = RefCount::new(0);
        count.publish_many(16);
        assert!(count.try_get());
        assert!(!count.end(16), "somebody else holds one");
        assert!(!count.dec());
        assert!(count.end(16));
        assert!(!count.try_get(), "a reference to what has one owner");
        count.publish();
        assert!(count.dec());
    }

    #[test]
    #[should_panic(expected = "more references given back than taken")]
    fn giving_back_too_much_is_caught() {
        let _ = RefCount::new(0).dec();
    }
}
