//! Work items: bounded state machines run on the way out of the kernel and while idle (D3).
//!
//! Each CPU has a short queue of its own. An item is taken out, does one bounded step with nothing
//! locked, and goes back if it is not finished. There are few kinds and few at a time, so a full
//! queue does the step at once instead of failing.

use frame::slab::Ref;
use sync::atomic::{AtomicUsize, Ordering};
use sync::{CachePadded, MAX_CPUS, SpinLock, cpu_index, rank};

use crate::arch::mmu::hw;
use crate::memory;
use crate::process::Process;
use crate::report::ending::Ending;
use crate::sched::cpu::Cpu;

/// Items that wait on one CPU.
const QUEUE: usize = 8;
/// Tables that one pass destructs.
const REAP: usize = 8;
/// Pages of objects that have ended that one run frees.
const REAP_PAGES: u32 = 64;

/// What a step of an item came to.
#[derive(Debug)]
#[must_use]
pub enum Progress {
    /// It can go on at once.
    More(Work),
    /// It waits for time to pass or for another CPU.
    Later(Work),
    /// It is finished.
    Done,
}

/// One item.
#[derive(Debug)]
pub enum Work {
    /// Wake the threads of an ending process.
    WakeToDie {
        /// The process.
        process: Ref<Process>,
        /// Threads that have not been looked at.
        left: usize,
    },
    /// Wake the threads that wait for a process's map.
    WakeParked(Ref<Process>),
    /// Take an ended process apart and report.
    End(Ending),
}

impl Work {
    /// See [`Work::WakeToDie`].
    pub fn wake_to_die(process: Ref<Process>, left: usize) -> Self {
        Self::WakeToDie { process, left }
    }

    /// See [`Work::End`].
    pub fn end_of(process: Ref<Process>) -> Self {
        Self::End(Ending::new(process))
    }

    fn step(self) -> Progress {
        match self {
            Self::WakeToDie { process, left } => match process.wake_to_die(left) {
                0 => Progress::Done,
                left => Progress::More(Self::WakeToDie { process, left }),
            },
            Self::WakeParked(process) => match process.wake_some_parked() {
                true => Progress::More(Self::WakeParked(process)),
                false => Progress::Done,
            },
            Self::End(ending) => ending.step(),
        }
    }
}

struct Items {
    slots: SpinLock<[Option<Work>; QUEUE], rank::Leaf>,
    count: AtomicUsize,
}

impl Items {
    const fn new() -> Self {
        Self {
            slots: SpinLock::new([const { None }; QUEUE]),
            count: AtomicUsize::new(0),
        }
    }
}

/// Only its own CPU uses an entry.
static ITEMS: [CachePadded<Items>; MAX_CPUS] = [const { CachePadded::new(Items::new()) }; MAX_CPUS];

fn mine() -> &'static Items {
    &ITEMS[cpu_index()]
}

/// Adds an item to this CPU's queue.
pub fn add(item: Work) {
    crate::sched::this().attend();
    if let Some(mut item) = put(item) {
        // No room: nothing is held here, so it is carried to its end at once.
        while let Progress::More(next) | Progress::Later(next) = item.step() {
            item = next;
        }
    }
}

/// Adds an item; it comes back if there is no room.
fn put(item: Work) -> Option<Work> {
    let items = mine();
    let mut slots = items.slots.lock();
    match slots.iter_mut().find(|slot| slot.is_none()) {
        Some(slot) => {
            *slot = Some(item);
            items.count.fetch_add(1, Ordering::Relaxed);
            None
        }
        None => Some(item),
    }
}

fn take(index: usize) -> Option<Work> {
    let items = mine();
    let item = items.slots.lock()[index].take()?;
    items.count.fetch_sub(1, Ordering::Relaxed);
    Some(item)
}

/// Whether this CPU has work, tables wait for their grace period or objects for their end, so that
/// a timer has to stay armed.
pub fn is_pending() -> bool {
    mine().count.load(Ordering::Relaxed) != 0
        || !memory::graveyard().is_empty()
        || !memory::context().objects().is_reaped()
}

/// Has what is pending attended to before EL0 is entered: something has left work behind, tables or
/// an object, and nothing else would.
#[inline(always)]
pub fn attend_to_pending() {
    if is_pending() {
        crate::sched::this().attend();
    }
}

/// Runs one step of each of this CPU's items, and frees tables whose grace period is over and pages
/// of objects that have ended.
pub fn run(cpu: &'static Cpu) {
    memory::frames().answer_drain();
    if !memory::graveyard().is_empty() && memory::graveyard().reap(hw(), REAP) == REAP {
        cpu.attend();
    }
    if memory::context().objects().reap(REAP_PAGES) {
        cpu.attend();
    }
    if mine().count.load(Ordering::Relaxed) == 0 {
        return;
    }
    for index in 0..QUEUE {
        let Some(item) = take(index) else { continue };
        match item.step() {
            Progress::Done => {}
            Progress::More(item) => {
                cpu.attend();
                add(item);
            }
            Progress::Later(item) => put_back(item),
        }
    }
}

/// As [`add`], without asking for attention: the timer comes back to it.
fn put_back(item: Work) {
    if let Some(item) = put(item) {
        add(item);
    }
}
