//! Who pays for the pages of objects.
//!
//! Pages of an object may be there without being mapped anywhere: what is written through a
//! descriptor, what was mapped once. So that a limit on memory is one, they are counted for whoever
//! made the object, wherever they are mapped and by whoever they were put in, until they are
//! freed.

use sync::atomic::{AtomicU64, Ordering};
use sync::planted::{self, Fault};

/// Pages that objects have, and how many they may have.
#[derive(Debug)]
pub struct Account {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Account {
    /// None yet, and no limit.
    pub(super) fn new() -> Self {
        Self {
            used: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
        }
    }

    /// Pages that there are.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Sets how many there may be; what is there stays.
    pub fn set_limit(&self, pages: u64) {
        self.limit.store(pages, Ordering::Relaxed);
    }

    /// How many more there may be. Who puts pages in asks before, so CPUs that ask at the same
    /// moment may exceed the limit, each by the pages that it puts in at once.
    pub(super) fn left(&self) -> u64 {
        let limit = self.limit.load(Ordering::Relaxed);
        limit.saturating_sub(self.used())
    }

    pub(super) fn add(&self, pages: u64) {
        if !planted::is(Fault::ChargeNothing) {
            self.used.fetch_add(pages, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&self, pages: u64) {
        if !planted::is(Fault::ChargeNothing) {
            self.used.fetch_sub(pages, Ordering::Relaxed);
        }
    }
}
