//! Which unknown system calls a process made, by number, in constant time.

use frame::slab::{Cache, Ref};
use sync::atomic::{AtomicU32, Ordering};

use crate::errno::Errno;
use crate::memory;

/// Numbers below this have a counter of their own: all that Linux has given out for arm64.
const NUMBERS: usize = 480;

static COUNTS: Cache<CallCounts> = Cache::new("call counts");

/// Prepares the cache, once, at boot.
pub(super) fn init() {
    COUNTS.init(memory::frames());
}

/// New counters.
pub(super) fn counts() -> Result<Ref<CallCounts>, Errno> {
    let counts = CallCounts {
        by_number: [const { AtomicU32::new(0) }; NUMBERS],
        beyond: AtomicU32::new(0),
        beyond_first: AtomicU32::new(0),
    };
    COUNTS.alloc_ref(counts).map_err(|_| Errno::ENOMEM)
}

/// Counters of one process.
#[derive(Debug)]
pub struct CallCounts {
    by_number: [AtomicU32; NUMBERS],
    beyond: AtomicU32,
    beyond_first: AtomicU32,
}

impl CallCounts {
    /// Counts a call. Numbers beyond the table are counted together, under the first of them.
    #[inline]
    pub fn count(&self, number: u32) {
        match self.by_number.get(number as usize) {
            Some(counter) => counter.fetch_add(1, Ordering::Relaxed),
            None => {
                if self.beyond.load(Ordering::Relaxed) == 0 {
                    self.beyond_first.store(number, Ordering::Relaxed);
                }
                self.beyond.fetch_add(1, Ordering::Relaxed)
            }
        };
    }

    /// Calls `see` with each number that was used and how often.
    pub fn each(&self, mut see: impl FnMut(u32, u32)) {
        let beyond = (self.beyond_first.load(Ordering::Relaxed), &self.beyond);
        let numbered = self
            .by_number
            .iter()
            .enumerate()
            .map(|(number, count)| (number as u32, count));
        for (number, count) in numbered.chain([beyond]) {
            match count.load(Ordering::Relaxed) {
                0 => {}
                count => see(number, count),
            }
        }
    }

    /// All unknown calls.
    pub fn total(&self) -> u64 {
        let mut total = 0;
        self.each(|_, count| total += u64::from(count));
        total
    }
}
