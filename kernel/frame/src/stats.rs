//! What can be counted, and what can go wrong.

use crate::buddy::ORDERS;
use crate::meta::{CLASSES, Class};
use core::fmt;

/// No frame (or no block of the order asked for) is free.
///
/// Frames in the lists of *other* CPUs are not looked at; those CPUs have been asked to give them
/// back ([`Frames::answer_drain`](crate::Frames::answer_drain)), so a second attempt after they
/// have left the kernel once may succeed (DESIGN D3: out-of-memory is declared only after a forced
/// grace period).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

impl core::error::Error for OutOfMemory {}

/// A count of all frames. Exact while no other CPU allocates or frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameStats {
    /// Frames in all banks.
    pub total: u64,
    /// Free frames, those in the per-CPU lists included.
    pub free: u64,
    /// Frames of each class; the sum is `total`.
    pub by_class: [u64; CLASSES],
    /// Free blocks of each order in the buddy lists.
    pub free_blocks: [u64; ORDERS],
    /// Blocks allocated so far.
    pub allocs: u64,
    /// Blocks freed so far.
    pub frees: u64,
}

impl FrameStats {
    /// Frames that nobody uses: the free ones, those that only tables can get, and tag storage that
    /// holds nothing.
    pub fn unused(&self) -> u64 {
        self.free + self.of(Class::Spare) + self.of(Class::TagFree)
    }

    /// Frames of `class`.
    pub fn of(&self, class: Class) -> u64 {
        self.by_class[class as usize]
    }
}
