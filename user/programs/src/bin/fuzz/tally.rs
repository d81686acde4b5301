//! What was called how often, and how often it worked: counters in memory that all processes share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use programs::require;
use programs::sys::{self, PAGE, map, nr};

/// Which of the two doors into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `svc #0`.
    Linux,
    /// `svc #1`.
    Native,
}

/// Numbers that are told apart at each door; what is above counts as the last.
const NUMBERS: usize = 512;
/// Processes that are watched.
const PROCESSES: usize = 8;

#[repr(C)]
#[derive(Debug)]
struct Counters {
    /// Calls, and of these what worked, for each number of each door.
    calls: [[[AtomicU64; 2]; NUMBERS]; 2],
    /// Calls of each process: a sign of life.
    beats: [AtomicU64; PROCESSES],
}

/// Size of the object that holds the counters.
pub const BYTES: usize = size_of::<Counters>().next_multiple_of(PAGE);

/// The counters, for one process.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    counters: &'static Counters,
    place: usize,
}

impl Tally {
    /// Maps them from the object that `handle` names, for the process in `place`, for good.
    pub fn map(handle: u64, place: usize) -> Self {
        let args = [0, BYTES, map::RW, map::SHARED, handle as usize, 0];
        // SAFETY: the kernel maps where nothing is yet.
        let at = unsafe { sys::syscall(nr::MMAP, args) };
        require!(
            !(-4095..0).contains(&at),
            "the counters: {}",
            sys::describe(at)
        );
        // SAFETY: it is mapped for good, large enough, aligned, and any bits are counters. Other
        // processes change it by atomic operations only.
        let counters = unsafe { &*core::ptr::with_exposed_provenance(at as usize) };
        Self { counters, place }
    }

    fn entry(self, door: Door, number: u64) -> &'static [AtomicU64; 2] {
        &self.counters.calls[door as usize][(number as usize).min(NUMBERS - 1)]
    }

    /// Counts a call before it is made: it may be the caller's last.
    pub fn call(self, door: Door, number: u64) {
        self.entry(door, number)[0].fetch_add(1, Relaxed);
        self.counters.beats[self.place].fetch_add(1, Relaxed);
    }

    /// How many calls the process in a place has made, and those that were there before it.
    pub fn beats(self, place: usize) -> u64 {
        self.counters.beats[place].load(Relaxed)
    }

    /// Counts that it worked.
    pub fn worked(self, door: Door, number: u64) {
        self.entry(door, number)[1].fetch_add(1, Relaxed);
    }

    /// How many calls of this number were made, and worked.
    pub fn of(self, door: Door, number: u64) -> [u64; 2] {
        self.entry(door, number)
            .each_ref()
            .map(|count| count.load(Relaxed))
    }

    /// How many calls of any number were made at a door, and worked.
    pub fn sum(self, door: Door) -> [u64; 2] {
        (0..NUMBERS as u64).fold([0; 2], |[made, worked], number| {
            let more = self.of(door, number);
            [made + more[0], worked + more[1]]
        })
    }

    /// How many calls were made.
    pub fn total(self) -> u64 {
        self.sum(Door::Linux)[0] + self.sum(Door::Native)[0]
    }
}
